"""Settings of files that are not in force."""

from __future__ import annotations

import pytest

from harness.core.errors import ImageError
from harness.examine import settings
from harness.examine.settings import FileState, StateReading, Texts

IDS = ("0123", "4-5", "6.12")


def texts(files: dict[str, str]) -> Texts:
    return Texts(files={path: text.splitlines() for path, text in files.items()}, ids=IDS)


def found(of: Texts, **state: object) -> list[tuple[str, str]]:
    judged = list(settings.judge(of, StateReading(**state)))  # type: ignore[arg-type]  # as above
    assert {one.id for one in judged} <= {"setting-not-in-force"}
    return [(one.path, one.what) for one in judged]


def test_files_are_read_and_a_masked_one_has_no_lines() -> None:
    read = settings.parse_texts(
        {
            "settings": "look\n/usr/lib/sysctl.d/10.conf:kernel.a = 1\n/usr/lib/sysctl.d/20.conf:kernel.b = 1",
            "files of settings": "look\n/etc/sysctl.d/20.conf\n/usr/lib/sysctl.d/10.conf\n/usr/lib/sysctl.d/20.conf",
            "ids": "0123\n4-5\n6.12",
        }
    )

    assert read.effective("sysctl.d") == ["/usr/lib/sysctl.d/10.conf", "/etc/sysctl.d/20.conf"]
    assert list(read.rows("sysctl.d")) == [("/usr/lib/sysctl.d/10.conf", "kernel.a = 1")]
    with pytest.raises(ImageError, match="settings"):
        settings.parse_texts({"settings": "sorry", "files of settings": "look", "ids": "0"})


SYSCTL = texts(
    {
        "/usr/lib/sysctl.d/10.conf": "kernel.a = 1\nnet.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n"
        "-kernel.none = 1",
        "/etc/sysctl.d/20.conf": "# ours\nkernel.a = 0x10\nnet/ipv4/conf/ens3.7/forwarding = 1\nkernel.b = 1  2",
    }
)
IN_FORCE = {
    "/proc/sys/kernel/a": "16",
    "/proc/sys/kernel/b": "1 2",
    "/proc/sys/net/ipv4/conf/all/rp_filter": "0",
    "/proc/sys/net/ipv4/conf/ens3/rp_filter": "2",
    "/proc/sys/net/ipv4/conf/ens3.7/forwarding": "1",
}


def test_values_in_force_are_in_order() -> None:
    assert found(SYSCTL, values=IN_FORCE) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("kernel/a", "1"), ("net/ipv4/conf/ens3/rp_filter", "0"), ("net/ipv4/conf/ens3.7/forwarding", "0")],
    ids=["overruled", "pattern", "slashes"],
)
def test_another_value_is_found(key: str, value: str) -> None:
    ((path, what),) = found(SYSCTL, values={**IN_FORCE, f"/proc/sys/{key}": value})

    assert path == f"sysctl:{key.replace('/', '.')}"
    assert f"it is {value}" in what


def test_a_setting_that_the_kernel_lacks_is_found() -> None:
    without = {path: value for path, value in IN_FORCE.items() if not path.endswith("/b")}

    assert [path for path, _ in found(SYSCTL, values=without)] == ["sysctl:kernel.b"]


def test_a_module_that_is_not_loaded_is_found() -> None:
    files = texts({"/etc/modules-load.d/ours.conf": "br_netfilter\nvhost-net"})

    assert found(files, modules=frozenset({"br_netfilter", "vhost_net"})) == []
    assert [what for _, what in found(files, modules=frozenset({"vhost_net"}))] == [
        "the module br_netfilter is not loaded"
    ]


TMPFILES = texts(
    {
        "/usr/lib/tmpfiles.d/a.conf": "d /run/a 0750 root adm 10d\nL /etc/b - - - - /run/b\n"
        "f+ /run/%m 0600 - - - text\n"
        "x /tmp/keep",
        "/usr/lib/tmpfiles.d/b.conf": "z /run/a 0770 - -\nd /run/*/x\nd /run/%i\nr! /run/gone\nf+! /run/nologin 0644\n"
        "f^ /etc/hosts - - - - network.hosts\nd- /root 0700\nd$ /run/b 0755",
    }
)
MADE = {
    "/run/a": FileState(kind="directory", mode=0o770, user="root", group="adm"),
    "/etc/b": FileState(kind="regular file", mode=0o644, user="root", group="root"),
    "/run/b": FileState(kind="directory", mode=0o755, user="root", group="root"),
    "/run/0123": FileState(kind="regular file", mode=0o600, user="root", group="root"),
}


def test_paths_that_were_made_are_in_order() -> None:
    assert found(TMPFILES, files=MADE) == []


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("/run/a", None),
        ("/run/a", FileState(kind="directory", mode=0o777, user="root", group="adm")),
        ("/run/a", FileState(kind="directory", mode=0o770, user="root", group="root")),
        ("/run/a", FileState(kind="regular file", mode=0o770, user="root", group="adm")),
        ("/run/0123", None),
    ],
    ids=["missing", "mode", "group", "kind", "specifier"],
)
def test_a_path_that_is_not_as_made_is_found(path: str, state: FileState | None) -> None:
    files = {name: one for name, one in {**MADE, path: state}.items() if one is not None}

    assert [where for where, _ in found(TMPFILES, files=files)] == [path]


WRITTEN = texts(
    {
        "/usr/lib/tmpfiles.d/a.conf": "w /sys/kernel/mm/transparent_hugepage/enabled - - - - always\n"
        "w+ /sys/x - - - - 1",
        "/etc/tmpfiles.d/b.conf": "w! /sys/kernel/mm/*/enabled - - - - never\nw /run/x - - - - 1",
    }
)


def test_values_that_tmpfiles_writes_are_compared_and_the_last_line_counts() -> None:
    path = "/sys/kernel/mm/transparent_hugepage/enabled"

    assert found(WRITTEN, values={path: "always madvise [never]"}) == []
    ((where, what),) = found(WRITTEN, values={path: "[always] madvise never"})
    assert (where, "to never" in what) == (path, True)
    assert [what.split(",")[0] for _, what in found(WRITTEN)] == ["there is no such file"] * 2
    (probe,) = settings.state_probes(WRITTEN)
    assert probe.command.count("/sys/kernel/mm/") == 2


def test_only_what_is_set_is_asked() -> None:
    names = {probe.name: probe.command for probe in settings.state_probes(SYSCTL)}

    assert set(names) == {"values of sysctl"}
    assert "/proc/sys/net/ipv4/conf/*/rp_filter" in names["values of sysctl"]
    assert settings.state_probes(Texts()) == []


def test_the_state_is_read() -> None:
    read = settings.parse_state(
        {
            "values of sysctl": "look\n/proc/sys/kernel/a:1\t2",
            "modules of the kernel": "look\nbr_netfilter 36864 0 - Live 0x0\nkernel/drivers/vhost/vhost-net.ko",
            "files of tmpfiles.d": "look\ndirectory|1777|root|root|/tmp/a|b",
        }
    )

    assert read.values == {"/proc/sys/kernel/a": "1 2"}
    assert read.modules == {"br_netfilter", "vhost_net"}
    assert read.files == {"/tmp/a|b": FileState(kind="directory", mode=0o1777, user="root", group="root")}
