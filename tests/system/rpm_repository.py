"""A signed RPM repository with a small bootable system, made of Debian's binaries: each package becomes an RPM.

`make_repository` needs root, rpmbuild, rpmsign, createrepo_c and gpg. The system is `base`, named as RPM families name
it: the kernel lies at /usr/lib/modules/VERSION/vmlinuz in ``kernel-core``, sshd's unit is ``sshd.service``, and rpm
keeps its database in /usr/lib/sysimage/rpm. The package ``rpm`` is in it too.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.build import bootstrap
from harness.model.definition import ImageDefinition
from harness.packages.dpkg import Dpkg
from harness.store.store import Store

_NOT_WRAPPED = {"apt", "debconf", "dpkg", "ucf", "debian-archive-keyring", "base-passwd"}
"""Package managers of Debian, and what only maintainer scripts need."""
_LEFT_OUT = re.compile(
    r"(usr/share/(doc|man|locale|info)|var/lib/(dpkg|apt|ucf)|var/cache|boot|vmlinuz.*|initrd.*)(/.*)?"
    r"|var/log/(btmp|lastlog|wtmp)"
)
_SETUP, _SKELETON = "setup", "filesystem"
"""Users and groups, which must be there first; all folders, and the files that maintainer scripts made."""
_ADDRESS = "wrapped@example.org"
_DEFINES = {
    "_topdir": "{folder}/rpmbuild",
    "_binary_payload": "w1.zstdio",
    "_buildhost": "localhost",
    "debug_package": "%{{nil}}",
    "__os_install_post": "%{{nil}}",
    "_build_id_links": "none",
    "_unpackaged_files_terminate_build": "0",
    "source_date_epoch_from_changelog": "0",
}


@dataclass(frozen=True)
class Repository:
    """``folder`` holds the RPMs and their ``repodata``, ``key`` is the file with the public key."""

    folder: Path
    key: Path
    home: Path

    def index(self) -> None:
        """Describe the RPMs that are in the folder now, and sign the description."""
        _run("createrepo_c", "--quiet", "--general-compress-type=gz", str(self.folder))
        self.sign_index()

    def sign_index(self) -> None:
        repomd = self.folder / "repodata" / "repomd.xml"
        repomd.with_name("repomd.xml.asc").unlink(missing_ok=True)
        _run("gpg", "--homedir", str(self.home), "--batch", "--detach-sign", "--armor", str(repomd))


def make_repository(base: ImageDefinition, store: Store, folder: Path) -> Repository:
    """Make it in the new ``folder``, of what the definition ``base`` is built of."""
    folder.mkdir()
    definition = replace(base, packages=(*base.packages, "rpm"))
    with store.writable(), store.locked(f"debs-{definition.suite}"):
        bootstrap.bootstrap(definition, store, folder, mirror=None, log=folder / "bootstrap.log")
    _rename(folder / "tree")
    spec = folder / "wrapped.spec"
    spec.write_text("".join(_spec(folder / "tree")), "utf-8", "surrogateescape")
    defines = [f"--define={name} {value.format(folder=folder)}" for name, value in _DEFINES.items()]
    _run("rpmbuild", "-bb", "--quiet", "--noclean", *defines, str(spec))
    repository = Repository(folder / "repository", folder / "RPM-GPG-KEY-wrapped", make_key(folder / "gnupg"))
    (folder / "rpmbuild" / "RPMS" / "x86_64").rename(repository.folder)
    repository.key.write_bytes(_run("gpg", "--homedir", str(repository.home), "--armor", "--export"))
    sign(repository.home, *sorted(repository.folder.glob("*.rpm")))
    repository.index()
    stop_agent(repository.home)
    return repository


def make_key(home: Path) -> Path:
    """A throw-away key without passphrase in the new GnuPG home."""
    home.mkdir(mode=0o700)
    key = ["--quick-generate-key", f"Wrapped <{_ADDRESS}>", "rsa3072", "sign", "never"]
    _run("gpg", "--homedir", str(home), "--batch", "--passphrase", "", *key)
    return home


def sign(home: Path, *packages: Path) -> None:
    """Sign the packages, in place of any signature that they have."""
    _rpmsign(home, "--addsign", *packages)


def unsign(home: Path, *packages: Path) -> None:
    _rpmsign(home, "--delsign", *packages)


def _rpmsign(home: Path, action: str, *packages: Path) -> None:
    defines = {"_gpg_path": home, "_gpg_name": _ADDRESS, "__gpg": "/usr/bin/gpg", "_dbpath": home / "rpmdb"}
    _run("rpmsign", action, *(f"--define={name} {value}" for name, value in defines.items()), *map(str, packages))


def stop_agent(home: Path) -> None:
    """gpg leaves an agent behind."""
    _run("gpgconf", "--homedir", str(home), "--kill", "gpg-agent")


def _run(*argv: str) -> bytes:
    done = subprocess.run(argv, check=False, capture_output=True)
    assert done.returncode == 0, f"{argv[:6]}: {done.stderr.decode('utf-8', 'replace')[-3000:]}"
    return done.stdout


def _rename(tree: Path) -> None:
    """Give files the names that they have in RPM families."""
    for kernel in (tree / "boot").glob("vmlinuz-*"):
        kernel.rename(tree / "usr/lib/modules" / kernel.name.removeprefix("vmlinuz-") / "vmlinuz")
    units = tree / "usr/lib/systemd/system"
    text = (units / "ssh.service").read_text("utf-8")
    (units / "ssh.service").unlink()
    (units / "sshd.service").write_text(text.replace("Alias=sshd.service\n", ""), "utf-8")
    links = (tree / "etc/systemd/system").rglob("ssh*.service")
    scripts = [tree / "etc/init.d/ssh", *tree.glob("etc/rc?.d/*ssh")]  # systemd would make ssh.service of it
    for path in (*links, *scripts):
        path.unlink()
    (tree / "etc/rpm").mkdir(exist_ok=True)
    (tree / "etc/rpm/macros.dbpath").write_text("%_dbpath /usr/lib/sysimage/rpm\n", "utf-8")


def _spec(tree: Path) -> Iterator[str]:
    """One spec with a subpackage for each package of Debian."""
    status = (tree / "var/lib/dpkg/status").read_text("utf-8")
    packages = dict(_packages(status))
    files = _files_by_package(tree, packages)
    yield "Name: wrapped\nVersion: 1\nRelease: 1\nSummary: Debian's binaries\nLicense: various\n"
    yield f"%description\nNone.\n%install\nrm -rf %{{buildroot}}\nmv {tree} %{{buildroot}}\n"
    versions = {name: fields["Version"] for name, fields in packages.items()}
    providers = _providers(packages)
    essential = [name for name, fields in packages.items() if fields.get("Essential") == "yes"]
    for release in ("fedora-release", "centos-stream-release", "openSUSE-release"):
        versions[release] = "1-1"
    for name, version in {_SETUP: "1-1", _SKELETON: "1-1", **versions}.items():
        needs = _needs(packages.get(name, {}), providers)
        yield from _package(name, version, [*needs, *(essential if name == "systemd" else [])])
        yield "".join([f"%files -n {_name(name)}\n", *files.get(name, [])])


def _packages(status: str) -> Iterator[tuple[str, dict[str, str]]]:
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Package", "apt") not in _NOT_WRAPPED:
            yield fields["Package"], fields


def _name(package: str) -> str:
    return "kernel-core" if re.match(r"linux-image-\d", package) else package


def _needs(fields: dict[str, str], providers: dict[str, str]) -> list[str]:
    """The first of each group of alternatives that a package provides."""
    groups = [fields[key] for key in ("Depends", "Pre-Depends") if key in fields]
    names = [re.findall(r"(?:^|\|)\s*([^\s|(:]+)", group) for group in ",".join(groups).split(",")]
    return [
        next(providers[name] for name in group if name in providers) for group in names if set(group) & set(providers)
    ]


def _providers(packages: dict[str, dict[str, str]]) -> dict[str, str]:
    virtual = {
        name: package
        for package, fields in packages.items()
        for name in re.findall(r"(?:^|, )([^\s,(]+)", fields.get("Provides", ""))
    }
    return virtual | {package: package for package in packages}


def _package(name: str, version: str, needs: list[str]) -> Iterator[str]:
    epoch, _, rest = version.rpartition(":")
    upstream, _, release = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    yield f"\n%package -n {_name(name)}\nSummary: {name}\nVersion: {upstream.replace('-', '.')}\nRelease: {release}\n"
    yield f"Epoch: {epoch}\n" if epoch else ""
    yield "AutoReqProv: no\n"
    yield "Provides: /bin/sh\n" if name == "dash" else ""
    if name != _SETUP:
        yield f"Requires(pre): {_SETUP if name == _SKELETON else _SKELETON}\n"
        yield from (f"Requires: {_name(need)}\n" for need in dict.fromkeys(needs))
    yield f"%description -n {_name(name)}\nNone.\n"
    if _name(name) != name:
        yield f"%posttrans -n {_name(name)}\n"
        yield f"test -e /proc/self/status && depmod {name.removeprefix('linux-image-')} >/dev/null\n"


def _files_by_package(tree: Path, packages: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    info = tree / "var/lib/dpkg/info"
    lists = {f"var/lib/dpkg/info/{path.name}": path.read_bytes() for path in info.glob("*.list")}
    links = {path.name: os.readlink(path) for path in tree.iterdir() if path.is_symlink()}
    owners = Dpkg().owners(lists, links)
    users, groups = _names(tree / "etc/passwd"), _names(tree / "etc/group")
    renamed = {"usr/lib/systemd/system/sshd.service": "openssh-server"}
    files = defaultdict[str, list[str]](list)
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if _LEFT_OUT.fullmatch(name) and name != "boot":
            continue
        of, seen = renamed.get(name) or owners.get(name, ""), path.lstat()
        if of in _NOT_WRAPPED and not stat.S_ISDIR(seen.st_mode):
            continue
        if stat.S_ISDIR(seen.st_mode) or of not in packages:
            of = _SETUP if name in ("etc/passwd", "etc/group") else _SKELETON
        if name.startswith("usr/lib/modules/") and not path.is_dir():
            of = next(package for package in packages if _name(package) != package)
        mode = "-" if path.is_symlink() else f"{stat.S_IMODE(seen.st_mode):04o}"
        attributes = f"%attr({mode}, {users[seen.st_uid]}, {groups[seen.st_gid]})"
        files[of].append(f'{"%dir " if stat.S_ISDIR(seen.st_mode) else ""}{attributes} "/{name}"\n')
    return files


def _names(file: Path) -> dict[int, str]:
    return {int(row.split(":")[2]): row.split(":")[0] for row in file.read_text("utf-8").splitlines()}
