"""One file system as lint knows it: names, modes, owners, MD5 sums, headers of programs, and the text of settings.

All of it comes from one read, in bounded memory. Links are followed inside the tree only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from time import monotonic

from harness.lint.elf import MAGIC, Program, read_program
from harness.lint.unpacked import unpacked
from harness.packages import DATABASES, sum_algorithm
from harness.store import links
from harness.store.squashfs_tree import TreeFile

_KIB, _MIB = 1 << 10, 1 << 20
_SHOWN_EACH_S, _LEAST_PAUSE = 2.0, 10
"""Between two views of the files so far: seconds, and how often the time that the last one took."""
_TEXTS_BYTES = 256 * _MIB
"""In all. The package lists of nova-kvm have 9 MB."""
_LARGE_TEXTS = re.compile(
    "|".join(pattern for database in DATABASES for pattern in (database.owner_files, database.sum_files))
)
_TEXTS = re.compile(
    r"etc/.*|usr/etc/.*|usr/share/persist/etc/.*"
    r"|(usr/(local/)?)?lib/systemd/.*\.(conf|service|socket|target|timer|mount|automount|path|slice|swap|preset|network)"
    r"|(usr/(local/)?)?lib/(tmpfiles|sysusers|modules-load|sysctl|modprobe|environment|binfmt)\.d/.*"
    r"|usr/lib/(os-release|initrd-release|persist/config)|usr/(local/)?share/polkit-1/(rules\.d|actions)/.*"
    r"|usr/lib/dracut/modules\.d/[^/]+/[^/]+\.(service|socket|target|timer|path)"
    r"|(usr/(local/)?)?lib/credstore(\.encrypted)?/.*|boot/grub2?/.*\.cfg"
    r"|(usr/)?lib/modules/[^/]+/modules\.(dep|builtin|order|softdep)"
    r"|(var/lib/(dbus|systemd)/)?machine-id|(.*/)?\.ssh/authorized_keys2?|(.*/)?\.(netrc|pypirc|git-credentials)"
    r"|(.*/)?\.(aws|docker|kube|config/gh)/[^/]+|(root|home/[^/]+)/.*|var/spool/cron/.*|var/lib/polkit-1/.*|boot/config-.*|boot/loader/.*"
)
_DRIVERS_OF_ROOT = re.compile(r"(usr/)?lib/modules/[^/]+/kernel/fs/squashfs/squashfs\.ko(\.\w+)?")
_OWN_MODULE = re.compile(r"(usr/)?lib/modules/[^/]+/(updates|extra|misc|dkms|weak-updates)/.*\.ko(\.\w+)?")
"""Modules that no distribution's kernel package brings."""
_VERMAGIC = re.compile(rb"\0vermagic=([^\0 ]{1,128}) ")
_OPENS = re.compile(rb"lib(?:lzma|zstd|z)\.so\.[0-9.]+(?=[\0\"])")
_LIBRARY = re.compile(r".*\.so(\.[0-9.]+)*")
_SCANNED_BYTES = 1 * _MIB

SECRETS: Mapping[str, tuple[tuple[bytes, ...], str]] = {
    # form: one of these parts is in it, which is quick to see, and its whole form
    "a private key": (
        (b"PRIVATE KEY-----",),
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:\r?\n|\\n)(?:[\w-]+: [^\n]*\n)*[A-Za-z0-9+/=\s\\]{60,}",
    ),
    "a private key of PuTTY": ((b"PuTTY-User-Key-File",), r"(?m)^PuTTY-User-Key-File-\d"),
    "a private key of PGP": ((b"PGP PRIVATE KEY BLOCK",), r"(?m)^-----BEGIN PGP PRIVATE KEY BLOCK-----"),
    "a key of age": ((b"AGE-SECRET-KEY-1",), r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    "a key of AWS": ((b"AKIA", b"ASIA"), r"(?<![A-Za-z0-9])A[KS]IA[0-9A-Z]{16}(?![A-Za-z0-9])"),
    "a token of GitHub": (
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60,})(?!\w)",
    ),
    "a token of GitLab": ((b"glpat-", b"gldt-", b"glrt-"), r"(?<![A-Za-z0-9])gl(?:pat|dt|rt)-[\w-]{20,}"),
    "a token of Slack": ((b"xoxb-", b"xoxp-", b"xoxa-", b"xoxr-", b"xoxs-"), r"(?<!\w)xox[abprs]-[A-Za-z0-9-]{20,}"),
    "a key of Google": ((b"AIza",), r"(?<!\w)AIza[\w-]{35}(?![\w-])"),
    "a token of npm": ((b"npm_",), r"(?<!\w)npm_[A-Za-z0-9]{36}(?!\w)"),
    "a key of Stripe": ((b"sk_live_",), r"(?<!\w)sk_live_[A-Za-z0-9]{20,}"),
    "a token of Docker": ((b"dckr_pat_",), r"(?<!\w)dckr_pat_[\w-]{20,}"),
    "a token of DigitalOcean": ((b"dop_v1_",), r"(?<!\w)dop_v1_[0-9a-f]{64}"),
    "a token of PyPI": ((b"pypi-AgE",), r"pypi-AgE[\w-]{50,}"),
    "a token of Vault": ((b"hvs.",), r"(?<!\w)hvs\.[\w-]{24,}"),
    "a JSON Web Token": ((b"eyJ",), r"(?<!\w)eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}"),
    "a key of Google Cloud": ((b'"private_key_id"',), r'"private_key_id"\s*:\s*"[0-9a-f]{40}"'),
    "a secret key of AWS": (
        (b"secret_access_key", b"SECRET_ACCESS_KEY", b"SecretAccessKey"),
        r"(?i)secret_?access_?key[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])",
    ),
    "a key of Azure": ((b"AccountKey=", b"SharedAccessKey="), r"(?:Account|SharedAccess)Key=[A-Za-z0-9+/]{40,}={0,2}"),
    "a key of Ceph": ((b"key = AQ", b"key: AQ", b'key": "AQ'), r"key\"?\s*[=:]\s*\"?AQ[A-Za-z0-9+/]{36,}={0,2}"),
    "a key of Kubernetes": ((b"client-key-data",), r"client-key-data\s*:\s*[\"']?[A-Za-z0-9+/=]{100,}"),
    "a key of WireGuard": (
        (b"PrivateKey", b"PresharedKey"), r"(?m)^\s*(?:PrivateKey|PresharedKey)\s*=\s*[A-Za-z0-9+/]{43}=",
    ),
    "a token of a web hook": ((b"hooks.slack.com/services/",), r"hooks\.slack\.com/services/T\w+/B\w+/\w{16,}"),
    "a token of Hugging Face": ((b"hf_",), r"(?<!\w)hf_[A-Za-z0-9]{34,}(?!\w)"),
    "a key of SendGrid": ((b"SG.",), r"(?<!\w)SG\.[\w-]{22}\.[\w-]{43}(?![\w-])"),
    "a token of Grafana": ((b"glsa_",), r"(?<!\w)glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}"),
    "a token of Terraform": ((b".atlasv1.",), r"(?<!\w)[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,}"),
    "the hash of a password": (
        (b"$6$", b"$5$", b"$y$", b"$2b$", b"$2y$", b"$2a$"),
        r"\$[56]\$(?:rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43,86}"
        r"|\$y\$[./A-Za-z0-9]+\$[./A-Za-z0-9]{1,86}\$[./A-Za-z0-9]{43}|\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}",
    ),
}  # fmt: skip


def secrets_in(content: bytes) -> tuple[str, ...]:
    """The forms of `SECRETS` in a file."""
    near = (form for form, (parts, _) in SECRETS.items() if any(part in content for part in parts))
    return tuple(form for form in near if re.search(SECRETS[form][1].encode(), content))


class Stage(Enum):
    """How much of a root file system is known while it is read: the names of all files; then also the texts of
    settings, units and package databases, which are read ahead; then, again and again, also the files so far."""

    NAMES = "names"
    TEXTS = "texts"
    PASSING = "passing"


@dataclass(frozen=True)
class Tree:
    """``files`` are by their paths without the first slash, and the root has the path "". ``scripts`` maps a program
    to the words of its first line behind "#!", ``secrets`` a file to the forms of `SECRETS` in it. ``place`` is
    the prefix of its paths in findings. ``capabilities`` of programs are None if they were not read. ``made_for``
    maps modules to their kernels: those that are not compressed, or by xz or gzip and in no distribution's folder."""

    files: Mapping[str, TreeFile]
    texts: Mapping[str, bytes] = field(default_factory=dict)
    programs: Mapping[str, Program] = field(default_factory=dict)
    scripts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    secrets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    place: str = ""
    capabilities: Mapping[str, tuple[str, ...]] | None = None
    made_for: Mapping[str, str] = field(default_factory=dict)

    def named(self, path: str) -> str:
        """How findings name ``path``."""
        return f"{self.place}/{path}" if self.place else path

    def resolve(self, path: str, *, follow: bool = True) -> str | None:
        """The path of the file that ``path`` leads to through links; None if there is none. With ``follow`` false, a
        link at its end is the file."""
        return links.resolve(self.files, path, follow=follow)

    def find(self, path: str) -> TreeFile | None:
        """The file that ``path`` leads to."""
        found = self.resolve(path)
        return self.files.get(found) if found is not None else None

    def text(self, path: str) -> str | None:
        """The text of the file that ``path`` leads to; None if there is none, or if its text was not kept."""
        found = self.resolve(path)
        content = self.texts.get(found) if found is not None else None
        return None if content is None else content.decode("utf-8", "replace")

    @cached_property
    def folders(self) -> Mapping[str, tuple[str, ...]]:
        """The names in each folder."""
        inside = dict[str, list[str]]()
        for path in self.files:
            if path:
                folder, _, name = path.rpartition("/")
                inside.setdefault(folder, []).append(name)
        return {folder: tuple(sorted(names)) for folder, names in inside.items()}

    def inside(self, folder: str) -> Iterator[str]:
        """The paths of the files in the folder that ``folder`` leads to, under that folder's own name."""
        found = self.resolve(folder)
        for name in self.folders.get(found, ()) if found is not None else ():
            yield f"{found}/{name}" if found else name

    def program(
        self,
        name: str,
        folders: tuple[str, ...] = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"),
    ) -> str | None:
        """The path of a program by its full path or, as in PATH, by its name."""
        if "/" in name:
            return self.resolve(name)
        return next((found for folder in folders if (found := self.resolve(f"{folder}/{name}"))), None)


class Look:
    """Collects a `Tree` while its files are read: `squashfs_tree.Visitor`.

    ``ahead`` reads the texts of files with known sizes before the others; ``show`` gets what is known at each stage.
    """

    def __init__(
        self,
        show: Callable[[Stage, Tree], None] = lambda *_: None,
        ahead: Callable[[Mapping[str, int]], Mapping[str, bytes]] | None = None,
    ) -> None:
        self._show, self._ahead = show, ahead
        self._files: Mapping[str, TreeFile] | None = None
        self._next_s = 0.0
        self._texts = dict[str, bytes]()
        self._read_before = frozenset[str]()
        self._texts_bytes = 0
        self._programs = dict[str, Program]()
        self._scripts = dict[str, tuple[str, ...]]()
        self._secrets = dict[str, tuple[str, ...]]()
        self._made_for = dict[str, str]()

    def tree(self, files: Mapping[str, TreeFile], place: str = "") -> Tree:
        return Tree(files, self._texts, self._programs, self._scripts, self._secrets, place, made_for=self._made_for)

    def names(self, files: Mapping[str, TreeFile]) -> None:
        self._show(Stage.NAMES, self._so_far(files))
        if self._ahead:
            self._files = files
            self._read_ahead(files, self._ahead)
            self._next_s = monotonic() + _SHOWN_EACH_S

    def _read_ahead(
        self, files: Mapping[str, TreeFile], ahead: Callable[[Mapping[str, int]], Mapping[str, bytes]]
    ) -> None:
        wanted = dict[str, int]()
        for path, file in files.items():
            if file.kind == "file" and self._is_text(path, file):
                wanted[path] = file.size_bytes
                self._texts_bytes += file.size_bytes
        self._texts.update(ahead(wanted))
        self._read_before = frozenset(self._texts)
        algorithm = sum_algorithm(files)
        known = {
            path: replace(files[path], content=hashlib.new(algorithm, text).hexdigest())
            for path, text in self._texts.items()
        }
        self._show(Stage.TEXTS, self._so_far({**files, **known}))

    def _so_far(self, files: Mapping[str, TreeFile]) -> Tree:
        return self.tree({path.strip("/"): file for path, file in files.items()})

    def wants(self, path: str, file: TreeFile, head: bytes) -> bool:
        if self._files is not None and monotonic() > self._next_s:
            began_s = monotonic()
            self._show(Stage.PASSING, self._so_far(self._files))
            self._next_s = monotonic() + max(_SHOWN_EACH_S, _LEAST_PAUSE * (monotonic() - began_s))
        if head.startswith(b"#!") and file.mode & 0o111:
            self._scripts[path] = tuple(
                filter(None, re.split("[ \t]+", head[2:].split(b"\n", 1)[0].decode("utf-8", "replace")))
            )
        if head.startswith(MAGIC) or _OWN_MODULE.fullmatch(path):
            return True
        return self._is_text(path, file) or self._may_hold_secrets(path, file, head)

    def contents(self, path: str, file: TreeFile, content: bytes) -> None:
        if _OWN_MODULE.fullmatch(path) or (content.startswith(MAGIC) and path.endswith(".ko")):
            found = _VERMAGIC.search(unpacked(content) or b"")
            if found:
                self._made_for[path] = found[1].decode("ascii", "replace")
        if content.startswith(MAGIC):
            self._add_program(path, file, content)
            if not _DRIVERS_OF_ROOT.fullmatch(path):
                return
        if path not in self._read_before and self._is_text(path, file):
            self._texts[path] = content  # of an initrd: the last archive with this path counts
            self._texts_bytes += len(content)
        if self._may_hold_secrets(path, file, content):
            seen = secrets_in(content)
            if seen:
                self._secrets[path] = seen

    def _is_text(self, path: str, file: TreeFile) -> bool:
        most = 64 * _MIB if _LARGE_TEXTS.fullmatch(path) else 1 * _MIB
        wanted = _TEXTS.fullmatch(path) or _LARGE_TEXTS.fullmatch(path) or _DRIVERS_OF_ROOT.fullmatch(path)
        return bool(wanted) and file.size_bytes <= min(most, _TEXTS_BYTES - self._texts_bytes)

    def _may_hold_secrets(self, path: str, file: TreeFile, head: bytes) -> bool:
        return 0 < file.size_bytes <= _SCANNED_BYTES and b"\0" not in head[:512] and not path.endswith(".pyc")

    def _add_program(self, path: str, file: TreeFile, content: bytes) -> None:
        name = path.rpartition("/")[2]
        program = read_program(content)
        if not (file.mode & 0o111 or _LIBRARY.fullmatch(name) or program.is_core):
            return
        if name.startswith("libkmod.so"):
            mentions = tuple(sorted({found.decode() for found in _OPENS.findall(content)}))
            program = replace(program, mentions=mentions)
        self._programs[path] = program
