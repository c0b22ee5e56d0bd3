"""It cannot boot, or its parts are not of one build: kernel, modules, initrd, folders, programs and their libraries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from hashlib import sha1
from pathlib import PurePosixPath

from harness.lint.elf import Program
from harness.lint.finding import LintFinding, fails, warns
from harness.lint.image import Image
from harness.lint.libraries import find_library, search_folders
from harness.lint.tree import Tree
from harness.lint.unpacked import unpacked

Findings = Iterator[LintFinding]

_FOLDERS = {
    # path: mode; the root's own folder has the path ""
    "": 0o755, "proc": None, "sys": None, "dev": None, "run": 0o755, "tmp": 0o1777, "var/tmp": 0o1777,
    "etc": 0o755, "usr": 0o755, "var": 0o755, "root": None,
}  # fmt: skip
_OPTIONAL = {"var/tmp"}
_LINKS = {"var/run": "run", "var/lock": "run/lock"}
_MERGED = ("bin", "sbin", "lib", "lib64")
_MODULES = ("usr/lib/modules", "lib/modules")
_MODULE = re.compile(r".*\.ko(\.(?:xz|zst|gz))?")
_INDEXES = ("modules.dep.bin", "modules.alias.bin", "modules.symbols.bin")
_INITS = ("sbin/init", "usr/sbin/init", "usr/lib/systemd/systemd")
_IN_THE_WAY = re.compile(r"(usr/)?(local/)?s?bin/.*|(usr/)?lib/(systemd|udev|dracut)/.*|(usr/)?lib/[^/]*/?security/.*")
"""Programs that a boot may run; all others are told of as warnings."""
_OF_NO_PACKAGE = ("opt/", "srv/", "usr/local/")
_READERS = {  # what the squashfs driver takes from the kernel for each compression: Linux, fs/squashfs/*_wrapper.c
    "gzip": b"zlib_inflate", "lzo": b"lzo1x_decompress_safe", "xz": b"xz_dec_run", "lz4": b"LZ4_decompress_safe",
    "zstd": b"zstd_",
}  # fmt: skip
_MODULE_READERS = {".xz": ("liblzma.so.5", "xz"), ".zst": ("libzstd.so.1", "zstd"), ".gz": ("libz.so.1", "gzip")}


# What the names show


def folders(image: Image) -> Findings:
    """Type, owner and mode of the folders that every boot needs."""
    for path, mode in _FOLDERS.items():
        file = image.root.files.get(path)
        if file is None:
            if path not in _OPTIONAL:
                yield fails("folder-wrong", path, "the folder is missing")
        elif file.kind != "folder":
            yield fails("folder-wrong", path, f"it is a {file.kind}, not a folder")
        elif file.uid or (mode is not None and file.mode != mode):
            wanted = f"owner 0 and mode {mode or file.mode:04o}"
            yield fails("folder-wrong", path, f"it has owner {file.uid} and mode {file.mode:04o}, not {wanted}")
    for path, target in _LINKS.items():
        file = image.root.files.get(path)
        if file and file.kind == "folder":
            yield fails("folder-wrong", path, f"it is a folder, not a link to /{target}: services look in both")


def merged_usr(image: Image) -> Findings:
    for name in _MERGED:
        file = image.root.files.get(name)
        if file and file.kind == "folder" and f"usr/{name}" in image.root.files:
            yield fails("usr-not-merged", name, f"it is a folder beside /usr/{name}, not a link to it")
        elif file and file.kind == "link" and image.root.resolve(name) != f"usr/{name}":
            yield fails("usr-not-merged", name, f"it leads to {file.target}, not to usr/{name}")
        elif not file and name != "lib64" and f"usr/{name}" in image.root.files:
            yield fails("usr-not-merged", name, f"there is no link to /usr/{name}")


def init(image: Image) -> Findings:
    found = next((path for path in _INITS if image.root.find(path)), None)
    if found is None:
        yield fails("init-missing", "sbin/init", "there is no program for process 1", f"searched: {', '.join(_INITS)}")
    elif image.root.find("sbin/init") is None:
        yield fails("init-missing", "sbin/init", f"it is missing, or leads to nothing, beside /{found}")
    elif not (image.root.find(found) or image.root.files[""]).mode & 0o111:
        yield fails("init-missing", found, "the program for process 1 is not executable")


def modules_of_the_kernel(image: Image) -> Findings:
    """The modules are those of the kernel that the manifest names, and of no other."""
    yield from _modules_of(image.root, image.manifest.kernel_version, _INDEXES)


def _modules_of(tree: Tree, version: str, indexes: tuple[str, ...]) -> Findings:
    folder = next((folder for folder in _MODULES if tree.find(folder)), None)
    if folder is None or not version:
        if version and not tree.place:
            yield fails("modules-of-another-kernel", _MODULES[0], f"there are no modules, and the kernel is {version}")
        return
    found = {PurePosixPath(path).name for path in tree.inside(folder)}
    if version not in found:
        what = f"there are no modules of the kernel {version}"
        yield fails(
            "modules-of-another-kernel", tree.named(folder), what, f"there are: {', '.join(sorted(found)) or 'none'}"
        )
    for other in sorted(found - {version}):
        if any(_MODULE.fullmatch(path) for path in tree.files if f"modules/{other}/" in path):
            yield warns(
                "modules-of-another-kernel",
                tree.named(f"{folder}/{other}"),
                f"modules of a kernel that is not {version}",
            )
    for name in indexes if version in found else ():
        index = tree.find(f"{folder}/{version}/{name}")
        if index is None or not index.size_bytes:
            what = f"the index {name} is {'empty' if index else 'missing'}"
            yield fails("modules-not-indexed", tree.named(f"{folder}/{version}/{name}"), what)


# What the contents show


def modules_indexed(image: Image) -> Findings:
    """modules.dep lists exactly the modules that are there."""
    for tree in image.trees:
        places = (tree.resolve(f"{folder}/{image.manifest.kernel_version}") for folder in _MODULES)
        folder = next(filter(None, places), None)
        listed_text = tree.text(f"{folder}/modules.dep") if folder else None
        if folder is None or listed_text is None:
            continue
        listed = {line.partition(":")[0] for line in listed_text.splitlines() if line}
        there = {
            path.removeprefix(f"{folder}/")
            for path in tree.files
            if path.startswith(f"{folder}/") and _MODULE.fullmatch(path)
        }
        for what, names in (
            ("lists modules that are not there", listed - there),
            ("lacks modules that are there", there - listed),
        ):
            if names:
                first = sorted(names)
                text = f"it {what}: {len(names):,}"
                yield fails("modules-not-indexed", tree.named(f"{folder}/modules.dep"), text, *first)


def kernel(image: Image) -> Findings:
    """The kernel is of the manifest's version, and the file that the package of the modules brought."""
    version = image.manifest.kernel_version
    if image.kernel_banner and version and image.kernel_banner.split(" ")[0] != version:
        what = f"it is the kernel {image.kernel_banner.split(' ')[0]}, and the manifest says {version}"
        yield fails("kernel-differs", "kernel:vmlinuz", what, image.kernel_banner)
        return
    packaged = image.sums.get(f"boot/vmlinuz-{version}")
    if packaged and packaged != image.kernel_digest:
        package = image.owners.get(f"boot/vmlinuz-{version}", "its package")
        what = f"it is not the kernel that {package} brought with the modules"
        yield fails("kernel-differs", "kernel:vmlinuz", what, image.kernel_banner)


def initrd(image: Image) -> Findings:
    """The initrd has an init, modules of the kernel, and the root's name, version and programs."""
    tree = image.initrd
    if tree is None:
        return
    if not any(tree.find(path) for path in ("init", *_INITS)):
        yield fails("init-missing", tree.named("init"), "the initrd has no program for process 1")
    yield from _modules_of(tree, image.manifest.kernel_version, ("modules.dep.bin",))
    differing = [
        path for path, file in tree.files.items()
        if _MODULE.fullmatch(path) and (other := image.root.find(path)) and file.content != other.content
    ]  # fmt: skip
    if differing:
        what = f"{len(differing):,} modules differ from those of the root file system"
        yield fails("initrd-of-another-build", tree.named(differing[0]), what, *sorted(differing))
    inside, outside = (_release(tree, "usr/lib/initrd-release"), _release(image.root, "usr/lib/os-release"))
    for key in ("IMAGE_ID", "IMAGE_VERSION"):
        if key in inside and key in outside and inside[key] != outside[key]:
            what = f"{key} is {inside[key]}, and the root file system's is {outside[key]}"
            yield fails("initrd-of-another-build", tree.named("usr/lib/initrd-release"), what)
    yield from _same_systemd(tree, image.root)


def _same_systemd(initrd: Tree, root: Tree) -> Findings:
    pattern = re.compile(r".*/libsystemd-shared-(.+)\.so")
    versions = [
        {found[1]: path for path in tree.files if (found := pattern.fullmatch(path))} for tree in (initrd, root)
    ]
    if all(versions) and not versions[0].keys() & versions[1].keys():
        path, other = next(iter(versions[0].values())), next(iter(versions[1].values()))
        yield fails(
            "initrd-of-another-build", initrd.named(path), f"the root file system has {PurePosixPath(other).name}"
        )


def _release(tree: Tree, path: str) -> dict[str, str]:
    lines = (line.partition("=") for line in (tree.text(path) or "").splitlines())
    return {key.strip(): value.strip().strip("\"'") for key, equals, value in lines if equals}


def os_release(image: Image) -> Findings:
    """os-release(5) is there, and names the image and the version of the manifest."""
    found = _release(image.root, "etc/os-release") or _release(image.root, "usr/lib/os-release")
    if not found.get("ID"):
        yield fails("os-release-wrong", "usr/lib/os-release", "it is missing, or has no ID")
        return
    if image.root.find("etc/os-release") is None:
        yield fails("os-release-wrong", "etc/os-release", "it is missing, or leads to nothing")
    manifest = image.manifest
    wanted = {"IMAGE_ID": manifest.image, "IMAGE_VERSION": manifest.version} if manifest.is_ours else {}
    for key, value in wanted.items():
        if value and found.get(key) != value:
            what = f"{key} is {found.get(key) or 'missing'}, and the manifest says {value}"
            yield fails("os-release-wrong", "usr/lib/os-release", what)


def compressions(image: Image) -> Findings:
    """The kernel reads the root's compression; kmod reads that of the modules."""
    yield from _squashfs(image)
    for tree in image.trees:
        yield from _kmod(tree)


def _squashfs(image: Image) -> Findings:
    """The driver is a module of initrd or root; one that is built in shows its compressions in the configuration."""
    reader = _READERS.get(image.compression)
    version = image.manifest.kernel_version
    config = image.root.text(f"boot/config-{version}") or image.root.text(f"lib/modules/{version}/config")
    if config and image.compression:
        option = {"gzip": "ZLIB"}.get(image.compression, image.compression.upper())
        if "CONFIG_SQUASHFS=" in config and f"CONFIG_SQUASHFS_{option}=y" not in config:
            what = f"the root file system is compressed with {image.compression}, which this kernel does not read"
            yield fails(
                "compression-unreadable", f"boot/config-{version}", what, f"CONFIG_SQUASHFS_{option} is not set"
            )
        return
    for tree in image.trees[::-1]:
        for path, content in tree.texts.items():
            driver = unpacked(content) if "/squashfs.ko" in path else None
            if driver is None or reader is None:
                continue
            if reader not in driver:
                what = f"it does not read {image.compression}, with which the root file system is compressed"
                yield fails("compression-unreadable", tree.named(path), what)
            return


def driver_of_root(image: Image) -> Findings:
    """The initrd has the driver of the root file system, unless the kernel has it built in."""
    version, tree = image.manifest.kernel_version, image.initrd
    listed = image.root.text(f"lib/modules/{version}/modules.builtin")
    if tree is None or listed is None or not image.compression or re.search(r"/squashfs\.ko", listed):
        return
    is_there = any("/squashfs.ko" in path for path in image.root.files)
    if is_there and not any("/squashfs.ko" in path for path in tree.files):
        what = f"it lacks the module squashfs of {version}, without which it cannot mount the root file system"
        yield fails("driver-missing", tree.named(f"usr/lib/modules/{version}"), what)


def modules_of_this_kernel(image: Image) -> Findings:
    """Modules that were made for another kernel, in the folder of this one: modprobe refuses them (vermagic)."""
    version = image.manifest.kernel_version
    for tree in image.trees:
        for path, made_for in tree.made_for.items():
            if version and f"/modules/{version}/" in path and made_for != version:
                yield fails("modules-of-another-kernel", tree.named(path), f"it was made for the kernel {made_for}")


def _kmod(tree: Tree) -> Findings:
    suffixes = {found[1] for path in tree.files if (found := _MODULE.fullmatch(path)) and found[1]}
    libraries = {path: program for path, program in tree.programs.items() if "/libkmod.so" in path}
    for path, program in libraries.items():
        for suffix in suffixes:
            soname, name = _MODULE_READERS[suffix]
            if soname not in (*program.needed, *program.mentions):
                yield fails(
                    "compression-unreadable",
                    tree.named(path),
                    f"it does not read modules compressed with {name} ({suffix})",
                )
            elif not find_library(tree, soname, program, search_folders(tree)):
                yield fails(
                    "compression-unreadable",
                    tree.named(path),
                    f"{soname} is missing, which reads modules compressed with {name}",
                )


def programs(image: Image) -> Findings:
    """Programs are whole, of the right architecture, and have their dynamic loader and all libraries."""
    for tree in image.trees:
        machine, folders = _machine(tree), search_folders(tree)
        loaded, sonames = set[str](), set[str]()
        for path, program in tree.programs.items():
            for library in program.needed:
                if found := find_library(tree, library, program, folders, path):
                    loaded.add(found)
                    sonames.add(library)
        for path, program in tree.programs.items():
            is_in_the_way = _IN_THE_WAY.fullmatch(path) is not None
            report = fails if is_in_the_way or tree.place else warns
            if program.damage and not program.is_core:
                yield report("program-damaged", tree.named(path), program.damage)
            elif machine and program.machine != machine[0] and (is_in_the_way or path.startswith(_OF_NO_PACKAGE)):
                what = f"it is a program for {program.machine}, and process 1 is for {machine[0]}"
                yield report("wrong-architecture", tree.named(path), what)
            elif machine == (program.machine, program.bits) and (
                program.interpreter or (image.is_whole and (is_in_the_way or path in loaded))
            ):
                yield from _loads(tree, path, program, folders, set() if program.interpreter else sonames)
        yield from _empty(tree)


def _machine(tree: Tree) -> tuple[str, int] | None:
    for path in ("usr/lib/systemd/systemd", *_INITS, "usr/bin/bash", "usr/bin/busybox"):
        found = tree.resolve(path)
        if found and found in tree.programs and not tree.programs[found].damage:
            return tree.programs[found].machine, tree.programs[found].bits
    return None


def _empty(tree: Tree) -> Findings:
    for path, file in tree.files.items():
        if file.kind == "file" and not file.size_bytes and file.mode & 0o111 and _IN_THE_WAY.fullmatch(path):
            yield fails("program-damaged", tree.named(path), "it is executable, and empty")


def _loads(tree: Tree, path: str, program: Program, folders: tuple[str, ...], loaded: Set[str]) -> Findings:
    """``loaded`` are libraries that the loading program or library has found in its own folders."""
    report = fails if _IN_THE_WAY.fullmatch(path) or tree.place else warns
    if program.interpreter and not tree.find(program.interpreter):
        yield report("interpreter-missing", tree.named(path), f"its dynamic loader {program.interpreter} is missing")
    for library in program.needed:
        if library not in loaded and not find_library(tree, library, program, folders, path):
            yield report("library-missing", tree.named(path), f"its library {library} is missing")


def scripts(image: Image) -> Findings:
    """The interpreter of each script that a boot may run is there."""
    for tree in image.trees:
        for path, words in tree.scripts.items():
            is_own = path.startswith(("etc/", "usr/libexec/", "opt/")) and not image.may_be_original(path)
            if not (_IN_THE_WAY.fullmatch(path) or is_own):
                continue
            name, rest = (words[0] if words else ""), words[1:]
            report = warns if tree.place else fails
            if not name or not tree.find(name):
                yield report(
                    "interpreter-missing",
                    tree.named(path),
                    f"its interpreter {name or '(none)'} is missing",
                    f"#!{' '.join(words)}",
                )
            elif PurePosixPath(name).name == "env":
                program = next((word for word in rest if not word.startswith("-") and "=" not in word), "")
                if program and not tree.program(program):
                    yield report(
                        "interpreter-missing",
                        tree.named(path),
                        f"its interpreter {program} is missing",
                        f"#!{' '.join(words)}",
                    )


_NOT_INSTALLED = re.compile(r"usr/share/(doc|man|info|locale|lintian|help|gnome/help|bug|doc-base|menu|omf|linda)/.*")
"""What builders leave out to save space."""
_MADE_ANEW = re.compile(r"(usr/)?lib/modules/[^/]+/modules\..*|boot/.*|usr/lib/os-release|.*\.pyc|etc/.*")


def packages(image: Image) -> Findings:
    """Files that differ from what their package brought, unless they are the definition's own."""
    missing = dict[str, list[str]]()
    for path, digest in image.sums.items():
        if _MADE_ANEW.fullmatch(path) or _NOT_INSTALLED.fullmatch(path):
            continue
        file = image.root.files.get(path)
        if file is None or file.kind == "link":
            file = image.root.find(path)
            if _is_link_of(image.root, path, digest):
                continue
        package = image.owners.get(path, "a package")
        if file is None:
            missing.setdefault(package, []).append(path)
        elif file.kind == "file" and file.content and file.content != digest and file.content not in image.own:
            what = f"it is not the file that {package} brought"
            if file.size_bytes == 0:
                what = f"it is empty, and {package} brought contents"
            yield fails("package-file-changed", path, what, f"digest {file.content}, by the package {digest}")
    for package, paths in missing.items():
        what = f"{package} brought it, and it is missing" + (
            f", as {len(paths) - 1:,} more of its files" if paths[1:] else ""
        )
        yield fails("package-file-changed", paths[0], what, *paths[1:])


def _is_link_of(tree: Tree, path: str, digest: str) -> bool:
    """apk has the SHA-1 of a link's target as the digest of the link."""
    name = tree.resolve(path, follow=False)
    link = tree.files.get(name) if name is not None else None
    return link is not None and link.kind == "link" and sha1(link.target.encode()).hexdigest() == digest


BY_NAMES = (folders, merged_usr, init, modules_of_the_kernel)
BY_TEXTS = (kernel, os_release, modules_indexed, packages)
BY_CONTENTS = (
    initrd, modules_indexed, compressions, driver_of_root, modules_of_this_kernel, programs, scripts, packages,
)  # fmt: skip
