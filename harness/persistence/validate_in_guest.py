"""Runs in the guest, with its Python (3.9 or newer) and nothing else: asks the programs of the host about the
configuration that it keeps.

The argument is JSON: ``paths`` are the persistent paths, ``own`` the image's own validators. Prints JSON: ``asked``, a
record for each question (``by``, ``file``, ``status``, ``lines``, ``instead``), and ``unchecked``, sentences.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

LIBRARIES = re.compile(r"oslo\.|os_|keystonemiddleware\.|castellan\.config$|osprofiler|neutron_lib")
"""Namespaces of options that each service of OpenStack may have."""
LATEST_S = 600
UNITS = ("systemd-networkd.service", "systemd-udevd.service")
OVS_COMPLAINT = re.compile(r"\|(bridge|netdev\w*|ofproto\w*|ovsdb\w*|dpif\w*|tunnel|stream\w*)\|(WARN|ERR|EMER)\|")
"""Modules that complain of what is configured; others warn of load."""

asked: list[dict[str, Any]] = []
unchecked: list[str] = []


def run(*argv: str) -> tuple[int, list[str]]:
    """The status and the lines of both outputs."""
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LATEST_S, check=False
    )
    return done.returncode, [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]


def note(by: str, file: str, answer: tuple[int, list[str]], instead: dict[str, str] | None = None) -> None:
    status, lines = answer
    asked.append({"by": by, "file": file, "status": status, "lines": lines, "instead": instead or {}})


def has(program: str, path: str) -> bool:
    if not shutil.which(program):
        unchecked.append(f"the image has no {program}, which validates {path}")
    return bool(shutil.which(program))


def files(*patterns: str) -> list[str]:
    return sorted({name for pattern in patterns for name in glob.glob(pattern) if os.path.isfile(name)})


def namespaces() -> list[str]:
    """Those of oslo.config that the installed packages offer."""
    found: Any = entry_points()
    group = found.select(group="oslo.config.opts") if hasattr(found, "select") else found.get("oslo.config.opts", ())
    return sorted({one.name for one in group if ".tests" not in one.name})


def oslo(path: str, known: list[str]) -> None:
    """The files of a service of OpenStack, as packages and deployment tools name them."""
    service = os.path.basename(path)
    names = files(
        f"{path}/{service}.conf", f"{path}/{service}-*.conf", f"{path}/{service}.conf.d/*.conf",
        f"{path}/*_agent.ini", f"{path}/plugins/*/*.ini",
    )  # fmt: skip
    own = [name for name in known if name.split(".")[0] == service]
    if not own or not names or not has("oslo-config-validator", path):
        return
    options = [word for name in (*own, *filter(LIBRARIES.match, known)) for word in ("--namespace", name)]
    instead: dict[str, str] = {}
    for name in names:
        status, lines = run("oslo-config-validator", "--input-file", name, *options)
        if not instead and any("Deprecated opt " in line for line in lines):
            instead = replacements(options)
        note("oslo-config-validator", name, (status, lines), instead)


def replacements(options: list[str]) -> dict[str, str]:
    """By "group/option", which option replaces it."""
    done = subprocess.run(
        ["oslo-config-generator", "--format", "json", *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=LATEST_S, check=False,
    )  # fmt: skip
    if done.returncode:
        unchecked.append(
            f"oslo-config-generator ended with status {done.returncode}: what replaces an option is unknown"
        )
        return {}
    found: dict[str, str] = {}
    for group, options_of_it in json.loads(done.stdout)["deprecated_options"].items():
        for one in options_of_it:
            if one.get("replacement_name"):
                text = f"{one['replacement_name']} of [{one.get('replacement_group') or group}]"
                found |= {f"{group}/{name}": text for name in (one["name"], one["name"].replace("-", "_"))}
    return found


def libvirt(path: str) -> None:
    kinds = ("qemu/*.xml", "qemu/networks/*.xml", "storage/*.xml")
    names = files(*(f"{path}/{kind}" for kind in kinds))
    if names and has("virt-xml-validate", path) and has("xmllint", path):
        for name in names:
            note("virt-xml-validate", name, run("virt-xml-validate", name))


def journal(path: str) -> None:
    """What networkd and udev say of files in ``path``."""
    units = [word for unit in UNITS for word in ("--unit", unit)]
    status, lines = run("journalctl", "--boot", "--quiet", "--output=cat", "--priority=warning", *units)
    if status:
        unchecked.append(f"journalctl ended with status {status}: {' '.join(lines[-1:])}")
    for line in lines:
        for folder in {path, os.path.realpath(path)}:
            if line.startswith(f"{folder}/"):
                name, _, complaint = line.partition(":")
                note("systemd", path + name[len(folder) :], (0, [complaint]))


def openvswitch(path: str) -> None:
    logs = files("/var/log/openvswitch/*.log")
    for log in logs:
        with open(log, encoding="utf-8", errors="replace") as file:
            note("Open vSwitch", path, (0, [line.rstrip() for line in file if OVS_COMPLAINT.search(line)]))
    if not logs:
        unchecked.append(f"Open vSwitch, which reads {path}, has no log in /var/log/openvswitch")


def main() -> None:
    wanted = json.loads(sys.argv[1])
    paths = wanted["paths"]
    known = namespaces()
    for path in paths:
        if path.startswith("/etc/"):
            oslo(path, known)
        if path.startswith(("/etc/systemd", "/etc/udev")):
            journal(path)
    if any(path.startswith("/etc/ssh") for path in paths) and os.path.exists("/usr/sbin/sshd"):
        note("sshd", "/etc/ssh", run("/usr/sbin/sshd", "-t"))
    if "/etc/libvirt" in paths:
        libvirt("/etc/libvirt")
    if kept := [path for path in ("/etc/openvswitch", "/var/lib/openvswitch") if path in paths]:
        openvswitch(kept[0])
    for one in wanted["own"]:
        note("validate", one["path"], run("/bin/sh", "-c", one["command"]))
    print(json.dumps({"asked": asked, "unchecked": unchecked}))


if __name__ == "__main__":
    main()
