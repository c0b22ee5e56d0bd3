"""Who may do what: log in, become root, ping; and the kernel's own defences."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
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
_USER = """\
command -v setpriv >/dev/null || { echo absent setpriv; exit; }
said=$(setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '
    may() { "$@" || { echo "it is not so: $*"; exit 1; }; }
    may cd /
    for path in / /etc/passwd /dev/urandom; do may [ -r $path ]; done
    for path in /tmp /var/tmp /dev/null; do may [ -w $path ]; done
    may cd /tmp
    echo may' 2>&1)
echo "status $?"
echo "$said"
"""
USER = Probe("what an ordinary user needs", _USER)
"""65534 is nobody's number everywhere: systemd, docs/UIDS-GIDS.md."""
PING = Probe("ping by an unprivileged user", _PING)
_PAM = r"""\
command -v python3 >/dev/null || { echo absent python3; exit; }
python3 - <<'END'
import ctypes, os, pwd
try:
    pam = ctypes.CDLL("libpam.so.0")
except OSError:
    raise SystemExit(print("absent libpam.so.0"))
pam.pam_strerror.restype = ctypes.c_char_p
names = ["root"] + [user.pw_name for user in pwd.getpwall() if user.pw_uid == 65534][:1]
refuse = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, *[ctypes.c_void_p] * 3)(lambda *_: 19)
conversation = (ctypes.c_void_p * 2)(ctypes.cast(refuse, ctypes.c_void_p).value, None)
for service in ("login", "sshd", "su", "sudo"):
    if not any(os.path.exists(f"{folder}/{service}") for folder in ("/etc/pam.d", "/usr/lib/pam.d")):
        continue
    for name in names:
        handle = ctypes.c_void_p()
        status = pam.pam_start(service.encode(), name.encode(), conversation, ctypes.byref(handle))
        if not status:
            status = pam.pam_acct_mgmt(handle, 0x8000)
        print(service, name, status, pam.pam_strerror(handle, status).decode())
        pam.pam_end(handle, status)
print("asked")
END
"""
ACCOUNTS = Probe("what PAM says of accounts", _PAM)
"""pam_acct_mgmt(3), silent, for each program by which people come in. It asks for no password and opens no session.
A module that wants to talk gets PAM_CONV_ERR (19)."""
_BROKEN = {1, 2, 3, 4, 5, 9, 26, 28}
"""Statuses of PAM that are no site's policy, but a stack that does not work (Linux-PAM, _pam_types.h)."""

_CONSOLE = re.compile(r"console=((?:ttyS|ttyAMA|hvc)\d+)(?:,.*)?")
_CAPABILITIES = re.compile(r" (?:= ?)?cap_[a-z_,]+[=+][eip]+$")
"""getcap(8): "/usr/bin/ping cap_net_raw=ep", before libcap 2.41 "/usr/bin/ping = cap_net_raw+ep"."""
_WEAKENED = re.compile(
    r"mitigations=off|nopti|pti=off|nospectre_v[12]|nospec_store_bypass_disable|no_stf_barrier|kaslr=off|nokaslr"
    r"|spectre_v2(_user)?=off|spec_store_bypass_disable=off|(l1tf|mds|tsx_async_abort|mmio_stale_data|retbleed|srbds"
    r"|spec_rstack_overflow|gather_data_sampling|reg_file_data_sampling|indirect_target_selection)=off|nosmep|nosmap"
    r"|(apparmor|selinux|audit)=0|lockdown=none|module\.sig_enforce=0|init_on_alloc=0|slub_debug=-"
)
"""Linux, Documentation/admin-guide/kernel-parameters.txt."""


@dataclass(frozen=True, slots=True)
class Account:
    """What PAM answers when ``user`` comes in by ``service``: its status, 0 for yes, and the words for that."""

    service: str
    user: str
    status: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessReading:
    """``set_uid`` has each program that needs setuid by its path; ``ping`` is the status, and what ping printed.
    ``user`` is the same of what every user's programs need. ``gained`` are files of the RAM overlay with setuid or
    setgid, ``capable`` those with capabilities. ``accounts`` and ``capable`` are None if they cannot be asked for."""

    arguments: tuple[str, ...] = ()
    nologin: tuple[str, ...] = ()
    set_uid: Mapping[str, bool] = field(default_factory=dict)
    ping: str = "status 0"
    user: str = "status 0"
    accounts: tuple[Account, ...] | None = ()
    gained: tuple[str, ...] = ()
    capable: tuple[str, ...] | None = ()


def probes() -> tuple[Probe, ...]:
    return (_ARGUMENTS, _NOLOGIN, _programs_probe())


def _programs_probe() -> Probe:
    return Probe("programs with setuid", _PROGRAMS.replace("NAMES", shlex.join(known("need_setuid"))))


def gained_probes(mounts: Sequence[Mount]) -> list[Probe]:
    """What to ask about files of the root that this boot made; nothing where it has no such layer."""
    folder = _upper_folder(mounts)
    if not folder:
        return []
    place = shlex.quote(folder)
    find = f"find {place} -xdev '(' -path {place} -o -type f -perm /6000 ')'"
    capable = f"command -v getcap >/dev/null || {{ echo absent getcap; exit; }}\ngetcap -v -r {place}"
    absent = f"[ -d {place} ] || {{ echo absent; exit; }}"
    return [
        Probe("new files with setuid", f"{absent}\n{find}"),
        Probe("new files with capabilities", f"{absent}\n{capable}"),
    ]


def parse(answers: Mapping[str, str], mounts: Sequence[Mount]) -> AccessReading:
    programs = _programs_probe()
    gained = gained_probes(mounts)
    return AccessReading(
        arguments=tuple(answers[_ARGUMENTS.name].split()),
        nologin=read(answers, _NOLOGIN, lambda text: tuple(lines_of(text))),
        set_uid=read(
            answers, programs, lambda text: {line.split(" ", 1)[1]: line[0] == "s" for line in lines_of(text)}
        ),
        ping=read(answers, PING, _ping),
        user=read(answers, USER, _user),
        accounts=read(answers, ACCOUNTS, _accounts),
        gained=read(answers, gained[0], lambda text: tuple(_gained(text, mounts))) if gained else (),
        capable=read(answers, gained[1], lambda text: _capable(text, mounts)) if gained else (),
    )


def _upper_folder(mounts: Sequence[Mount]) -> str:
    return next((mount.value("upperdir") for mount in mounts if mount.place == "/" and mount.kind == "overlay"), "")


def _capable(text: str, mounts: Sequence[Mount]) -> tuple[str, ...] | None:
    """getcap(8) -v prints each file that it looks at."""
    if text in ("absent", "absent getcap"):
        return () if text == "absent" else None
    folder, lines = _upper_folder(mounts), text.splitlines()
    if strange := [line for line in lines if not line.startswith(folder)]:
        raise ValueError(f"not in {folder}: {strange[0]!r}")
    return tuple(line.removeprefix(folder) for line in lines if _CAPABILITIES.search(line))


def _gained(text: str, mounts: Sequence[Mount]) -> Iterator[str]:
    """find(1) prints the folder itself first."""
    if text == "absent":
        return
    folder = _upper_folder(mounts)
    first, *found = text.splitlines()
    if first != folder:
        raise ValueError(f"not {folder} but {first!r}")
    yield from (line.removeprefix(folder) for line in found)


def _user(text: str) -> str:
    """setpriv(1) ends with 126 and 127 if the user may not run a shell, and says so; so does a shell without it."""
    status, _, said = text.partition("\n")
    if text.startswith("absent "):
        return text
    number = int(status.removeprefix("status "))
    if (number == 0 and said != "may") or (number > 125 and not said.startswith("setpriv:")):
        raise ValueError("the shell of the user did not run")
    return text


def _accounts(text: str) -> tuple[Account, ...] | None:
    if text.startswith("absent "):
        return None
    *lines, last = text.splitlines()
    if last != "asked":
        raise ValueError(f"it ended with {last!r}")
    fields = [line.split(" ", 3) for line in lines]
    return tuple(Account(service, user, int(status), words) for service, user, status, words in fields)


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
    yield from _logins(access, units, declared)
    yield from _privileges(access, mounts)
    for status, id_, path, what in (
        (access.ping, "ping-refused", "/usr/bin/ping", "an unprivileged user cannot ping"),
        (access.user, "login-refused", "user:nobody",
         "an ordinary user may not read /, /etc/passwd or /dev/urandom, or not write to /tmp, /var/tmp or /dev/null"),
    ):  # fmt: skip
        ending, _, said = status.partition("\n")
        if ending.startswith("status") and ending != "status 0":
            yield fails(id_, path, what, f"it ended with {ending}", *said.splitlines()[-3:])


def _logins(access: AccessReading, units: Mapping[str, UnitRow], declared: Sequence[str]) -> Iterator[LintFinding]:
    for path in access.nologin:
        yield fails("login-refused", path, "only root can log in: pam_nologin(8) refuses everybody else")
    refused = defaultdict[str, list[Account]](list)
    for account in filter(_is_refused, access.accounts or ()):
        refused[account.service].append(account)
    for service, accounts in refused.items():
        what = f"PAM refuses users of {service}: {', '.join(account.user for account in accounts)}"
        yield fails("login-refused", f"pam:{service}", what, *(f"{one.user}: {one.words}" for one in accounts))
    for name in _consoles(declared):
        row = units.get(f"serial-getty@{name}.service")
        if row is None or row.active != "active":
            what = f"nobody can log in on the console {name}, which the kernel arguments name"
            yield fails("login-refused", f"unit:serial-getty@{name}.service", what, row.active if row else "not loaded")
    gettys = [row for row in units.values() if "getty@" in row.id or row.id == "console-getty.service"]
    if gettys and not any(row.active == "active" for row in gettys):
        lines = sorted({f"{row.id}: {row.active}" for row in gettys})
        yield fails("login-refused", "unit:getty.target", "nobody can log in on a console: no getty runs", *lines)


def _is_refused(account: Account) -> bool:
    """A site may refuse others than root."""
    return account.status in _BROKEN or (account.user == "root" and account.status != 0)


def _privileges(access: AccessReading, mounts: Sequence[Mount]) -> Iterator[LintFinding]:
    for path, has_it in access.set_uid.items():
        inside = [mount for mount in mounts if f"{path}/".startswith(f"{mount.place.rstrip('/')}/")]
        if not has_it:
            yield fails("setid-lost", path, "it needs setuid, and does not have it on this host")
        elif inside and "nosuid" in max(enumerate(inside), key=lambda one: (len(one[1].place), one[0]))[1].options:
            yield fails("setid-lost", path, "it needs setuid, and its file system is mounted nosuid")
    for path in access.gained:
        yield fails("setid-unexpected", path, "it has setuid or setgid since this boot, and the image's file has not")
    for line in access.capable or ():
        path, _, capabilities = line.rpartition(" ")
        what = "it has capabilities since this boot, and the image's file has not"
        yield fails("setid-unexpected", path, what, capabilities)


def _consoles(arguments: Sequence[str]) -> Iterator[str]:
    """The serial ones, on which systemd-getty-generator(8) starts a login."""
    for argument in arguments:
        if found := _CONSOLE.fullmatch(argument):
            yield found[1]


def unchecked(access: AccessReading) -> Iterator[str]:
    if access.capable is None:
        yield "whether files have capabilities since this boot: the image has no getcap(8)"
    if access.user.startswith("absent"):
        yield "what an ordinary user may do: the image has no setpriv(1)"
    if access.accounts is None:
        yield "whether PAM lets users in: the image has no Python, or no PAM"
    if access.ping.startswith("absent"):
        yield f"whether an unprivileged user can ping: the image has no {access.ping.split()[1]}"
