"""Who may do what: log in, become root, ping; and the kernel's own defences."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.examine.known import known
from harness.examine.storage import Mount
from harness.examine.texts import lines_of
from harness.examine.units import UnitRow
from harness.guest.probes import Probe, read
from harness.lint.finding import LintFinding, fails

_ARGUMENTS = Probe("kernel arguments", "cat /proc/cmdline")
_NOLOGIN = Probe("nologin", "echo look\nfor file in /run/nologin /etc/nologin; do [ ! -e $file ] || echo $file; done")
_PROGRAMS = """\
echo look
for name in NAMES; do
    for folder in /usr/bin /usr/sbin /bin /sbin; do
        [ -e $folder/$name ] || continue
        if [ -u $folder/$name ]; then echo "setuid $folder/$name"; else echo "plain $folder/$name"; fi
        break
    done
done
"""
_PING = """\
command -v ping >/dev/null || { echo absent ping; exit; }
command -v setpriv >/dev/null || { echo absent setpriv; exit; }
said=$(setpriv --reuid=65534 --regid=65534 --clear-groups ping -c 1 -W 9 127.0.0.1 2>&1)
echo "status $?"
echo "$said"
"""
PING = Probe("ping by an unprivileged user", _PING)

_WEAKENED = re.compile(
    r"mitigations=off|nopti|pti=off|nospectre_v[12]|nospec_store_bypass_disable|no_stf_barrier|kaslr=off|nokaslr"
    r"|spectre_v2(_user)?=off|spec_store_bypass_disable=off|(l1tf|mds|tsx_async_abort|mmio_stale_data|retbleed|srbds"
    r"|spec_rstack_overflow|gather_data_sampling|reg_file_data_sampling|indirect_target_selection)=off|nosmep|nosmap"
    r"|(apparmor|selinux|audit)=0|lockdown=none|module\.sig_enforce=0|init_on_alloc=0|slub_debug=-"
)
"""Linux, Documentation/admin-guide/kernel-parameters.txt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessReading:
    """``set_uid`` has each program that needs setuid by its path; ``ping`` is the status, and what ping printed.
    ``gained`` are files of the RAM overlay with setuid or setgid."""

    arguments: tuple[str, ...] = ()
    nologin: tuple[str, ...] = ()
    set_uid: Mapping[str, bool] = field(default_factory=dict)
    ping: str = "status 0"
    gained: tuple[str, ...] = ()


def probes() -> tuple[Probe, ...]:
    return (_ARGUMENTS, _NOLOGIN, _programs_probe())


def _programs_probe() -> Probe:
    return Probe("programs with setuid", _PROGRAMS.replace("NAMES", shlex.join(known("need_setuid"))))


def gained_probe(mounts: Sequence[Mount]) -> list[Probe]:
    """What to ask about files of the root that this boot made; nothing where it has no such layer."""
    folder = next((mount.value("upperdir") for mount in mounts if mount.place == "/" and mount.kind == "overlay"), "")
    if not folder:
        return []
    place = shlex.quote(folder)
    command = f"find {place} -xdev '(' -path {place} -o -type f -perm /6000 ')'"
    return [Probe("new files with setuid", f"[ -d {place} ] || {{ echo absent; exit; }}\n{command}")]


def parse(answers: Mapping[str, str], mounts: Sequence[Mount]) -> AccessReading:
    programs = _programs_probe()
    gained = gained_probe(mounts)
    return AccessReading(
        arguments=tuple(answers[_ARGUMENTS.name].split()),
        nologin=read(answers, _NOLOGIN, lambda text: tuple(lines_of(text))),
        set_uid=read(
            answers, programs, lambda text: {line.split(" ", 1)[1]: line[0] == "s" for line in lines_of(text)}
        ),
        ping=read(answers, PING, _ping),
        gained=read(answers, gained[0], lambda text: tuple(_gained(text, mounts))) if gained else (),
    )


def _gained(text: str, mounts: Sequence[Mount]) -> Iterator[str]:
    """find(1) prints the folder itself first."""
    if text == "absent":
        return
    folder = next(mount.value("upperdir") for mount in mounts if mount.place == "/")
    first, *found = text.splitlines()
    if first != folder:
        raise ValueError(f"not {folder} but {first!r}")
    yield from (line.removeprefix(folder) for line in found)


def _ping(text: str) -> str:
    """A status from 126 on is a program that did not run."""
    status, _, said = text.partition("\n")
    if not text.startswith("absent ") and (int(status.removeprefix("status ")) > 125 or "ping" not in said.lower()):
        raise ValueError("ping did not run")
    return text


def judge(
    access: AccessReading, mounts: Sequence[Mount], units: Mapping[str, UnitRow], declared: Sequence[str]
) -> Iterator[LintFinding]:
    """``declared`` are the kernel arguments of the definition."""
    for argument in access.arguments:
        if _WEAKENED.fullmatch(argument) and argument not in declared:
            what = f"the kernel argument {argument} turns a defence off, and the definition does not have it"
            yield fails("mitigations-off", "kernel:arguments", what, " ".join(access.arguments))
    for path in access.nologin:
        yield fails("login-refused", path, "only root can log in: pam_nologin(8) refuses everybody else")
    gettys = [row for row in units.values() if "getty@" in row.id or row.id == "console-getty.service"]
    if gettys and not any(row.active == "active" for row in gettys):
        lines = sorted({f"{row.id}: {row.active}" for row in gettys})
        yield fails("login-refused", "unit:getty.target", "nobody can log in on a console: no getty runs", *lines)
    yield from _privileges(access, mounts)
    status, _, said = access.ping.partition("\n")
    if status.startswith("status") and status != "status 0":
        what = "an unprivileged user cannot ping"
        yield fails("ping-refused", "/usr/bin/ping", what, f"it ended with {status}", *said.splitlines()[-3:])


def _privileges(access: AccessReading, mounts: Sequence[Mount]) -> Iterator[LintFinding]:
    for path, has_it in access.set_uid.items():
        inside = [mount for mount in mounts if f"{path}/".startswith(f"{mount.place.rstrip('/')}/")]
        if not has_it:
            yield fails("setid-lost", path, "it needs setuid, and does not have it on this host")
        elif inside and "nosuid" in max(enumerate(inside), key=lambda one: (len(one[1].place), one[0]))[1].options:
            yield fails("setid-lost", path, "it needs setuid, and its file system is mounted nosuid")
    for path in access.gained:
        yield fails("setid-unexpected", path, "it has setuid or setgid since this boot, and the image's file has not")


def unchecked(access: AccessReading) -> Iterator[str]:
    if access.ping.startswith("absent"):
        yield f"whether an unprivileged user can ping: the image has no {access.ping.split()[1]}"
