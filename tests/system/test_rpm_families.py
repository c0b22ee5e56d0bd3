"""Images by dnf and by zypper, of a repository of our own: from the definition to the verdict, and its faults."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.build.pipeline import build
from harness.core.errors import BootproofError, HostError, ImageError
from harness.model.artifacts import load_artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.model.verdict import Outcome
from harness.store.store import Store, find_store

from .conftest import ROOT, Judge
from .rpm_repository import Repository, make_key, make_repository, sign, stop_agent, unsign

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root wraps the files of a tree with their owners")

RELEASES = {"fedora": "fedora-release", "opensuse": "openSUSE-release"}
DEFINITION = """
description = "Debian's binaries in RPMs"
version = "2026.11"

[build]
distribution = "{distribution}"
suite = "42"
repositories = [{{ url = "{url}", key = "KEY" }}]
packages = {packages}
kernel_arguments = ["rd.live.overlay.overlayfs=1", "systemd.condition_needs_update=no"]

[persist]
disk = {{ minimum_gib = 4 }}
paths = ["/etc/systemd/network", "/var/local"]

[expect]
services = ["sshd.service", "systemd-networkd.service", "systemd-resolved.service"]
listens = ["tcp 0.0.0.0:22 sshd", "tcp [::]:22 sshd"]

[boot]
paths = ["direct"]
memory_mib = 2048

[[lint.allow]]
path = "/etc/systemd/timesyncd.conf"
reason = "as in base"

[budget]
boot_s = 60
rootfs_mib = 250
initrd_mib = 50
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_request(self, code: object = "-", size: object = "-") -> None: ...


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and its URL on loopback."""
    folder = tmp_path_factory.mktemp("site")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def repository(
    base: ImageDefinition, site: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Repository]:
    made = make_repository(base, find_store(), tmp_path_factory.mktemp("wrapped") / "new")
    (site[0] / "42").symlink_to(made.folder)
    yield made
    stop_agent(made.home)


def write_definition(images: Path, distribution: str, url: str, packages: list[str], key: Path) -> Path:
    folder = images / f"wrapped-{distribution}"
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "images" / "roles", images / "roles")
    shutil.copy(ROOT / "images" / "base" / "playbook.yml", folder)
    shutil.copy(key, folder / "KEY")
    text = DEFINITION.format(distribution=distribution, url=url, packages=json.dumps(packages))
    (folder / "image.toml").write_text(text)
    return folder


@pytest.mark.parametrize("distribution", RELEASES)
def test_the_whole_path_from_a_definition_to_its_verdict(
    distribution: str,
    repository: Repository,
    site: tuple[Path, str],
    base: ImageDefinition,
    judge: Judge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [re.sub("^linux-image-.*", "kernel-core", name) for name in base.packages]
    packages = [*names, "rpm", RELEASES[distribution]]
    images, url = tmp_path / "images", f"{site[1]}/$releasever"
    write_definition(images, distribution, url, packages, repository.key)
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))

    status, verdict = judge(f"wrapped-{distribution}", images=images)

    manifest = load_artifacts(Store(tmp_path / "store").root / "artifacts" / verdict.digests["artifacts"]).manifest
    assert verdict.findings == ()
    assert status == Outcome.PASSED.exit_status
    assert list(manifest.sources) == [f"{url}/repodata/repomd.xml"]
    assert manifest.packages["rpm"].startswith("4.")
    assert set(packages) <= set(manifest.packages)
    assert "gpg-pubkey" not in manifest.packages


def nothing(repository: Repository) -> None: ...


def unsigned_package(repository: Repository) -> None:
    unsign(repository.home, *repository.folder.glob("*.rpm"))
    repository.index()


def damaged_package(repository: Repository) -> None:
    (package,) = repository.folder.glob("filesystem-*.rpm")
    content = bytearray(package.read_bytes())
    content[-2000] ^= 1
    package.write_bytes(content)


def changed_metadata(repository: Repository) -> None:
    repomd = repository.folder / "repodata" / "repomd.xml"
    repomd.write_text(repomd.read_text().replace("<revision>", "<revision>1"))


def metadata_of_the_future(repository: Repository) -> None:
    repomd = repository.folder / "repodata" / "repomd.xml"
    repomd.write_text(re.sub(r"<timestamp>\d+", "<timestamp>99999999999999", repomd.read_text()))
    repository.sign_index()


def other_key(repository: Repository) -> None:
    home = make_key(repository.folder.with_name(f"{repository.folder.name}-key"))
    sign(home, *repository.folder.glob("*.rpm"))
    Repository(repository.folder, repository.key, home).index()
    stop_agent(home)


FAULTS = [
    (unsigned_package, ImageError, "build.repositories: not signed by the key that is named there"),
    (damaged_package, HostError, "a download does not have its digest"),
    (changed_metadata, HostError, "the metadata of a repository is not signed by the key that is named there"),
    (metadata_of_the_future, HostError, "the package archive has the date 9999-12-31, but this host's clock says "),
    (other_key, HostError, "the metadata of a repository is not signed by the key that is named there"),
    (nothing, ImageError, "build.packages: not in the repositories of 42: no-such-package"),
]


@pytest.mark.parametrize("distribution", RELEASES)
@pytest.mark.parametrize(("spoil", "error", "words"), FAULTS)
def test_what_is_not_the_repositorys_own_is_refused_and_told_apart(
    distribution: str,
    spoil: Callable[[Repository], None],
    error: type[BootproofError],
    words: str,
    repository: Repository,
    site: tuple[Path, str],
    tmp_path: Path,
) -> None:
    copy = Repository(site[0] / f"{distribution}-{spoil.__name__}", repository.key, repository.home)
    copy.folder.mkdir()
    for package in ("setup", "filesystem", RELEASES[distribution]):
        shutil.copy(next(repository.folder.glob(f"{package}-1-1.*")), copy.folder)
    copy.index()
    spoil(copy)
    packages = [RELEASES[distribution], *(["no-such-package"] if spoil is nothing else [])]
    folder = write_definition(
        tmp_path / "images", distribution, f"{site[1]}/{copy.folder.name}", packages, repository.key
    )

    with pytest.raises(error) as caught:
        build(load_definition(folder), Store(tmp_path / "store"))

    assert words in str(caught.value)
