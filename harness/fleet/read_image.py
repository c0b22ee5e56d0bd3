"""Reads what `ImageDrivers` says from a build's files, each artifact once, and remembers it in the store."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import BoundedSemaphore

from harness.core import process, serialization
from harness.core.errors import BootproofError, HostError, UsageError
from harness.fleet.drivers import DriverTree, ImageDrivers
from harness.fleet.kernel_file import firmware_suffixes, read_kernel
from harness.fleet.modprobe import (
    FOLDERS,
    module_name,
    read_aliases,
    read_builtin_info,
    read_dependencies,
    read_rules,
    read_softdeps,
    underscored,
    underscored_pattern,
)
from harness.fleet.module_file import Info, is_zstd, isa_level, module_info, unpacked
from harness.model.artifacts import Artifacts, Manifest
from harness.model.kernel_image import kernel_version
from harness.store.initrd_tree import visit_initrd
from harness.store.links import resolve
from harness.store.rootfs_tree import root_tree
from harness.store.squashfs_tree import TreeFile
from harness.store.store import Store, note_use

_INDEXES = ("alias", "builtin", "builtin.modinfo", "builtin.alias", "dep", "softdep")
_TEXTS = re.compile(
    rf"(?:usr/)?lib/modules/[^/]+/(?:modules\.(?:{'|'.join(map(re.escape, _INDEXES))})|config)"
    rf"|(?:{'|'.join(FOLDERS)})/[^/]+\.conf|boot/config-.*|etc/fstab|(?:etc|usr/lib)/systemd/system/data\.mount"
)
_OF_DEPMOD = re.compile(r"(?:usr/)?lib/modules/([^/]+)/([^/]+)")
_MODULE = re.compile(r"(?:usr/)?lib/modules/([^/]+)/.*\.ko(?:\.(?:xz|zst|gz))?")
_PROGRAMS = re.compile(
    r"(?:usr/)?lib(?:64)?/(?:x86_64-linux-gnu/)?(?:libc\.so\.6|libc-2\.\d+\.so|ld-linux-x86-64\.so\.2|ld-2\.\d+\.so)"
    r"|(?:usr/)?lib/systemd/(?:systemd|libsystemd-(?:shared|core)-[^/]*\.so)"
)
"""Process 1 and what it loads. Every program needs them."""
_FIRMWARE = re.compile(r"(?:usr/)?lib/firmware/(?:updates/)?(.+)")
_COMPRESSED = (".zst", ".xz")
_MOST_TEXT_BYTES, _MOST_TEXTS_BYTES = 32 << 20, 128 << 20
_MOST_MODULE_BYTES = 64 << 20
_MOST_FIRMWARE = 100_000
_BATCH_BYTES = 64 << 20
_THREADS = 2
"""lzma and zlib release Python's lock."""
_DRIVEN = re.compile(r"(?:pci|usb|virtio|vmbus|xen|mmc|acpi\*?|platform|scsi):")
"""What may be the modalias of a device that a hardware profile lists."""
_PERSIST = "usr/lib/persist/config"


def read_drivers(artifacts: Artifacts, store: Store | None = None) -> ImageDrivers:
    """What the files of ``artifacts`` say; with a ``store``, from there if they were read before.

    `UsageError` for a root file system that no program here reads, or without modules, `ImageError` for damaged files.
    """
    file = store.root / "drivers" / f"{artifacts.digest}.json" if store else None
    if file:
        with suppress(OSError, ValueError, BootproofError):
            known = serialization.read(ImageDrivers, file)
            note_use(file)
            return known
    drivers = _read(artifacts)
    if store and file:
        with suppress(HostError, OSError):  # a store that cannot be written costs time, not the answer
            store.folder("drivers")
            with store.locked("drivers"):
                serialization.write(file, drivers)
    return drivers


def _read(artifacts: Artifacts) -> ImageDrivers:
    manifest = artifacts.manifest
    with artifacts.kernel.open("rb") as kernel:
        head = kernel.read(4096)
    version = manifest.kernel_version
    with suppress(BootproofError, ValueError):
        version = version or kernel_version(artifacts.kernel)
    with root_tree(artifacts.rootfs, manifest.kernel_arguments) as tree, Look() as look:
        if tree is None:
            raise UsageError(f"no program here reads {manifest.rootfs} file by file")
        root = Seen.of(tree.visit(look, algorithm="md5"), look, version)
    with Look() as look:
        initrd = Seen.of(visit_initrd(artifacts.initrd, look, algorithm="md5"), look, version)
    return image_drivers(manifest, version, root, initrd, head)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was read of one file system. ``modules`` are by path, those of the image's kernel only."""

    files: Mapping[str, TreeFile]
    texts: Mapping[str, bytes]
    modules: Mapping[str, Info]
    levels: frozenset[int] = frozenset()
    version: str = ""

    @classmethod
    def of(cls, files: Mapping[str, TreeFile], look: Look, version: str) -> Seen:
        own = {
            path: info
            for path, info in look.modules().items()
            if (found := _MODULE.fullmatch(path)) and version in ("", found[1])
        }
        plain = {path.strip("/"): file for path, file in files.items()}
        return cls(files=plain, texts=look.texts, modules=own, levels=frozenset(look.levels), version=version)

    def text(self, name: str) -> str | None:
        """The text of a file of depmod's."""
        content = self.raw(name)
        return None if content is None else content.decode("utf-8", "replace")

    def raw(self, name: str) -> bytes | None:
        for path, content in self.texts.items():
            found = _OF_DEPMOD.fullmatch(path)
            if found and found[2] == name and self.version in ("", found[1]):
                return content
        return None


def image_drivers(manifest: Manifest, version: str, root: Seen, initrd: Seen, kernel: bytes) -> ImageDrivers:
    """Pure; ``kernel`` are the first 4 KiB of the kernel's file."""
    config = _config(root, version)
    builtin, aliases, knows = _builtin(root, initrd)
    if not root.modules and not builtin:
        where = f"of {version} " if version else ""
        raise UsageError(f"{manifest.rootfs} has no kernel modules {where}in usr/lib/modules: fits cannot judge it")
    suffixes = firmware_suffixes(config, version)
    about = read_kernel(kernel)
    return ImageDrivers(
        image=manifest.image,
        version=manifest.version,
        artifacts=manifest.digest,
        kernel_version=version,
        kernel_arguments=manifest.kernel_arguments,
        root=_tree(root, frozenset(builtin), suffixes, _blacklisted(manifest.kernel_arguments, in_initrd=False)),
        initrd=_tree(initrd, frozenset(builtin), suffixes, _blacklisted(manifest.kernel_arguments, in_initrd=True)),
        builtin=builtin,
        builtin_aliases=aliases,
        knows_builtin=knows,
        cpu_level=max(root.levels | initrd.levels, default=0),
        is_efi=about.is_efi,
        is_signed=about.is_signed,
        is_netbooted="network" in manifest.dracut_modules or not manifest.dracut_modules,
        data_in=_data_in(manifest, root, initrd),
        has_config=config is not None,
    )


def _config(root: Seen, version: str) -> str | None:
    named = [content for path, content in root.texts.items() if path == f"boot/config-{version}"]
    content = named[0] if named else root.raw("config")
    return None if content is None else content.decode("utf-8", "replace")


def _builtin(*trees: Seen) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...], bool]:
    """The drivers in the kernel's file with their firmware, their aliases, and whether these are all aliases.

    Before Linux 6.18 the tables of devices are not in modules.builtin.modinfo, only what MODULE_ALIAS names.
    """
    firmware, aliases, knows = dict[str, tuple[str, ...]](), list[str](), False
    for tree in trees:
        for line in (tree.text("modules.builtin") or "").splitlines():
            if name := module_name(line):
                firmware.setdefault(name, ())
        for name, rows in read_builtin_info(tree.raw("modules.builtin.modinfo") or b"").items():
            firmware[name] = rows.get("firmware", ())
            aliases += [f"{underscored_pattern(pattern)} {name}" for pattern in rows.get("alias", ())]
            knows = knows or any(pattern.startswith("pci:") for pattern in rows.get("alias", ()))
        if listed := tree.text("modules.builtin.alias"):
            aliases += read_aliases(listed)
            knows = True
    return firmware, tuple(dict.fromkeys(filter(_DRIVEN.match, aliases))), knows


def _blacklisted(arguments: tuple[str, ...], *, in_initrd: bool) -> dict[str, str]:
    """Modules that the kernel's arguments blacklist: modprobe(8), dracut.cmdline(7)."""
    keys = {"modprobe.blacklist", "module_blacklist", *(["rd.driver.blacklist"] if in_initrd else [])}
    words = (word.partition("=") for word in arguments)
    return {
        underscored(name): f"the kernel arguments ({key}=)"
        for key, _, value in words
        if key in keys
        for name in value.split(",")
    }


def _data_in(manifest: Manifest, root: Seen, initrd: Seen) -> str:
    """Where /data is mounted. The initrds of role persist do it, others' root file systems do."""
    if "persist" in manifest.dracut_modules or _PERSIST in initrd.files:
        return "initrd"
    fstab = root.texts.get("etc/fstab", b"").decode("utf-8", "replace")
    mounts = (line.split()[1:2] for line in fstab.splitlines() if not line.lstrip().startswith("#"))
    has_unit = any(path.endswith("/data.mount") for path in root.texts)
    return "root" if has_unit or ["/data"] in mounts else ""


def _tree(seen: Seen, builtin: frozenset[str], suffixes: tuple[str, ...], blacklisted: Mapping[str, str]) -> DriverTree:
    modules = {name: info.get("firmware", ()) for path, info in seen.modules.items() if (name := module_name(path))}
    listed = seen.text("modules.alias")
    rules = read_rules({path: text.decode("utf-8", "replace") for path, text in seen.texts.items()})
    aliases = read_aliases(listed) if listed is not None else tuple(_own_aliases(seen.modules))
    firmware, unusable = _firmware(seen, suffixes)
    return DriverTree(
        modules=modules,
        aliases=tuple(dict.fromkeys(filter(_DRIVEN.match, (*rules.aliases, *aliases)))),
        softdeps={**_softdeps(seen), **rules.softdeps},
        absent=_absent(seen, modules.keys() | builtin),
        blacklisted={**rules.blacklisted, **blacklisted},
        blocked=dict(rules.blocked),
        firmware=tuple(sorted(firmware)),
        unusable=unusable,
    )


def _own_aliases(modules: Mapping[str, Info]) -> Iterator[str]:
    for path, info in modules.items():
        if name := module_name(path):
            yield from (f"{underscored_pattern(pattern)} {name}" for pattern in info.get("alias", ()))


def _softdeps(seen: Seen) -> dict[str, tuple[str, ...]]:
    if (text := seen.text("modules.softdep")) is not None:
        return read_softdeps(text)
    lines = (
        f"softdep {name} {words}"
        for path, info in seen.modules.items()
        if (name := module_name(path))
        for words in info.get("softdep", ())
    )
    return read_softdeps("\n".join(lines))


def _absent(seen: Seen, there: frozenset[str] | set[str]) -> dict[str, str]:
    """Modules that need one which is not there, themselves or by one that they need.

    depmod leaves out of modules.dep what it does not find, so what modules say themselves counts too.
    """
    needed = read_dependencies(seen.text("modules.dep") or "")
    for path, info in seen.modules.items():
        if name := module_name(path):
            own = tuple(underscored(word) for words in info.get("depends", ()) for word in words.split(",") if word)
            needed[name] = tuple(dict.fromkeys((*needed.get(name, ()), *own)))
    absent = {
        name: missing[0] for name, all_ in needed.items() if (missing := [one for one in all_ if one not in there])
    }
    users = dict[str, list[str]]()
    for name, all_ in needed.items():
        for one in all_:
            users.setdefault(one, []).append(name)
    todo = list(absent)
    while todo:
        one = todo.pop()
        for user in users.get(one, ()):
            if user not in absent:
                absent[user] = absent[one]
                todo.append(user)
    return absent


def _firmware(seen: Seen, suffixes: tuple[str, ...]) -> tuple[set[str], dict[str, str]]:
    """The firmware that the kernel can load, and what it cannot load with the reason.

    It looks below updates/VERSION, updates, VERSION and in the folder itself (drivers/base/firmware_loader/main.c).
    """
    usable, unusable, files = set[str](), dict[str, str](), seen.files
    for named, path in _named_firmware(files):
        name = named.removeprefix(f"{seen.version}/") if seen.version else named
        suffix = next((end for end in _COMPRESSED if name.endswith(end)), "")
        plain = name.removesuffix(suffix)
        target = resolve(files, path)
        if target is None:
            unusable[plain] = f"/{path} is a link to nothing"
        elif files[target].kind == "file" and suffix and suffix not in suffixes:
            unusable[plain] = f"/{path} is compressed in a way that this kernel does not read"
        elif files[target].kind == "file" and not files[target].size_bytes:
            unusable[plain] = f"/{path} is empty"
        elif files[target].kind == "file":
            usable.add(plain)
    return usable, {name: why for name, why in unusable.items() if name not in usable}


def _named_firmware(files: Mapping[str, TreeFile]) -> Iterator[tuple[str, str]]:
    """Each name below lib/firmware with its path, also through links to folders."""
    count, linked = 0, list[tuple[str, str]]()
    for path, file in files.items():
        found = _FIRMWARE.fullmatch(path)
        if not found or file.kind not in ("file", "link"):
            continue
        count += 1
        if count > _MOST_FIRMWARE:
            return
        target = resolve(files, path) if file.kind == "link" else path
        if target is not None and files[target].kind == "folder":
            linked.append((found[1], target))
        else:
            yield found[1], path
    for name, target in linked:
        for path, file in files.items():
            if path.startswith(f"{target}/") and file.kind in ("file", "link"):
                count += 1
                if count > _MOST_FIRMWARE:
                    return
                yield f"{name}/{path.removeprefix(f'{target}/')}", path


@dataclass
class Look:
    """Keeps what is needed of the files while they are read: `squashfs_tree.Visitor`. Modules are unpacked
    meanwhile."""

    texts: dict[str, bytes] = field(default_factory=dict)
    levels: set[int] = field(default_factory=set)
    _texts_bytes: int = 0
    _found: dict[str, Future[Info]] = field(default_factory=dict)
    _packed: list[tuple[str, bytes]] = field(default_factory=list)
    _packed_bytes: int = 0
    _unpacked: dict[str, Info] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS))
    _free: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(4 * _THREADS))

    def __enter__(self) -> Look:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def names(self, files: Mapping[str, TreeFile]) -> None: ...

    def wants(self, path: str, file: TreeFile, head: bytes) -> bool:  # noqa: ARG002  # its name decides
        if _MODULE.fullmatch(path) or _PROGRAMS.fullmatch(path):
            return file.size_bytes <= _MOST_MODULE_BYTES
        is_text = _TEXTS.fullmatch(path) is not None
        return is_text and file.size_bytes <= min(_MOST_TEXT_BYTES, _MOST_TEXTS_BYTES - self._texts_bytes)

    def contents(self, path: str, file: TreeFile, content: bytes) -> None:  # noqa: ARG002
        if _PROGRAMS.fullmatch(path):
            self.levels.add(isa_level(content))
        elif not _MODULE.fullmatch(path):
            self.texts[path] = content
            self._texts_bytes += len(content)
        elif is_zstd(content):
            self._packed.append((path, content))
            self._packed_bytes += len(content)
            if self._packed_bytes > _BATCH_BYTES:
                self._unpack()
        else:
            self._free.acquire()
            self._found[path] = self._pool.submit(self._info, content)

    def _info(self, content: bytes) -> Info:
        try:
            return _of_drivers(module_info(unpacked(content) or b""))
        finally:
            self._free.release()

    def _unpack(self) -> None:
        """Several files at once: zstd is a program, and starting it takes longer than unpacking a module."""
        batch, self._packed, self._packed_bytes = self._packed, [], 0
        self._unpacked |= dict(_unzstd(batch))

    def modules(self) -> dict[str, Info]:
        """What each module says, by its path; to be asked for within the block."""
        if self._packed:
            self._unpack()
        return {**self._unpacked, **{path: future.result() for path, future in self._found.items()}}


def _of_drivers(info: Info) -> Info:
    return {key: info[key] for key in ("alias", "firmware", "depends", "softdep") if key in info}


def _unzstd(batch: list[tuple[str, bytes]]) -> Iterator[tuple[str, Info]]:
    """zstd prints frames one after the other; each says how long its content is (RFC 8878, 3.1.1.1)."""
    sized = [(path, size) for path, content in batch if (size := _zstd_size(content)) is not None]
    for path, content in batch:
        if _zstd_size(content) is None:  # then where it ends among others is not known
            with _zstd([content]) as read:
                yield path, _of_drivers(module_info(read(_MOST_MODULE_BYTES)))
    known = {path for path, _ in sized}
    if sized:
        with _zstd([content for path, content in batch if path in known]) as read:
            for path, size in sized:
                yield path, _of_drivers(module_info(read(size)))


@contextmanager
def _zstd(contents: list[bytes]) -> Iterator[Callable[[int], bytes]]:
    """A reader of what the frames in all ``contents`` unpack to; behind a damaged one there is nothing more."""
    with tempfile.NamedTemporaryFile(prefix="bootproof-") as file, suppress(process.CommandFailed):
        for content in contents:
            file.write(content)
        file.flush()
        with process.reading([process.require("zstd", "zstd"), "-dcq", file.name]) as printed:
            yield printed.read


def _zstd_size(content: bytes) -> int | None:
    """The size of what the first frame unpacks to, if it says so."""
    try:
        flags = content[4]
        is_single, code = flags >> 5 & 1, flags >> 6
        width = (1 if is_single else 0, 2, 4, 8)[code]
        at = 5 + (not is_single) + (0, 1, 2, 4)[flags & 3]
        if not width:
            return None
        value = int.from_bytes(content[at : at + width], "little") + (256 if width == 2 else 0)
    except IndexError:
        return None
    return value if value <= _MOST_MODULE_BYTES * 4 else None
