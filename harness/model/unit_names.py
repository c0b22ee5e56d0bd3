"""Names of one service in different distributions."""

from __future__ import annotations

_SAME = (
    # Debian and Ubuntu, then Fedora, CentOS, openSUSE and Arch
    ("ssh", "sshd"),
    ("cron", "crond", "cronie"),
    ("chrony", "chronyd"),
    ("ntp", "ntpd", "ntpsec"),
    ("apache2", "httpd"),
    ("open-iscsi", "iscsi"),
    ("multipath-tools", "multipathd"),
    ("nfs-kernel-server", "nfs-server"),
    ("smartmontools", "smartd"),
    ("lm-sensors", "lm_sensors"),
    ("openvswitch-switch", "openvswitch"),
    ("ovn-host", "ovn-controller"),
    ("nova-compute", "openstack-nova-compute"),
)
"""Without suffix. Services that only serve the same purpose, such as firewalld and ufw, are different services."""


def same_service(unit: str) -> tuple[str, ...]:
    """All names of the service of ``unit``, the given one first: ``ssh.service`` is ``sshd.service`` elsewhere."""
    name, dot, suffix = unit.rpartition(".")
    group = next((names for names in _SAME if name in names), (name,))
    return (unit, *(f"{other}{dot}{suffix}" for other in group if other != name))
