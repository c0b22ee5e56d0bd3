"""Where a distribution's packages come from, and how its failures are told apart."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from harness.build import distributions
from harness.build.distributions import FirstTree
from harness.build.distributions.debian import DISTRIBUTION as DEBIAN
from harness.build.distributions.ubuntu import DISTRIBUTION as UBUNTU
from harness.build.distributions.ubuntu import Ubuntu
from harness.core import process
from harness.core.errors import HostError, ImageError, UsageError
from harness.model.definition import ImageDefinition
from harness.model.definition_build import DISTRIBUTIONS


def _first(definition: ImageDefinition, *, mirror: str | None = None) -> FirstTree:
    folder = definition.folder
    return FirstTree(definition=definition, folder=folder, downloads=folder / "downloads", mirror=mirror)


def test_a_mirror_is_asked_for_the_suite_and_its_updates() -> None:
    assert DEBIAN.sources("trixie", "http://near.example/debian/") == [
        "deb http://near.example/debian trixie main",
        "deb http://near.example/debian trixie-updates main",
    ]
    assert len(DEBIAN.sources("sid", "http://near.example/debian")) == 1


def test_without_a_mirror_mmdebstrap_chooses() -> None:
    assert DEBIAN.sources("trixie", None) == []


def test_release_files_are_known_without_their_mirror_and_the_newest_is_the_date(tmp_path: Path) -> None:
    for mirror, suite, date in [
        ("near.example_debian", "trixie", "Sat, 15 Nov 2026 10:00:00 UTC"),
        ("near.example_debian-security", "trixie-security", "Thu, 19 Nov 2026 21:30:00 UTC"),
    ]:
        (tmp_path / f"{mirror}_dists_{suite}_InRelease").write_text(f"Origin: Debian\nDate: {date}\n")

    archive = DEBIAN.read_archive(tmp_path)

    assert sorted(archive.releases) == ["trixie-security/InRelease", "trixie/InRelease"]
    assert archive.epoch_s == 1795123800


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("E: Unable to locate package novacompute", ImageError, "build.packages: not in trixie: novacompute"),
        ("E: Package 'ntp' has no installation candidate", ImageError, "not in trixie: ntp"),
        ("Err:1 x\n  404  Not Found\nE: The repository 'x Release' does not have", ImageError, "build.suite"),
        (
            "Err:1 x\n  404  Not Found\nE: The repository 'http://near.example trixie-backports Release' does not have",
            ImageError,
            "build.backports: the archive has no 'trixie-backports'",
        ),
        ("E: Unable to locate package debian-archive-keyring", HostError, "the archive has no debian-archive-keyring"),
        ("E: Failed to fetch x  Temporary failure resolving 'd'", HostError, "--mirror URL"),
        ("dpkg: error processing package nova (--configure):", ImageError, "dpkg: error processing"),
    ],
)
def test_a_failed_bootstrap_names_who_must_act(
    definition: ImageDefinition, tmp_path: Path, said: str, error: type[Exception], words: str
) -> None:
    log = tmp_path / "log"
    log.write_text(f"I: running apt-get\n{said}\nE: mmdebstrap failed to run\n")

    diagnosis = DEBIAN.diagnose(_first(definition), log, removed=[])

    assert type(diagnosis) is error
    assert words in str(diagnosis)
    assert str(log) in str(diagnosis)


def test_a_mirror_without_the_suite_is_a_wrong_option(definition: ImageDefinition, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("Err:1 x\n  404  Not Found\nE: The repository 'x Release' does not have\n")

    diagnosis = DEBIAN.diagnose(_first(definition, mirror="http://near.example"), tmp_path / "log", removed=[])

    assert type(diagnosis) is UsageError
    assert "http://near.example has no trixie" in str(diagnosis)


def test_a_package_that_was_damaged_in_the_store_is_removed_from_it(
    definition: ImageDefinition, tmp_path: Path
) -> None:
    for name in ("curl_8_amd64.deb", "dbus_1_amd64.deb"):
        (tmp_path / name).touch()
    (tmp_path / "log").write_text(
        "dpkg-deb: error: <decompress> subprocess returned error exit status 2\n"
        "dpkg: error processing archive /tmp/apt-dpkg-install-x/26-curl_8_amd64.deb (--unpack):\n"
        " cannot copy extracted data for './x' to '/x.dpkg-new': unexpected end of file or stream\n"
    )

    removed = DEBIAN.remove_damaged(tmp_path / "log", tmp_path)
    diagnosis = DEBIAN.diagnose(_first(definition), tmp_path / "log", removed=removed)

    assert type(diagnosis) is HostError
    assert "curl_8_amd64.deb; build again" in str(diagnosis)
    assert [path.name for path in tmp_path.glob("*.deb")] == ["dbus_1_amd64.deb"]


def test_the_mirror_is_removed_from_the_tree_and_so_are_the_options(definition: ImageDefinition) -> None:
    with_mirror = list(DEBIAN.commands(_first(definition, mirror="http://near.example/debian/")))
    without = list(DEBIAN.commands(_first(definition)))

    assert [command[-3:] for command in with_mirror[1:]] == [
        [str(definition.folder / "tree"), "forget", "etc/apt/apt.conf.d/99mmdebstrap"],
        ["remove_lines", "etc/apt/sources.list", " http://near.example/debian "],
    ]
    assert without[1:] == with_mirror[1:2]


def test_backports_are_of_the_same_archive_and_are_preferred(definition: ImageDefinition, tmp_path: Path) -> None:
    (tmp_path / "etc/apt").mkdir(parents=True)
    sources = tmp_path / "etc/apt/sources.list"
    sources.write_text(
        "deb http://near.example/debian trixie main\ndeb http://near.example/debian trixie-updates main\n"
    )

    command = next(DEBIAN.commands(_first(replace(definition, backports=True))))

    (hook,) = [word.removeprefix("--setup-hook=") for word in command if "sed" in word]
    process.output(["sh", "-c", hook, "hook", str(tmp_path)])
    assert sources.read_text().splitlines() == [
        "deb http://near.example/debian trixie main",
        "deb http://near.example/debian trixie-backports main",
        "deb http://near.example/debian trixie-updates main",
    ]
    assert '--aptopt=APT::Default-Release "trixie-backports"' in command
    assert "trixie-backports" not in " ".join(next(DEBIAN.commands(_first(definition))))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_each_distribution_answers_what_a_build_asks(name: str) -> None:
    distribution = distributions.of(name)

    assert "6.12" in distribution.kernel.format("6.12")
    assert [need.name for need in distribution.host_needs()]
    assert all(need.package for need in distribution.host_needs())
    assert not distribution.needs_network("E: Unable to locate package x")


# Ubuntu

KEYRING = b"the keys"


@pytest.fixture
def ubuntu(tmp_path: Path) -> Ubuntu:
    """Ubuntu on a host without its keyring, which knows the suite noble."""
    suites = tmp_path / "ubuntu.csv"
    suites.write_text("version,codename,series,created\n24.04 LTS,Noble Numbat,noble,2023-10-12\n")
    return replace(UBUNTU, keyring=tmp_path / "keyring.gpg", keyring_sha256=sha256(KEYRING).hexdigest(), suites=suites)


@pytest.fixture
def noble(definition: ImageDefinition) -> ImageDefinition:
    return replace(definition, distribution="ubuntu", suite="noble")


def _fetch(first: FirstTree, content: bytes) -> None:
    fetched = first.folder / "keyring/keyring.gpg"
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(content)


def test_ubuntu_has_universe_and_its_security_updates_on_each_mirror() -> None:
    assert UBUNTU.sources("noble", "http://near.example/ubuntu") == [
        "deb http://near.example/ubuntu noble main universe",
        "deb http://near.example/ubuntu noble-updates main universe",
        "deb http://near.example/ubuntu noble-security main universe",
    ]


def test_a_keyring_of_the_host_is_used(ubuntu: Ubuntu, noble: ImageDefinition) -> None:
    ubuntu.keyring.write_bytes(KEYRING)

    first, *_ = ubuntu.commands(_first(noble))

    assert f"--keyring={ubuntu.keyring}" in first
    assert "--components=main,universe" in first


def test_a_host_without_the_keyring_fetches_it(ubuntu: Ubuntu, noble: ImageDefinition) -> None:
    first = _first(noble)
    commands = ubuntu.commands(first)

    assert [word for word in next(commands) if "apt-get download ubuntu-keyring" in word]
    _fetch(first, KEYRING)
    make = next(commands)

    assert f"--keyring={noble.folder}/keyring/keyring.gpg" in make
    assert not [option for option in make if "Insecure" in option or "Unauthenticated" in option]


@pytest.mark.parametrize("content", [b"other keys", None])
def test_no_tree_is_made_with_a_keyring_that_is_not_the_known_one(
    ubuntu: Ubuntu, noble: ImageDefinition, content: bytes | None
) -> None:
    first = _first(noble)
    commands = ubuntu.commands(first)
    next(commands)
    if content:
        _fetch(first, content)

    with pytest.raises(HostError, match=r"is not the known one.*install a keyring that you trust as"):
        next(commands)


def test_a_suite_that_mmdebstrap_does_not_know_is_not_looked_for_in_debians_archive(
    ubuntu: Ubuntu, noble: ImageDefinition
) -> None:
    resolute = replace(noble, suite="resolute")

    with pytest.raises(HostError, match=r"does not know Ubuntu's resolute.*distro-info-data"):
        next(ubuntu.commands(_first(resolute)))
    assert next(ubuntu.commands(_first(resolute, mirror="http://near.example/ubuntu")))


def test_doctor_tells_what_a_host_lacks_for_ubuntu(ubuntu: Ubuntu) -> None:
    keyring, suites = ubuntu.host_needs()

    assert (keyring.lack, keyring.purpose) == (
        "",
        "verifies Ubuntu's packages: builds fetch it, and compare its SHA-256",
    )
    assert suites.lack == f"{ubuntu.suites} lacks resolute: no builds of it without --mirror"
    with ubuntu.suites.open("a") as file:
        file.write("26.04 LTS,Resolute Raccoon,resolute,2025-10-09\n")
    assert [need.lack for need in ubuntu.host_needs()] == ["", ""]


RECORDED = {  # of mmdebstrap 1.3.5 with apt 2.6.1, for suites of Ubuntu; the name of the archive's host is changed
    "no such package": (
        "Building dependency tree...\n"
        "E: Unable to locate package no-such-package\n"
        "E: setup failed: E: apt-get --yes -oAPT::Get::Simulate=true install no-such-package bash failed\n"
    ),
    "no such suite": (
        "Err:6 http://near.example/ubuntu noble-updates Release\n"
        "  404  Not Found [IP: 203.0.113.80 80]\n"
        "E: The repository 'http://near.example/ubuntu noble Release' does not have a Release file.\n"
        "E: apt-get update --error-on=any -oAPT::Status-Fd=<$fd> -oDpkg::Use-Pty=false failed\n"
    ),
    "no network": (
        "Err:2 http://near.example/ubuntu noble-updates InRelease\n"
        "  Temporary failure resolving 'near.example'\n"
        "E: Failed to fetch http://near.example/ubuntu/dists/noble/InRelease  Temporary failure resolving 'x'\n"
        "E: Some index files failed to download. They have been ignored, or old ones used instead.\n"
    ),
    "unknown key": (
        "W: GPG error: http://near.example/ubuntu noble InRelease: The following signatures couldn't be verified "
        "because the public key is not available: NO_PUBKEY 871920D1991BC93C\n"
        "E: The repository 'http://near.example/ubuntu noble InRelease' is not signed.\n"
        "E: apt-get update --error-on=any -oAPT::Status-Fd=<$fd> -oDpkg::Use-Pty=false failed\n"
    ),
}


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("no such package", ImageError, "build.packages: not in noble: no-such-package"),
        ("no such suite", ImageError, "build.suite: the archive has no 'noble'"),
        ("no network", HostError, "the package archive cannot be reached"),
        ("unknown key", HostError, "key missing on this host: 871920D1991BC93C"),
    ],
)
def test_failures_of_ubuntus_archive_are_told_apart(
    noble: ImageDefinition, tmp_path: Path, what: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "log").write_text(f"I: running apt-get update...\n{RECORDED[what]}E: mmdebstrap failed to run\n")

    diagnosis = UBUNTU.diagnose(_first(noble), tmp_path / "log", removed=[])

    assert type(diagnosis) is error
    assert words in str(diagnosis)
    assert ("apt-get install ubuntu-keyring" in str(diagnosis)) is (what == "unknown key")
