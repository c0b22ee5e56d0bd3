"""A build uses the files of a definition with the same modes and line ends, whatever the checkout's are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build import chroot
from harness.build.sources import sources_over
from harness.core.errors import HostError, UsageError
from harness.core.namespaces import prefix
from harness.model.definition import ImageDefinition, load_definition, sources_digest

IMAGES = Path(__file__).parents[3] / "images"


@pytest.fixture
def definition(tmp_path: Path) -> ImageDefinition:
    """A copy of base and the roles, which a test may change."""
    shutil.copytree(IMAGES / "base", tmp_path / "images" / "base", symlinks=True)
    shutil.copytree(IMAGES / "roles", tmp_path / "images" / "roles", symlinks=True)
    return load_definition(tmp_path / "images" / "base")


@pytest.fixture
def umask_077() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def modes(definition: ImageDefinition, tmp_path: Path) -> str:
    """The modes of all files as a build step sees them."""
    log = tmp_path / "log"
    listing = ["sh", "-c", 'cd "$1" && find . -printf "%m %p\\n" | sort -k 2; umask', "sh", str(definition.roles)]
    try:
        prefix()
    except HostError as error:
        pytest.skip(str(error))
    chroot.run(sources_over(definition, tmp_path / "sources", listing), log=log)
    return log.read_text("utf-8")


@pytest.mark.usefixtures("umask_077")
def test_a_checkout_under_umask_077_builds_the_same_image(definition: ImageDefinition, tmp_path: Path) -> None:
    before = sources_digest(definition)
    for path in definition.folder.parent.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)

    lines = modes(definition, tmp_path).splitlines()

    assert sources_digest(definition) == before
    assert lines[0] == "755 ."
    assert "644 ./base/files/usr/lib/systemd/network/60-dhcp.network" in lines
    assert "755 ./persist/files/usr/lib/persist/persist" in lines
    assert {line.partition(" ")[0] for line in lines[:-1]} == {"644", "755"}
    assert lines[-1] == "0022"


def test_a_script_with_line_ends_of_windows_is_refused_in_one_sentence(
    definition: ImageDefinition, tmp_path: Path
) -> None:
    script = definition.roles / "persist/files/usr/lib/persist/make-links"
    script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))

    with pytest.raises(UsageError, match=r"make-links has the line ends of Windows .*; set core\.autocrlf"):
        sources_over(definition, tmp_path / "sources", ["true"])


def test_a_checkout_of_windows_is_refused_and_a_single_file_of_windows_is_not(
    definition: ImageDefinition, tmp_path: Path
) -> None:
    configuration, description = definition.roles / "live/files/live.conf", definition.folder / "image.toml"
    configuration.write_bytes(configuration.read_bytes().replace(b"\n", b"\r\n"))
    assert sources_over(definition, tmp_path / "sources", ["true"])[-1] == "true"

    description.write_bytes(description.read_bytes().replace(b"\n", b"\r\n"))
    assert load_definition(definition.folder) == definition
    with pytest.raises(UsageError, match=r"live\.conf has the line ends of Windows"):
        sources_over(definition, tmp_path / "again", ["true"])
