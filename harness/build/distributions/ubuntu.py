"""Ubuntu. A Debian host may lack its keyring, which then comes from the archive and must have a known SHA-256."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.build.distributions.apt import Apt
from harness.build.distributions.distribution import FirstTree, HostNeed
from harness.core import digest, process
from harness.core.errors import HostError

_KEYRING = "usr/share/keyrings/ubuntu-archive-keyring.gpg"
_SHA256 = "80a36b0a6de2f69f49d2df75ef473ccde121e9e190b9ea01d20a4f63778d5c31"
"""Of the keyring in ubuntu-keyring 2023.11.28.1, in noble and resolute: the archive's keys of 2012 and 2018."""
_FETCHED = "keyring.gpg"
_NEWEST = "resolute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ubuntu(Apt):
    """``suites`` is the table from which mmdebstrap knows which suites are Ubuntu's, with archive."""

    suites: Path
    keyring_sha256: str

    def host_needs(self) -> Iterator[HostNeed]:
        fetched = "" if self.keyring.exists() else ": builds fetch it, and compare its SHA-256"
        yield HostNeed(
            name="Ubuntu's keyring",
            purpose=f"verifies Ubuntu's packages{fetched}",
            lack="",
            package=self.keyring_package,
            is_required=False,
        )
        yield HostNeed(
            name="Ubuntu's suites",
            purpose="lead mmdebstrap to Ubuntu's archive",
            lack="" if self._is_known(_NEWEST) else f"{self.suites} lacks {_NEWEST}: no builds of it without --mirror",
            package="distro-info-data",
            is_required=False,
        )

    def commands(self, first: FirstTree) -> Iterator[list[str]]:
        suite, keyring = first.definition.suite, self.keyring
        if first.mirror is None and not self._is_known(suite):
            raise HostError(
                f"mmdebstrap does not know Ubuntu's {suite}, because {self.suites} lacks it; "
                "correct build.suite, name an archive with --mirror URL, or get a newer table",
                remedy="apt-get install distro-info-data",
            )
        if not keyring.exists():
            folder = first.folder / "keyring"
            yield self._fetching(first, folder)
            keyring = folder / _FETCHED
            self.check_keyring(keyring)
        yield from self.make_tree(first, f"--keyring={keyring}")

    def check_keyring(self, fetched: Path) -> None:
        """`HostError` unless the keyring that came from the archive is the known one."""
        seen = digest.of_file(fetched) if fetched.is_file() else "none"
        if seen != self.keyring_sha256:
            raise HostError(
                f"the keyring in the archive's {self.keyring_package} is not the known one: its SHA-256 is {seen}, not "
                f"{self.keyring_sha256}; install a keyring that you trust as {self.keyring}"
            )

    def _fetching(self, first: FirstTree, folder: Path) -> list[str]:
        """Nothing verifies this download but `check_keyring`, so one file of the package is read, and none unpacked."""
        process.require("mmdebstrap", "mmdebstrap")
        package, suite = self.keyring_package, first.definition.suite
        download = f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download {package}'
        read = f"dpkg-deb --fsys-tarfile {package}_*.deb | tar --extract --to-stdout ./{_KEYRING}"
        return [
            "mmdebstrap",
            "--variant=custom",
            "--mode=root",
            '--aptopt=APT::Sandbox::User "root"',
            '--aptopt=Acquire::AllowInsecureRepositories "true"',
            '--aptopt=APT::Get::AllowUnauthenticated "true"',
            f'--customize-hook=cd "$1" && {download} && {read} >{_FETCHED}',
            "--components=main",
            suite,
            str(folder),
            *self.sources(suite, first.mirror),
        ]

    def _is_known(self, suite: str) -> bool:
        """By distro-info-data: version, codename, series, dates."""
        rows = self.suites.read_text("utf-8").splitlines() if self.suites.exists() else []
        return any(suite in row.split(",")[2:3] for row in rows)


DISTRIBUTION = Ubuntu(
    title="Ubuntu",
    components=("main", "universe"),
    updates=("-updates", "-security"),
    in_development=("devel",),
    keyring=Path("/", _KEYRING),
    keyring_package="ubuntu-keyring",
    keyring_sha256=_SHA256,
    suites=Path("/usr/share/distro-info/ubuntu.csv"),
)
