"""The file of hosts: what is read, what is refused, and how ssh(1) is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.pool.hosts import PoolHost, read_hosts


def write(folder: Path, text: str) -> Path:
    file = folder / "hosts.txt"
    file.write_text(text, "utf-8")
    return file


def test_a_line_is_a_host_with_a_user_a_port_and_options_of_ssh(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "# the lab\nroot@h1.example:2222 -i '/a key' -o StrictHostKeyChecking=no  # ours\n\nh2\n[fd00::2]:22\n",
    )

    hosts = read_hosts(file)

    assert hosts == (
        PoolHost(
            name="root@h1.example:2222",
            destination="root@h1.example",
            port=2222,
            options=("-i", "/a key", "-o", "StrictHostKeyChecking=no"),
        ),
        PoolHost(name="h2", destination="h2"),
        PoolHost(name="[fd00::2]:22", destination="fd00::2", port=22),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "names no host"),
        ("# nobody\n", "names no host"),
        ("h1\nh2\nh1 -i key\n", "line 3: h1 is named twice"),
        ("h1:port\n", "line 1: h1:port is not a host"),
        ("h1:70000\n", "is not a host"),
        ("-oProxyCommand=evil\n", "is not a host"),
        ("root@\n", "is not a host"),
        ("h1 -i 'key\n", "line 1: No closing quotation"),
    ],
)
def test_another_line_is_an_error_that_names_it(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_hosts(write(tmp_path, text))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"hosts\.txt cannot be read"):
        read_hosts(tmp_path / "hosts.txt")


def test_the_options_of_a_host_come_before_our_own_because_ssh_takes_the_first() -> None:
    host = PoolHost(name="h", destination="root@h", port=22, options=("-o", "ConnectTimeout=60"))

    words = host.ssh("bootproof pool-host")

    assert words.index("ConnectTimeout=60") < words.index("ConnectTimeout=10")
    assert words[-5:] == ["-p", "22", "--", "root@h", "bootproof pool-host"]
