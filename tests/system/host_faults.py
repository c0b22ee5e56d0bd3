"""Faults of running hosts, as commands that plant them in a machine of base with two cards, and what must be found."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.model.definition import ImageDefinition

_UNIT = "/run/systemd/system"
_ETC = "/etc/systemd/system"
_WANTS = f"{_ETC}/multi-user.target.wants"
_STRAY = (
    "setsid sh -c 'echo $$ >/sys/fs/cgroup/{0}/cgroup.procs; exec sleep 9999{1}' >/dev/null 2>&1 </dev/null & "
    "until pgrep -fx 'sleep 9999{1}'; do sleep 0.2; done"
)
_LISTENER = (
    "systemd-run --unit={unit} {options} "
    "python3 -c 'import socket, time; s = socket.socket({kind}); {then}time.sleep(9999)'"
)


@dataclass(frozen=True)
class Fault:
    """``plant`` is a command for the guest, in which CARD is the card that has an address and OTHER the other one. The
    finding has this id, begins so, and says ``what``."""

    plant: str
    id: str
    where: str
    what: str = ""


def _unit(name: str, text: str, start: str) -> str:
    """Writes a unit that multi-user.target wants; ``text`` has \\n."""
    lines = f"printf '{text}' >{_UNIT}/{name}; ln -s {_UNIT}/{name} {_WANTS}/{name}"
    return f"mkdir -p {_UNIT} {_WANTS}; {lines}; systemctl daemon-reload; {start}"


def _listener(unit: str, kind: str, then: str = "", options: str = "") -> str:
    """Starts a program with a socket of that kind."""
    return _LISTENER.format(unit=unit, kind=kind, then=then, options=options)


FAULTS = {
    "a service for everybody": Fault(
        "systemd-run --unit=report python3 -m http.server 8000",
        "listener-undeclared",
        "socket:tcp 0.0.0.0:8000 python3",
    ),
    "a service of UDP": Fault(
        "systemd-run --unit=answers python3 -c 'import socket, time; s = socket.socket(socket.AF_INET6, 2);"
        ' s.bind(("::", 7007)); time.sleep(9999)\'',
        "listener-undeclared",
        "socket:udp [::]:7007 python3",
    ),
    "a service in another network namespace": Fault(
        "ip netns add blue && ip link add veth-a type veth peer name veth-b netns blue; "
        + _listener("hidden", "2, 1", 's.bind(("", 8001)); s.listen(); ', "-p NetworkNamespacePath=/run/netns/blue"),
        "listener-undeclared",
        "socket:tcp 0.0.0.0:8001 python3 in blue",
    ),
    "a sniffer": Fault(_listener("sniffer", "17, 3, 0x300"), "listener-undeclared", "socket:packet *:0003 python3"),
    "a service for virtual machines": Fault(
        _listener("channel", "40, 1", "s.bind((0xFFFFFFFF, 7009)); s.listen(); "),
        "listener-undeclared",
        "socket:vsock *:7009 python3",
    ),
    "a process beside PID 1": Fault(_STRAY.format("init.scope", 1), "process-without-unit", "process:sleep"),
    "a process in the root group": Fault(_STRAY.format(".", 2), "process-without-unit", "process:sleep"),
    "a condition": Fault(
        _unit(
            "skipped.service",
            "[Unit]\\nConditionPathExists=/etc/none\\n[Service]\\nExecStart=/bin/true\\n",
            "systemctl start skipped.service",
        ),
        "unit-did-nothing",
        "unit:skipped.service",
    ),
    "an assertion": Fault(
        _unit(
            "asserted.service",
            "[Unit]\\nAssertPathExists=/etc/none\\n[Service]\\nExecStart=/bin/true\\n",
            "systemctl start asserted.service || true",
        ),
        "unit-did-nothing",
        "unit:asserted.service",
    ),
    "a link to nothing": Fault(
        f"ln -s {_UNIT}/gone.service {_WANTS}/gone.service; systemctl daemon-reload",
        "unit-did-nothing",
        "unit:gone.service",
    ),
    "a target that does not exist": Fault(
        f"mkdir -p {_UNIT} {_ETC}/multiuser.target.wants; "
        f"printf '[Service]\\nExecStart=/bin/true\\n' >{_UNIT}/lost.service; "
        f"ln -s {_UNIT}/lost.service {_ETC}/multiuser.target.wants/; systemctl daemon-reload",
        "unit-did-nothing",
        "unit:lost.service",
        "multiuser.target",
    ),
    "a timer in the past": Fault(
        f"printf '[Service]\\nExecStart=/bin/true\\n' >{_UNIT}/past.service; "
        + _unit("past.timer", "[Timer]\\nOnCalendar=2001-01-01 00:00:00\\n", "systemctl start past.timer"),
        "unit-did-nothing",
        "unit:past.timer",
    ),
    "a unit that never says that it is ready": Fault(
        _unit(
            "never.service",
            "[Service]\\nType=notify\\nTimeoutStartSec=infinity\\nExecStart=/bin/sleep 9999\\n",
            "systemctl start --no-block never.service",
        ),
        "unit-never-ready",
        "unit:never.service",
    ),
    "a unit that fails again and again": Fault(
        _unit(
            "flaps.service",
            "[Service]\\nExecStart=/bin/false\\nRestart=always\\nRestartSec=10ms\\n",
            "systemctl start --no-block flaps.service",
        ),
        "unit-never-ready",
        "unit:flaps.service",
    ),
    "a generator": Fault(
        "printf '#!/bin/sh\\nexit 1\\n' >/etc/systemd/system-generators/site; "
        "chmod 755 /etc/systemd/system-generators/site; systemctl daemon-reload",
        "generator-failed",
        "generator:site",
    ),
    "a system call": Fault(
        "systemd-run --wait -p SystemCallFilter=~uname /bin/uname || true", "access-denied", "process:uname"
    ),
    "AppArmor": Fault(
        'echo \'<5>audit: type=1400 audit(1.0:1): apparmor="DENIED" operation="open" profile="site" name="/x" pid=9 '
        'comm="reader" requested_mask="r"\' >/dev/kmsg',
        "access-denied",
        "process:reader",
    ),
    "a denial that auditd has": Fault(
        'mkdir -p /var/log/audit; echo \'type=AVC msg=audit(1.0:9): apparmor="DENIED" operation="open" comm="writer"\' '
        ">/var/log/audit/audit.log",
        "access-denied",
        "process:writer",
    ),
    "a denial of the message bus": Fault(
        'logger -t dbus-daemon \'apparmor="DENIED" operation="dbus_method_call" bus="system" label="caller"\'',
        "access-denied",
        "process:caller",
    ),
    "an error": Fault("logger -p daemon.err -t site 'no such sensor'", "journal-error", "journal:"),
    "a program that logs too fast": Fault(
        "systemd-run --wait -p LogRateLimitIntervalSec=2s -p LogRateLimitBurst=5 sh -c 'seq 100; sleep 3; echo more'",
        "journal-not-kept",
        "journal:systemd-journald",
    ),
    "sysctl": Fault(
        "sysctl -w kernel.kptr_restrict=0 kernel.pid_max=40000", "setting-not-in-force", "sysctl:kernel.pid_max"
    ),
    "a file of sysctl.d": Fault(
        "echo 'kernel.panic = 77' >/etc/sysctl.d/99-site.conf", "setting-not-in-force", "sysctl:kernel.panic"
    ),
    "modules-load.d": Fault(
        "echo no_such_module >/etc/modules-load.d/site.conf", "setting-not-in-force", "/etc/modules-load.d/site.conf"
    ),
    "tmpfiles.d": Fault(
        "echo 'd /run/site 0755 root root' >/etc/tmpfiles.d/site.conf", "setting-not-in-force", "/run/site"
    ),
    "a mode of tmpfiles.d": Fault("chmod 0777 /run/lock", "setting-not-in-force", "/run/lock"),
    "a value that tmpfiles.d writes": Fault(
        "echo 'w /sys/kernel/mm/transparent_hugepage/enabled - - - - never' >/etc/tmpfiles.d/pages.conf",
        "setting-not-in-force",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ),
    "an attribute of a disk": Fault(
        'mkdir -p /etc/udev/rules.d; echo \'SUBSYSTEM=="block", KERNEL=="sd?|vd?", ATTR{queue/read_ahead_kb}="77"\' '
        ">/etc/udev/rules.d/98-disks.rules",
        "setting-not-in-force",
        "/etc/udev/rules.d/98-disks.rules",
    ),
    "a rule of udev": Fault(
        'mkdir -p /etc/udev/rules.d; echo \'KERNEL=="null", MODE="0640"\' >/etc/udev/rules.d/99-site.rules',
        "setting-not-in-force",
        "/etc/udev/rules.d/99-site.rules",
    ),
    "barriers": Fault("mount -o remount,barrier=0,commit=600 /data", "data-at-risk", "/data", "barriers"),
    "what a file system is mounted with": Fault(
        "tune2fs -o journal_data_writeback $(findmnt -n -o SOURCE /data)", "data-at-risk", "/data", "data=writeback"
    ),
    "swap": Fault(
        "dd if=/dev/zero of=/data/swapfile bs=1M count=16 status=none; chmod 600 /data/swapfile; "
        "mkswap -q /data/swapfile; swapon /data/swapfile",
        "swap-in-use",
        "swap:/data/swapfile",
    ),
    "local time": Fault("printf '0.0 0 0.0\\n0\\nLOCAL\\n' >/etc/adjtime", "clock-wrong", "/etc/adjtime"),
    "no name": Fault("echo localhost >/proc/sys/kernel/hostname", "host-name-not-set", "host:name"),
    "a second address": Fault("ip addr add 10.77.0.250/24 dev CARD", "network-ambiguous", "interface:CARD"),
    "an address that nobody renews": Fault(
        "ip addr add 10.99.0.5/24 dev OTHER valid_lft 3600 preferred_lft 3600", "lease-not-renewed", "interface:OTHER"
    ),
    "two cards in one network": Fault(
        "ip addr add 10.77.0.240/24 dev OTHER", "network-ambiguous", "interface:OTHER", "10.77.0.0/24"
    ),
    "a second route": Fault(
        "ip route add default via 10.77.0.1 dev CARD metric 7", "network-ambiguous", "interface:CARD"
    ),
    "resolv.conf": Fault("chmod 1232 /run/systemd/resolve/stub-resolv.conf", "dns-unusable", "/etc/resolv.conf"),
    "packet size": Fault("ip link set CARD mtu 1400", "mtu-wrong", "interface:CARD"),
    "names of cards": Fault(
        "sed 's/$/ net.ifnames=0 mitigations=off/' /proc/cmdline >/run/cmdline; "
        "mount --bind /run/cmdline /proc/cmdline",
        "interface-name-unstable",
        "interface:CARD",
    ),
    "mitigations": Fault("true", "mitigations-off", "kernel:arguments"),
    "a configuration for another card": Fault(
        "printf '[Match]\\nName=eno99\\n' >/etc/systemd/network/10-site.network",
        "network-config-unused",
        "/etc/systemd/network/10-site.network",
    ),
    "a card of ifupdown": Fault(
        "mkdir -p /etc/network; echo 'auto lo eno99' >/etc/network/interfaces",
        "network-config-unused",
        "/etc/network/interfaces",
    ),
    "tasks": Fault("systemctl set-property --runtime ssh.service TasksMax=50", "limit-too-low", "unit:ssh"),
    "open files of the host": Fault("sysctl -w fs.file-max=8000", "limit-too-low", "sysctl:fs.file-max"),
    "nologin": Fault("touch /run/nologin", "login-refused", "/run/nologin"),
    "PAM": Fault("echo 'account required pam_none.so' >>/etc/pam.d/su", "login-refused", "pam:su"),
    "ping": Fault("sysctl -w net.ipv4.ping_group_range='1 0'", "ping-refused", "/usr/bin/ping"),
    "su": Fault("chmod u-s /usr/bin/su", "setid-lost", "/usr/bin/su"),
    "setuid": Fault(
        "cp /usr/bin/id /usr/local/bin/who-am-i; chmod u+s /usr/local/bin/who-am-i",
        "setid-unexpected",
        "/usr/local/bin/who-am-i",
    ),
    "capabilities": Fault(
        "cp /usr/bin/id /usr/local/bin/dump; setcap cap_net_raw+ep /usr/local/bin/dump",
        "setid-unexpected",
        "/usr/local/bin/dump",
    ),
    "what every user needs": Fault("chmod 0700 /tmp", "login-refused", "user:nobody"),
    "the time": Fault("date -s '+1 hour'", "clock-wrong", "clock:system"),
}
"""All of them fit in one machine at the same time."""

LATER = {
    "a name that is not valid": Fault(
        "echo node_7 >/proc/sys/kernel/hostname", "host-name-not-set", "host:name", "node_7"
    ),
    "no resolv.conf": Fault("rm /etc/resolv.conf", "dns-unusable", "/etc/resolv.conf", "missing"),
    "read-only data": Fault("swapoff -a; mount -o remount,ro /data", "data-at-risk", "/data", "read-only"),
    "no login": Fault("systemctl stop 'getty@*' 'serial-getty@*'", "login-refused", "unit:getty.target"),
}
"""Those that take the place of one of `FAULTS`."""

ABSENT = "tcp 0.0.0.0:2222 sshd"


def demanding(definition: ImageDefinition) -> ImageDefinition:
    """``definition``, which also demands what the host does not have: a socket, a login, and a journal that is kept."""
    return replace(
        definition,
        listens=(*definition.listens, ABSENT),
        kernel_arguments=(*definition.kernel_arguments, "console=ttyS2"),
        persistent_paths=(*definition.persistent_paths, "/var/log"),
    )


DEMANDED = {
    "a login on a serial console": Fault("", "login-refused", "unit:serial-getty@ttyS2.service"),
    "a journal on the disk": Fault("", "journal-not-kept", "/var/log/journal"),
}
"""What is found because of `demanding`."""
CONSEQUENCES = (
    ("interface-name-unstable", "interface:OTHER"),
    ("setting-not-in-force", "/tmp"),
    ("setting-not-in-force", "sysctl:net.ipv4.ping_group_range"),
)
"""What is found because of `FAULTS` besides what each says: by id and place."""
