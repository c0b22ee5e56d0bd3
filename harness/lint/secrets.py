"""Secrets in files, and doors that stand open: passwords, sshd, setuid, writable files, sudo, polkit, sockets."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from harness.lint.finding import LintFinding, fails, warns
from harness.lint.image import Image
from harness.lint.tree import Tree
from harness.lint.units import in_boot

Findings = Iterator[LintFinding]

_SETUID, _SETGID, _STICKY, _OTHERS_WRITE, _GROUP_WRITES = 0o4000, 0o2000, 0o1000, 0o002, 0o020
_SYSTEM = ("usr/", "etc/", "boot/", "bin/", "sbin/", "lib/", "lib64/", "opt/")
_OF_PACKAGES = ("usr/bin/", "usr/sbin/", "usr/lib/", "usr/libexec/", "bin/", "sbin/", "lib/")
_OF_ROOT_TO_RUN = (
    "etc/systemd/", "etc/cron", "etc/sudoers", "etc/pam.d/", "etc/ld.so", "etc/passwd", "etc/shadow",
    "usr/bin/", "usr/sbin/", "usr/lib/", "usr/libexec/", "lib/", "boot/",
)  # fmt: skip
_OF_ROOT = (
    "etc/systemd/", "etc/sudoers", "etc/cron", "etc/pam.d/", "etc/ssh/", "etc/profile", "etc/ld.so", "etc/passwd",
    "etc/shadow", "etc/group", "etc/gshadow", "opt/",
)  # fmt: skip
_FILE = Path(__file__).with_name("setid.toml")


@dataclass(frozen=True, slots=True)
class _Rights:
    """The tables of ``setid.toml``, by the names of programs."""

    needed: Mapping[str, int]
    needed_by: Mapping[str, Mapping[str, int]]
    possible: Mapping[str, int]
    capable: Mapping[str, frozenset[str]]
    need_capabilities: frozenset[str]


@cache
def _known() -> _Rights:
    with _FILE.open("rb") as file:
        tables = tomllib.load(file)
    needed, possible = ({name: int(mode, 8) for name, mode in tables[key].items()} for key in ("needed", "possible"))
    capable = {name: frozenset(found) for name, found in tables["capable"].items()}
    by = {family: {name: int(mode, 8) for name, mode in table.items()} for family, table in tables["needed_by"].items()}
    return _Rights(needed, by, {**needed, **possible}, capable, frozenset(tables["needs_capabilities"]))


def setid(image: Image) -> Findings:
    """setuid and setgid that no package brought, and those that a package brought and that are lost."""
    known = _known().possible
    needed = {**_known().needed, **_known().needed_by.get(_family(image.root), {})}
    for path, file in image.root.files.items():
        bits = file.mode & (_SETUID | _SETGID)
        if file.kind == "file":
            name = path.rpartition("/")[2]
            given = image.rights.get(path)
            is_packaged = path.startswith(_OF_PACKAGES) and (path in image.owners or not image.owners)
            extra = bits & ~(given.mode if given else known.get(name, 0) if is_packaged else 0)
            if extra:
                word = " and ".join(word for bit, word in ((_SETUID, "setuid"), (_SETGID, "setgid")) if extra & bit)
                yield fails(
                    "setid-unexpected",
                    path,
                    f"it is {word}, which no package is known to bring",
                    f"mode {file.mode:04o}, owner {file.uid}:{file.gid}",
                )
            if (
                name in needed
                and not given
                and path.startswith(("usr/", "bin/", "sbin/"))
                and needed[name] & ~bits
                and not _is_shadowed(path)
            ):
                yield fails("setid-lost", path, f"it needs mode {needed[name] | 0o755:04o}, and has {file.mode:04o}")


def _family(tree: Tree) -> str:
    """The distribution, or the one that it comes from: os-release(5)."""
    text = tree.text("etc/os-release") or tree.text("usr/lib/os-release") or ""
    names = re.findall(r"""^(?:ID|ID_LIKE)=["']?([^"'\n]*)""", text, re.MULTILINE)
    return next((word for line in names for word in line.split() if word in _known().needed_by), "")


def package_rights(image: Image) -> Findings:
    """Programs and libraries have the mode, the owner and the capabilities that their package gave them."""
    tree, capable = image.root, image.root.capabilities
    numbers = [
        {row[0]: row[2] for line in (tree.text(file) or "").splitlines() if len(row := line.split(":")) > 2}
        for file in ("etc/passwd", "etc/group")
    ]
    for path, given in image.rights.items():
        file = tree.files.get(path)
        if file is None or file.kind != "file" or not path.startswith(_OF_PACKAGES):
            continue
        package, owner = image.owners.get(path) or "its package", (given.user, given.group)
        if lost := given.mode & ~file.mode & (_SETUID | _SETGID | 0o111):
            name = "setid-lost" if lost & (_SETUID | _SETGID) else "package-rights-changed"
            yield fails(name, path, f"{package} gave it mode {given.mode:04o}, and it has {file.mode:04o}")
        elif file.mode != given.mode:
            report = fails if file.mode & ~given.mode & (_SETUID | _SETGID | _OTHERS_WRITE) else warns
            what = f"{package} gave it mode {given.mode:04o}, and it has {file.mode:04o}"
            yield report("package-rights-changed", path, what)
        has = (str(file.uid), str(file.gid))
        wanted = tuple(table.get(name, number) for table, name, number in zip(numbers, owner, has, strict=True))
        if wanted != has:
            what = f"{package} gave it to {':'.join(owner)}, and it is of {':'.join(has)}"
            yield fails("package-rights-changed", path, what)
        if capable is not None and (missing := given.capabilities - set(capable.get(path, ()))):
            yield fails("setid-lost", path, f"it needs {', '.join(sorted(missing))}, which {package} gave it")


def capabilities(image: Image) -> Findings:
    """Capabilities that no package is known to bring, and those that are lost."""
    given = image.root.capabilities
    if given is None:
        return
    for path, found in given.items():
        name = path.rpartition("/")[2]
        is_packaged = path.startswith(_OF_PACKAGES) and (path in image.owners or not image.owners)
        known = _known().capable.get(name, frozenset()) if is_packaged else frozenset[str]()
        if extra := set(found) - (image.rights[path].capabilities if path in image.rights else known):
            yield fails(
                "setid-unexpected", path, f"it has {', '.join(sorted(extra))}, which no package is known to bring"
            )
    for path, file in image.root.files.items():
        name = path.rpartition("/")[2]
        is_candidate = (
            name in _known().need_capabilities
            and file.kind == "file"
            and path in image.owners
            and path not in image.rights
        )
        if is_candidate and file.mode & 0o111 and not file.mode & _SETUID and path not in given:
            wanted = ", ".join(sorted(_known().capable[name]))
            yield fails("setid-lost", path, f"it needs {wanted}, and has no capabilities")


def _is_shadowed(path: str) -> bool:
    """Files of this name in places from which nobody runs them."""
    return path.startswith(("usr/share/", "usr/lib/modules/", "usr/src/"))


def writable(image: Image) -> Findings:
    """Files that everybody may write, and units and their programs that others than root may."""
    for path, file in image.root.files.items():
        if file.kind == "link" or not path:
            continue
        if file.mode & _OTHERS_WRITE and file.kind in ("file", "folder", "block device", "character device"):
            if (
                file.kind == "folder"
                and file.mode & _STICKY
                and path in ("tmp", "var/tmp", "var/lock", "dev/shm", "run/lock", "var/crash")
            ):
                continue
            if file.kind == "character device" and path in (
                "dev/null",
                "dev/zero",
                "dev/full",
                "dev/random",
                "dev/urandom",
                "dev/tty",
                "dev/ptmx",
            ):
                continue
            yield fails("world-writable", path, f"everybody may write this {file.kind}", f"mode {file.mode:04o}")
        elif file.mode & _GROUP_WRITES and file.gid and path.startswith(_OF_ROOT_TO_RUN):
            yield fails(
                "world-writable",
                path,
                f"the group {file.gid} may write this {file.kind}, and root runs it",
                f"mode {file.mode:04o}",
            )


def owners(image: Image) -> Findings:
    """Files of the system that others than root own, and owners that passwd(5) does not know."""
    for path, file in image.root.files.items():
        if (
            file.uid
            and path.startswith(("usr/", "bin/", "sbin/", "lib/", "lib64/", "boot/"))
            and not path.startswith("usr/share/persist/")
        ):
            yield fails(
                "owner-wrong", path, f"the user {file.uid} owns this {file.kind} of the system", f"mode {file.mode:04o}"
            )
        elif file.uid and path.startswith(_OF_ROOT):
            yield fails(
                "owner-wrong",
                path,
                f"the user {file.uid} owns these settings of root's programs",
                f"mode {file.mode:04o}",
            )


def unknown_owners(image: Image) -> Findings:
    tree = image.root
    users, groups = (
        {line.split(":")[2] for line in (tree.text(file) or "").splitlines() if line.count(":") > 2}
        for file in ("etc/passwd", "etc/group")
    )
    for path, file in tree.files.items():
        if file.uid and path.startswith("etc/") and path not in image.owners and image.owners:
            yield fails("owner-wrong", path, f"the user {file.uid} owns these settings, and no package brought them")
    if users and groups:
        for path, file in tree.files.items():
            if str(file.uid) not in users or str(file.gid) not in groups:
                yield fails(
                    "owner-wrong",
                    path,
                    f"its owner {file.uid}:{file.gid} has no name: the next user with this number owns it",
                )


_ACCOUNTS = ("etc/shadow", "etc/passwd", "etc/gshadow", "etc/shadow-", "etc/passwd-", "etc/gshadow-")


def keys(image: Image) -> Findings:
    """Private keys and tokens, by their form; examples in files of packages are as the package brought them."""
    for tree in image.trees:
        for path, forms in tree.secrets.items():
            is_example = image.may_be_original(path) or (not image.sums and path in image.owners)
            if tree is image.root and is_example:
                continue
            for form in forms if path not in _ACCOUNTS else ():
                yield fails("secret-in-file", tree.named(path), f"it holds {form}", "(the text is not shown)")


def passwords(image: Image) -> Findings:
    for tree in image.trees:
        for file in ("etc/shadow", "etc/passwd", "etc/gshadow", "etc/shadow-", "etc/passwd-"):
            for line in (tree.text(file) or "").splitlines():
                row = line.split(":")
                if len(row) < 2 or (tree.place and file == "etc/passwd" and row[1] == "x") or not row[0]:
                    continue
                name, password = row[0], row[1]
                if file == "etc/passwd":
                    if len(row) > 2 and row[2] == "0" and name != "root":
                        yield fails("password-open", tree.named(file), f"{name} is a second root: its number is 0")
                    if password in ("x", "*", "!"):
                        continue
                if password == "" and file != "etc/gshadow":
                    report = warns if tree.place else fails  # nobody logs in to an initrd, but for its emergency shell
                    yield report("password-open", tree.named(file), f"{name} has an empty password")
                elif password.startswith(("$", "_")) or re.fullmatch(r"[A-Za-z0-9./]{13}", password):
                    yield fails(
                        "password-open",
                        tree.named(file),
                        f"{name} has a password, the same on all machines",
                        "(the hash is not shown)",
                    )
        for file in ("etc/shadow", "etc/gshadow", "etc/shadow-", "etc/gshadow-"):
            shadow = tree.files.get(file)
            if shadow and not tree.place and shadow.mode & 0o027:
                what = "others than root may read or write it"
                yield fails("password-open", file, what, f"mode {shadow.mode:04o}")


_SSHD_FILES = ("etc/ssh/sshd_config", "usr/etc/ssh/sshd_config")
_SSHD_DEFAULTS = {
    "permitrootlogin": "prohibit-password", "passwordauthentication": "yes", "permitemptypasswords": "no",
    "kbdinteractiveauthentication": "yes", "hostbasedauthentication": "no", "strictmodes": "yes",
    "permituserenvironment": "no",
}  # fmt: skip


def sshd(image: Image) -> Findings:
    """The effective configuration of sshd: the first value of a keyword counts (sshd_config(5))."""
    tree = image.root
    main = next((path for path in _SSHD_FILES if path in tree.files), _SSHD_FILES[0])
    if not tree.program("sshd") and main not in tree.files:
        return
    first, matched, wrong = dict[str, tuple[str, str]](), list[tuple[str, str, str]](), list[tuple[str, str]]()
    for path, key, rest, inside in _sshd_lines(tree, main, []):
        if inside:
            matched.append((key, " ".join(rest), path))
        elif not rest or (key in _SSHD_VALUES and rest[0].lower() not in _SSHD_VALUES[key]):
            wrong.append((path, " ".join([key, *rest])))
        else:
            first.setdefault(key, (rest[0], path))
    value = {key: first.get(key, (default, main))[0].lower() for key, default in _SSHD_DEFAULTS.items()}
    place = {key: first.get(key, ("", main))[1] for key in _SSHD_DEFAULTS}
    takes_passwords = value["passwordauthentication"] == "yes" or value["kbdinteractiveauthentication"] == "yes"
    if value["permitrootlogin"] == "yes" and takes_passwords:
        yield fails("sshd-open", place["permitrootlogin"], "root may log in with a password", "PermitRootLogin yes")
    if value["permitemptypasswords"] == "yes":
        yield fails(
            "sshd-open", place["permitemptypasswords"], "an empty password is enough", "PermitEmptyPasswords yes"
        )
    if value["hostbasedauthentication"] == "yes":
        yield fails(
            "sshd-open", place["hostbasedauthentication"], "a host's word is enough", "HostbasedAuthentication yes"
        )
    if value["strictmodes"] == "no":
        yield warns(
            "sshd-open", place["strictmodes"], "keys in files that others may write are taken", "StrictModes no"
        )
    if value["permituserenvironment"] not in ("no", ""):
        what = "a user's environment counts, such as LD_PRELOAD: forced commands do not hold"
        yield warns("sshd-open", place["permituserenvironment"], what, "PermitUserEnvironment yes")
    for key, text, file in matched:
        if (key, text.lower()) in (("permitrootlogin", "yes"), ("permitemptypasswords", "yes")):
            yield fails("sshd-open", file, f"in a Match block: {key} {text}")
    for file, line in wrong:
        yield fails("sshd-open", file, "sshd does not start: it does not know a line", line)


_MOST_INCLUDES = 500
_YES_OR_NO = ("passwordauthentication", "permitemptypasswords", "pubkeyauthentication", "usepam", "strictmodes")
_SSHD_VALUES = {
    **dict.fromkeys(_YES_OR_NO, ("yes", "no")),
    "permitrootlogin": ("yes", "no", "prohibit-password", "without-password", "forced-commands-only"),
}


_Line = tuple[str, str, list[str], bool]


def _sshd_lines(tree: Tree, path: str, included: list[str], inside: bool = False) -> Iterator[_Line]:
    """File, keyword, values, and whether it is in a Match block: it lasts to the next one, or to the end of its file.

    Include is read where it stands; ``included`` are the files that were read.
    """
    included.append(path)
    for line in (tree.text(path) or "").splitlines():
        words = line[:1000].strip().replace("=", " ", 1).replace('"', "").split()
        if not words or words[0].startswith("#"):
            continue
        key, rest = words[0].lower(), words[1:]
        if key == "match":
            inside = [word.lower() for word in rest] != ["all"]
        elif key == "include":
            for pattern in rest:
                folder, _, base = (pattern if pattern.startswith("/") else f"/etc/ssh/{pattern}").rpartition("/")
                for other in tree.inside(folder):
                    is_meant = fnmatchcase(other.rpartition("/")[2], base)
                    if is_meant and len(included) < _MOST_INCLUDES and other not in included:
                        yield from _sshd_lines(tree, other, included, inside)
        else:
            yield path, key, rest, inside


def sudo(image: Image) -> Findings:
    """sudoers(5) that packages did not bring."""
    for path in dict.fromkeys(("etc/sudoers", *image.root.inside("etc/sudoers.d"), *_included_by_sudoers(image.root))):
        file = image.root.files.get(path)
        if file is None or image.is_original(path):
            continue
        name = path.rpartition("/")[2]
        if path.startswith("etc/sudoers.d/") and ("." in name or name.endswith("~")):
            yield warns("sudo-open", path, "sudo skips a file with a dot in its name")
        if file.mode & 0o022 or file.uid:
            yield fails(
                "sudo-open", path, "others than root may write it, and sudo refuses it", f"mode {file.mode:04o}"
            )
        for line in (image.root.text(path) or "").splitlines():
            if line.lstrip().startswith(("#", "@")):
                continue
            if "NOPASSWD" in line or "!authenticate" in line:
                yield fails("sudo-open", path, "somebody becomes root without a password", line)
            elif re.match(r"\s*ALL\s+ALL\s*=", line):
                yield fails("sudo-open", path, "everybody becomes root", line)


def _included_by_sudoers(tree: Tree) -> Iterator[str]:
    """The files that sudoers(5) includes by name, and those of its folders."""
    for kind, place in re.findall(r"^[@#](include|includedir)\s+(\S+)", tree.text("etc/sudoers") or "", re.MULTILINE):
        if kind == "include" and (found := tree.resolve(place if place.startswith("/") else f"etc/{place}")):
            yield found
        elif kind == "includedir":
            yield from tree.inside(place)


def doas(image: Image) -> Findings:
    """doas.conf(5): a rule with nopass asks nobody."""
    for path in ("etc/doas.conf", *image.root.inside("etc/doas.d")):
        for line in (image.root.text(path) or "").splitlines():
            if re.match(r"\s*permit\b.*\bnopass\b", line) and not image.is_original(path):
                yield fails("sudo-open", path, "somebody becomes root without a password", line)


_LETS_IN = re.compile(
    r"\s*(auth)\s+(sufficient|binding|\[[^\]]*success=(done|end|ok)[^\]]*\])\s+(\S*/)?pam_permit\.so\b"
)


def pam(image: Image) -> Findings:
    """A line of pam.conf(5) that accepts everybody before anything else is asked."""
    for path in ("etc/pam.conf", *image.root.inside("etc/pam.d")):
        for line in (image.root.text(path) or "").splitlines():
            if _LETS_IN.match(line) and not image.is_original(path):
                yield fails("password-open", path, "everybody is let in without a password", line)


_ALLOWS = re.compile(
    r"polkit\.Result\.YES|return\s*\(?\s*[\"']yes[\"']|^\s*Result(Any|Inactive|Active)\s*=\s*yes"
    r"|<allow_(any|inactive|active)>\s*yes\s*<",
    re.MULTILINE,
)


def polkit(image: Image) -> Findings:
    """Rules of polkit(8) that packages did not bring, and that allow something without asking."""
    for path in image.root.texts:
        if re.fullmatch(
            r"(etc|usr/share|usr/local/share)/polkit-1/(rules\.d/.*\.rules|actions/.*\.policy)"
            r"|(etc|var/lib)/polkit-1/localauthority/.*\.pkla",
            path,
        ):
            text = image.root.text(path) or ""
            if (
                not image.is_original(path)
                and not (image.owners.get(path) and not path.startswith("etc/"))
                and _ALLOWS.search(text)
            ):
                lines = [
                    line.strip()
                    for line in text.splitlines()
                    if "action.id" in line or "isInGroup" in line or _ALLOWS.search(line)
                ]
                yield warns("polkit-open", path, "it allows something without a password", *lines)


_LOCAL = re.compile(r"(127\.\d+\.\d+\.\d+|\[::1\]|localhost):\d+")
_ON_NETWORK = re.compile(r"\d+|([\d.]+|\[[0-9a-fA-F:.]+(%\S+)?\]|\*):\d+(%\S+)?")


def sockets(image: Image) -> Findings:
    """Sockets that listen on the network, and that the definition does not demand."""
    demanded = {*image.definition.sockets, *image.definition.services} if image.definition else set()
    for name, (unit, _) in in_boot(image).items():
        for key in ("ListenStream", "ListenDatagram"):
            for setting in unit.all(key):
                address = setting.value
                is_listening = _ON_NETWORK.fullmatch(address) and not _LOCAL.fullmatch(address)
                if is_listening and name not in demanded and f"{name.rpartition('.')[0]}.service" not in demanded:
                    yield warns(
                        "socket-on-network",
                        setting.file,
                        f"{name} listens on the network, and the definition does not demand it",
                        f"{key}={address}",
                    )


BY_NAMES = (writable, owners)
BY_TEXTS = (setid, unknown_owners, capabilities, package_rights, passwords, sshd, sudo, doas, pam, polkit, sockets)
BY_CONTENTS = (keys, passwords)
