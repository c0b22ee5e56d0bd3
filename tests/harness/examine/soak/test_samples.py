"""A sample is read from what the programs of a guest print: here of base with Debian 13, shortened."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.errors import ImageError
from harness.examine.journal import Entry
from harness.examine.soak import ground, samples
from harness.examine.soak.ground import Ground
from harness.examine.soak.samples import GONE, Space, Timer, UnitState, UnitUse, common_name, parse
from harness.examine.storage import Mount

from .hosts import DATA, GROUND, RUN

CURSOR = "s=503e;i=4cd;b=95ea;m=16ec52db;t=663d;x=72af"
ANSWERS = {
    "uptime": "385.78 506.72",
    "memory in use": "MemTotal:        2020536 kB\nMemAvailable:    1836700 kB\nHugePages_Total:       0",
    "taints": "0",
    "memory of control groups": """look
/sys/fs/cgroup/memory.stat:anon 15400960
/sys/fs/cgroup/system.slice/memory.stat:anon 7000000
/sys/fs/cgroup/system.slice/memory.stat:file 3000000
/sys/fs/cgroup/system.slice/memory.stat:kernel 1000000
/sys/fs/cgroup/system.slice/memory.stat:shmem 2000000
/sys/fs/cgroup/system.slice/memory.stat:slab_reclaimable 400000
/sys/fs/cgroup/system.slice/pids.current:9
/sys/fs/cgroup/system.slice/ssh.service/memory.stat:anon 5000000
/sys/fs/cgroup/system.slice/ssh.service/memory.stat:file 900000
/sys/fs/cgroup/system.slice/ssh.service/memory.stat:kernel 600000
/sys/fs/cgroup/system.slice/ssh.service/memory.stat:shmem 100000
/sys/fs/cgroup/system.slice/ssh.service/memory.stat:slab_reclaimable 200000
/sys/fs/cgroup/system.slice/ssh.service/pids.current:3
/sys/fs/cgroup/system.slice/ssh.service/pids.max:2215
/sys/fs/cgroup/system.slice/ssh.service/part/memory.stat:anon 4000000
/sys/fs/cgroup/user.slice/user-0.slice/session-7.scope/memory.stat:anon 1000
/sys/fs/cgroup/user.slice/user-0.slice/session-9.scope/memory.stat:anon 2000""",
    "control groups": """look
/proc/1/cgroup:0::/init.scope
/proc/2/cgroup:0::/
/proc/907/cgroup:0::/system.slice/ssh.service""",
    "open files": "look\n95 /proc/1/fd\n8 /proc/907/fd",
    "space": "4096 1525139 1525121 393216 393193 /data\n4096 101027 95533 819200 818630 /run",
    "files": """look
0 /proc/uptime
16 /run/overlayfs/var/log/x
16384 /run/log/journal/62f8/system.journal
8 /run/two
lines
""",
    "states of units": "-.mount     loaded active mounted Root Mount\nssh.service loaded failed failed Secure Shell",
    "timers": """look
Unit=systemd-tmpfiles-clean.service
TimersMonotonic={ OnUnitActiveUSec=1d ; next_elapse=1d 5min 41.113739s }
TimersMonotonic={ OnBootUSec=15min ; next_elapse=15min }
LastTriggerUSec=
Id=systemd-tmpfiles-clean.timer

Unit=fstrim.service
TimersCalendar={ OnCalendar=Mon *-*-* 00:00:00 ; next_elapse=Mon 2027-01-04 00:00:00 UTC }
LastTriggerUSec=Mon 2026-12-28 17:38:25 UTC
Id=fstrim.timer""",
    "end of the journal": f'{{"__CURSOR":"{CURSOR}","PRIORITY":"3"}}',
    "messages of the journal": """look
{"SYSLOG_IDENTIFIER":"root","MESSAGE":"no sensor","PRIORITY":"3"}
{"UNIT":"q.service","MESSAGE":"Scheduled restart job","MESSAGE_ID":"5eb03494b6584870a536b337290809b3","PRIORITY":"6"}
{"UNIT":"q.service","MESSAGE":"Scheduled restart job","MESSAGE_ID":"5eb03494b6584870a536b337290809b3","PRIORITY":"6"}
{"UNIT":"ssh.service","MESSAGE":"Failed","MESSAGE_ID":"d9b373ed55a64feb8242e02dbe79a49c","PRIORITY":"4","UNIT_RESULT":"exit-code"}""",
}
GROUND_ANSWERS = {
    "date": "1796059092",
    "kind of control groups": "cgroup2fs",
    "room of the journal": 'look\n{"MAX_USE":"8388608"}\n{"MAX_USE":"67108864"}',
    "end of the journal": ANSWERS["end of the journal"],
    "programs": "look\n/usr/bin/networkctl\n/usr/bin/udevadm",
    "mounts": """\
30 1 0:26 / /run rw,nosuid,nodev shared:2 - tmpfs tmpfs rw,size=404108k,nr_inodes=819200
1 1 0:31 / / rw,relatime shared:1 - overlay LiveOS_rootfs rw,lowerdir=/run/rootfsbase,upperdir=/run/overlayfs""",
}


def test_a_sample_is_read() -> None:
    sample = parse(ANSWERS, GROUND)

    assert sample.at_s == 385.78
    assert sample.memory["MemAvailable"] == 1836700 << 10
    assert sample.processes == {1: "init.scope", 2: "", 907: "ssh.service"}
    assert sample.descriptors == {1: 95, 907: 8}
    assert sample.space["/run"] == Space(size=101027 << 12, used=5494 << 12, inodes=819200, used_inodes=570)
    assert sample.files["/run/overlayfs/var/log/x"] == 8192
    assert sample.units["ssh.service"] == UnitState(active="failed", sub="failed")
    assert sample.timers == {
        "systemd-tmpfiles-clean.timer": Timer(unit="systemd-tmpfiles-clean.service", is_monotonic=True),
        "fstrim.timer": Timer(unit="fstrim.service", last_s=1798479505.0),
    }
    assert sample.errors == (Entry(source="root", message="no sensor"),)
    assert sample.restarts == {"q.service": 2}
    assert sample.results == {"ssh.service": "exit-code"}
    assert sample.entries == 0x4CD


def test_the_use_of_a_unit_includes_its_groups_and_leaves_out_what_the_kernel_takes_back() -> None:
    use = parse(ANSWERS, GROUND).use

    assert use["ssh.service"] == UnitUse(memory=5_400_000, files=100_000, cache=800_000, tasks=3, tasks_limit=2215)
    assert use["session-*.scope"].memory == 3000
    assert use[GONE] == UnitUse(memory=7_600_000 - 5_400_000 - 3000, files=1_900_000, cache=200_000)
    assert set(use) == {"ssh.service", "session-*.scope", GONE}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_another_answer_is_an_error(name: str) -> None:
    with pytest.raises(ImageError, match=name):
        parse({**ANSWERS, name: "sorry"}, GROUND)


def test_only_what_has_changed_is_asked_for_after_the_first_sample() -> None:
    first = parse(ANSWERS, GROUND)
    asked = [
        next(one.command for one in samples.probes(GROUND, before) if one.name == "files") for before in (None, first)
    ]

    assert "-newerct @0 " in asked[0]
    assert f"-newerct @{GROUND.began_s} " in asked[1]
    messages = next(one.command for one in samples.probes(GROUND, first) if one.name == "messages of the journal")
    assert f"--after-cursor='{CURSOR}'" in messages


def test_without_control_groups_of_version_2_the_rest_is_read() -> None:
    old = replace(GROUND, has_groups=False)

    assert parse({name: text for name, text in ANSWERS.items() if name != "memory of control groups"}, old).use == {}
    assert any("version 1" in sentence for sentence in ground.unchecked(old))


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("session-12.scope", "session-*.scope"),
        ("session-c1.scope", "session-*.scope"),
        ("run-u12.service", "run-*.service"),
        ("run-p812-i813.service", "run-*.service"),
        ("ssh.service", "ssh.service"),
        ("run-lock.mount", "run-lock.mount"),
        ("systemd-udevd.service", "systemd-udevd.service"),
    ],
)
def test_units_that_come_and_go_share_a_name(unit: str, name: str) -> None:
    assert common_name(unit) == name


def mount(place: str, kind: str = "tmpfs", **known: str) -> Mount:
    source, device, root = (known.get(name, default) for name, default in
                            (("source", "tmpfs"), ("device", place), ("root", "/")))  # fmt: skip
    return Mount(place=place, kind=kind, options=("rw",), source=source, device=device, root=root)


def test_file_systems_that_can_fill_are_watched_once() -> None:
    mounts = [
        RUN,
        DATA,
        replace(DATA, place="/var/lib/nova", root="/var/lib/nova"),
        mount("/run/credentials/a.service"),
        mount("/boot", kind="vfat", source="/dev/sda1", device="8:1"),
        replace(mount("/etc/ro", kind="ext4", source="/dev/sdb1"), options=("ro",)),
        mount("/proc", kind="proc"),
        mount("/", kind="overlay", source="LiveOS_rootfs"),
        replace(RUN, place="/mnt/run-again"),
    ]

    assert [one.place for one in ground.writable(mounts)] == ["/run", "/data", "/boot", "/"]


def test_a_path_is_shown_as_programs_know_it_and_belongs_to_its_file_system() -> None:
    assert GROUND.shown("/run/overlayfs/var/log/x") == "/var/log/x"
    assert GROUND.shown("/run/overlayfsx") == "/run/overlayfsx"
    assert GROUND.mount_of("/run/overlayfs/var/log/x") == RUN
    assert GROUND.mount_of("/data/x") == DATA
    assert GROUND.mount_of("/x") is None


def test_the_ground_is_read() -> None:
    known = ground.parse(GROUND_ANSWERS, "/run/overlayfs")

    assert (known.began_s, known.cursor, known.journal_bytes, known.has_groups) == (1796059092, CURSOR, 64 << 20, True)
    assert known.programs == {"networkctl", "udevadm"}
    assert [one.place for one in known.mounts] == ["/run"]
    assert [one.place for one in ground.parse(GROUND_ANSWERS, "").mounts] == ["/run", "/"]


@pytest.mark.parametrize("name", sorted(set(GROUND_ANSWERS) - {"kind of control groups"}))
def test_another_ground_is_an_error(name: str) -> None:
    with pytest.raises(ImageError, match=name):
        ground.parse({**GROUND_ANSWERS, name: "sorry"}, "")


def test_a_root_overlay_whose_files_are_hidden_is_told() -> None:
    hidden = Ground(began_s=1, mounts=(mount("/", kind="overlay"),))

    assert [sentence.split(":")[0] for sentence in ground.unchecked(hidden)] == ["which file of the root overlay grows"]
