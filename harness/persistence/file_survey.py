"""File surveys: files with every attribute that a file system has, put into persistent paths and compared later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.machine.verbs import GuestVerbs
from harness.persistence.guest_python import read_json, run_python

FOLDER = "bootproof-survey"
_COMMON = (
    f"""
FOLDER = {FOLDER!r}
"""
    + """
import grp, hashlib, json, os, pwd, stat, struct, sys

def name(find, number):
    try:
        return find(number)[0]
    except KeyError:
        return None

def entry(path):
    seen = os.lstat(path)
    row = {
        "mode": stat.filemode(seen.st_mode),
        "owner": [name(pwd.getpwuid, seen.st_uid), seen.st_uid],
        "group": [name(grp.getgrgid, seen.st_gid), seen.st_gid],
        "links": seen.st_nlink,
        "modified_ns": seen.st_mtime_ns,
        "attributes": {key: os.getxattr(path, key, follow_symlinks=False).hex()
                       for key in os.listxattr(path, follow_symlinks=False)},
    }
    if stat.S_ISLNK(seen.st_mode):
        row["target"] = os.readlink(path)
    if stat.S_ISREG(seen.st_mode):
        row["inode"] = seen.st_ino
        row["blocks"] = seen.st_blocks
        row["content"] = hashlib.sha256(open(path, "rb").read()).hexdigest()
    return row

def survey(location):
    top = os.path.join(os.path.realpath(location), FOLDER)
    names = [top] + [os.path.join(at, name) for at, folders, files in os.walk(top) for name in folders + files]
    return {os.path.join(location, FOLDER, os.path.relpath(path, top)): entry(path) for path in names}
"""
)
_MAKE = """
def make(location):
    top = os.path.join(os.path.realpath(location), FOLDER)
    os.mkdir(top, 0o750)
    def at(name):
        return os.path.join(top, name)
    with open(at("file"), "wb") as file:
        file.write(os.urandom(10000))
    os.chmod(at("file"), 0o640)
    owner = next((user for user in pwd.getpwall() if 0 < user.pw_uid < 65534 and user.pw_name != "sync"), None)
    if owner:
        os.chown(at("file"), owner.pw_uid, owner.pw_gid)
    os.setxattr(at("file"), "user.bootproof", b"kept")
    # POSIX ACL, version 2 (acl(5), linux/posix_acl_xattr.h): user::rw- user:1234:r-- group::r-- mask::r-- other::---
    rows = [(1, 6, 0xFFFFFFFF), (2, 4, 1234), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    os.setxattr(at("file"), "system.posix_acl_access",
                struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows))
    os.link(at("file"), at("hard-link"))
    os.symlink("file", at("link"))
    os.mkfifo(at("fifo"), 0o600)
    with open(at("sparse"), "wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"in the middle")
    with open(at("setuid"), "wb"):
        pass
    os.chmod(at("setuid"), 0o4755)
    os.mkdir(at("sticky"))
    os.chmod(at("sticky"), 0o1777)
    os.utime(at("setuid"), ns=(1, 1234567890_123456789))
    for name in ("file", "sparse", "setuid", "."):
        descriptor = os.open(at(name), os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
"""


@dataclass(slots=True)
class FileSurvey:
    """The files in ``paths`` as they were ``recorded``; ``losses`` are sentences about what changed since."""

    paths: tuple[str, ...]
    recorded: dict[str, dict[str, object]] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)

    def make(self, machine: GuestVerbs) -> None:
        """Create the files, once in the life of a disk."""
        run_python(machine, f"{_COMMON}{_MAKE}for location in sys.argv[1:]: make(location)", self.paths)

    def record(self, machine: GuestVerbs) -> None:
        """Record the files as they are now: so they must be later."""
        self.recorded = self._survey(machine)

    def compare(self, machine: GuestVerbs, when: str) -> None:
        """Add to ``losses`` what differs from the record."""
        self.losses += [f"{when}: {one}" for one in differences(self.recorded, self._survey(machine))]

    def _survey(self, machine: GuestVerbs) -> dict[str, dict[str, object]]:
        program = f"{_COMMON}print(json.dumps({{k: v for at in sys.argv[1:] for k, v in survey(at).items()}}))"
        found: dict[str, dict[str, object]] = read_json(machine, program, self.paths)
        return found


def differences(before: dict[str, dict[str, object]], after: dict[str, dict[str, object]]) -> Iterator[str]:
    """A sentence for each path that is gone, and for each property that changed: pure."""
    for path, row in before.items():
        if path not in after:
            yield f"{path} is gone"
            continue
        for key, value in row.items():
            if after[path].get(key) != value:
                yield f"{path}: {key} was {value}, is {after[path].get(key)}"
