"""The answers of a guest's commands become the facts about a host, or an error."""

from __future__ import annotations

import pytest

from harness.core.errors import ImageError
from harness.examine import facts
from harness.guest.serial_shell import SHELL_UNIT
from harness.model.host_facts import HostFacts

PCI = "../../devices/pci0000:00"
ANSWERS = {
    "mounts": (
        "22 1 0:20 / / rw,relatime - overlay LiveOS_rootfs rw,lowerdir=/run/rootfsbase,upperdir=/run/overlayfs\n"
        "30 22 8:2 / /data rw,nosuid,relatime - ext4 /dev/sda2 rw,errors=remount-ro\n"
        "31 22 0:30 / /run/credentials/systemd-journald.service ro - tmpfs none rw\n"
        "32 22 0:31 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw,size=1010272k,nr_inodes=1048576"
    ),
    "swaps": "Filename\tType\tSize\tUsed\tPriority",
    "flaws of the CPU": "/sys/devices/system/cpu/vulnerabilities/mds:Not affected",
    "lockdown": "[none] integrity confidentiality",
    "security modules": "lockdown,capability,apparmor",
    "CPU": "processor\t: 0\nmodel name\t: QEMU Virtual CPU version 2.5+\nmicrocode\t: 0x1",
    "date": "1764500000 +0000",
    "the RTC's zone": "none",
    "devices": f"""\
/sys/class/block:
total 0
lrwxrwxrwx 1 0 0 0 Nov 30 12:00 loop0 -> ../../devices/virtual/block/loop0
lrwxrwxrwx 1 0 0 0 Nov 30 12:00 sda -> {PCI}/0000:00:05.0/virtio1/host0/target0:0:0/0:0:0:0/block/sda
lrwxrwxrwx 1 0 0 0 Nov 30 12:00 sda2 -> {PCI}/0000:00:05.0/virtio1/host0/target0:0:0/0:0:0:0/block/sda/sda2

/sys/class/net:
total 0
lrwxrwxrwx 1 0 0 0 Nov 30 12:00 enp0s3 -> {PCI}/0000:00:03.0/virtio0/net/enp0s3
lrwxrwxrwx 1 0 0 0 Nov 30 12:00 lo -> ../../devices/virtual/net/lo""",
    "links to disks": """\
look
/dev/disk/by-id:
total 0
lrwxrwxrwx 1 0 0  9 Nov 30 12:00 scsi-0QEMU_QEMU_HARDDISK_DATA -> ../../sda
lrwxrwxrwx 1 0 0 10 Nov 30 12:00 scsi-0QEMU_QEMU_HARDDISK_DATA-part2 -> ../../sda2""",
    "sysctl": (
        "look\n/proc/sys/kernel/ostype:Linux\n/proc/sys/kernel/random/uuid:1\n/proc/sys/kernel/kptr_restrict:1\n"
        "/proc/sys/net/ipv4/tcp_rmem:4096\t131072\t6291456\n/proc/sys/net/ipv4/conf/all/rp_filter:2\n"
        "/proc/sys/net/ipv4/conf/enp0s3/rp_filter:2"
    ),
    "default limits": (
        "DefaultLimitNOFILE=524288\nDefaultLimitNOFILESoft=1024\nDefaultLimitNPROC=7825\n"
        "DefaultLimitMEMLOCK=8388608\nDefaultLimitCORE=infinity\nDefaultTasksMax=2347"
    ),
    "limits of services": f"""\
Id=nova-compute.service
ActiveState=active
ControlGroup=/machine.slice/nova-compute.service
MemoryMax=infinity
LimitNOFILE=65536
LimitNOFILESoft=1024
TasksMax=2347

Id=gone.service
ActiveState=inactive
ControlGroup=
MemoryMax=1
LimitNOFILE=1

Id={SHELL_UNIT}
ActiveState=active
ControlGroup=/system.slice/x
LimitNOFILE=7""",
    "timers": """\
look
Id=logrotate.timer
Unit=logrotate.service
TimersCalendar={ OnCalendar=*-*-* 00:00:00 ; next_elapse=Tue 2026-12-01 00:00:00 UTC }
Persistent=yes

Id=systemd-tmpfiles-clean.timer
Unit=systemd-tmpfiles-clean.service
TimersMonotonic={ OnUnitActiveUSec=1d ; next_elapse=15min }
TimersMonotonic={ OnBootUSec=15min ; next_elapse=15min }
Persistent=no""",
    "control groups": (
        "look\n/sys/fs/cgroup/cgroup.controllers:cpuset cpu io memory pids\n"
        "/sys/fs/cgroup/cgroup.subtree_control:cpu memory pids"
    ),
    "accounts": "root:x:0:0:root:/root:/bin/bash\nnova:x:64060:64060::/var/lib/nova:/bin/sh",
    "members of groups": "root:x:0:\nkvm:x:107:nova,libvirt-qemu",
    "loaded modules": "look\nvirtio_net 12345 0 - Live 0x0",
    "profiles of AppArmor": "look\n/sys/kernel/security/apparmor/profiles:/usr/sbin/libvirtd (enforce)",
    "default target": "multi-user.target",
    "other settings": "look\n/etc/nsswitch.conf:passwd: files\n/etc/nsswitch.conf:hosts:          files dns",
    "places": (
        "look\nlrwxrwxrwx 1 0 0 39 Nov 30 12:00 /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf\n"
        "drwxr-sr-x 3 0 999 60 Nov 30 12:00 /run/log/journal"
    ),
}


def test_each_answer_is_read() -> None:
    assert facts.parse(ANSWERS) == HostFacts(
        cpu="QEMU Virtual CPU version 2.5+",
        interfaces={"pci0000:00/0000:00:03.0": "enp0s3", "lo": "lo"},
        disks={
            "pci0000:00/0000:00:05.0/target0:0/0:0:0": "sda",
            "pci0000:00/0000:00:05.0/target0:0/0:0:0/2": "sda2",
            "by-id/scsi-0QEMU_QEMU_HARDDISK_DATA": "sda",
            "by-id/scsi-0QEMU_QEMU_HARDDISK_DATA-part2": "sda2",
        },
        mounts={
            "/": "overlay on LiveOS_rootfs, lowerdir=/run/rootfsbase,relatime,rw,upperdir=/run/overlayfs",
            "/data": "ext4 on /dev/sda2, errors=remount-ro,nosuid,relatime,rw",
            "/tmp": "tmpfs, nodev,nosuid,rw",
        },
        defences={
            "flaw mds": "Not affected",
            "lockdown": "none",
            "security modules": "lockdown,capability,apparmor",
            "microcode": "0x1",
        },
        profiles={"/usr/sbin/libvirtd": "enforce"},
        sysctl={
            "kernel.kptr_restrict": "1",
            "kernel.ostype": "Linux",
            "net.ipv4.conf.all.rp_filter": "2",
            "net.ipv4.tcp_rmem": "4096 131072 6291456",
        },
        limits={
            "default LimitNOFILE": "524288",
            "default LimitNOFILESoft": "1024",
            "default LimitNPROC": "7825",
            "default LimitMEMLOCK": "8388608",
            "default LimitCORE": "infinity",
            "default TasksMax": "2347",
            "nova-compute.service LimitNOFILE": "65536",
        },
        control_groups={
            "version": "2",
            "controllers": "cpuset cpu io memory pids",
            "controllers of slices": "cpu memory pids",
            "nova-compute.service": "/machine.slice/nova-compute.service",
        },
        timers={
            "logrotate.timer": "OnCalendar=*-*-* 00:00:00, Persistent: logrotate.service",
            "systemd-tmpfiles-clean.timer": "OnUnitActiveUSec=1d, OnBootUSec=15min: systemd-tmpfiles-clean.service",
        },
        logins={"root": "/root /bin/bash", "nova": "/var/lib/nova /bin/sh"},
        members={"kvm": "nova,libvirt-qemu"},
        modules={"virtio_net": ""},
        settings={
            "time zone": "+0000",
            "the board's clock": "UTC",
            "default target": "multi-user.target",
            "folders of the journal": "/run/log/journal",
            "/etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf",
            "names of hosts come from": "files dns",
            "swap": "none",
        },
    )


def test_every_command_has_an_answer_here() -> None:
    assert {probe.name for probe in facts.PROBES} == set(ANSWERS)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("devices", "/sys/class/net:\ntotal 0"),
        ("links to disks", "lrwxrwxrwx sda -> x"),
        ("sysctl", "look"),
        ("sysctl", "look\nsorry"),
        ("default limits", "sorry"),
        ("limits of services", "Id=x.service"),
        ("timers", "Id=x.timer"),
        ("timers", "look\nId=x.timer\nUnit=x.service"),
        ("control groups", "sorry"),
        ("accounts", "root:x"),
        ("members of groups", "root"),
        ("loaded modules", "virtio_net 1"),
        ("date", "now"),
    ],
)
def test_an_answer_that_lacks_something_is_an_error(name: str, answer: str) -> None:
    with pytest.raises(ImageError, match=f"answer to '{name}', from .*, cannot be read"):
        facts.parse({**ANSWERS, name: answer})


def test_names_that_are_words_of_any_text_are_not_looked_for() -> None:
    names = facts.names_of(facts.parse(ANSWERS))

    assert names == {
        "enp0s3", "sda", "sda2", "scsi-0QEMU_QEMU_HARDDISK_DATA", "scsi-0QEMU_QEMU_HARDDISK_DATA-part2", "/data",
        "logrotate.timer", "systemd-tmpfiles-clean.timer",
    }  # fmt: skip


def test_references_are_texts_links_and_owners() -> None:
    names = ["enp0s3", "ssh.service", "pci-0000:00:05.0-scsi-0:0:0:0"]
    answers = {
        "references": (
            "look\n/etc/systemd/network/10-lan.network:enp0s3\n/etc/systemd/network/10-lan.network:enp0s3\n"
            "/etc/fstab:x:pci-0000:00:05.0-scsi-0:0:0:0"
        ),
        "links and owners": (
            "look\nl\troot\t/etc/systemd/system/a.wants/own.service\t/usr/lib/systemd/system/ssh.service\n"
            "d\tnova\t/var/lib/nova\t\n"
        ),
    }

    found = facts.with_references(HostFacts(), answers, names).references

    assert found == {
        "enp0s3": ("/etc/systemd/network/10-lan.network",),
        "nova": ("/var/lib/nova",),
        "pci-0000:00:05.0-scsi-0:0:0:0": ("/etc/fstab:x",),
        "ssh.service": ("/etc/systemd/system/a.wants/own.service",),
    }
    with pytest.raises(ImageError, match="no name that was looked for"):
        facts.with_references(HostFacts(), {**answers, "references": "look\nbinary file matches"}, names)
