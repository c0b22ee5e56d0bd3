"""RPM families: what is asked of dnf and zypper, and what their failures mean.

``dnf.txt`` and ``zypper.txt`` are what dnf 4.14 and zypper 1.14 printed on Debian 12 for repositories with each fault,
which `tests.system.rpm_repository` made; only hosts and folders have other names.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.build import distributions
from harness.build.bootstrap import layer_key
from harness.build.distributions import FirstTree
from harness.build.distributions.centos import DISTRIBUTION as CENTOS
from harness.build.distributions.fedora import DISTRIBUTION as FEDORA
from harness.build.distributions.opensuse import DISTRIBUTION as OPENSUSE
from harness.build.distributions.rpm import RpmFamily, home
from harness.core.errors import BootproofError, HostError, ImageError, UsageError
from harness.model.definition import ImageDefinition
from harness.model.definition_build import RPM_FAMILIES, Repository

PROGRAMS = {"dnf": "fedora", "zypper": "opensuse"}
NOT_SIGNED = "build.repositories: not signed by the key that is named there"
METADATA = "the metadata of a repository is not signed by the key that is named there"
DAMAGED = "a download does not have its digest"
NO_NETWORK = "a repository cannot be reached; fix the network"


@pytest.fixture
def definition(definition: ImageDefinition, tmp_path: Path) -> ImageDefinition:
    key = tmp_path / "KEY"
    key.write_text("a key")
    repositories = (Repository(url="https://near.example/$releasever", key=key),)
    return replace(definition, distribution="fedora", suite="42", repositories=repositories)


def first(definition: ImageDefinition, *, mirror: str | None = None) -> FirstTree:
    folder = definition.folder
    return FirstTree(definition=definition, folder=folder, downloads=folder / "downloads", mirror=mirror)


def recorded(program: str) -> Iterator[tuple[str, str]]:
    text = (Path(__file__).parent / f"{program}.txt").read_text()
    parts = re.split(r"^##### (.*)\n", text, flags=re.MULTILINE)[1:]
    yield from zip(parts[::2], parts[1::2], strict=True)


OUTPUTS = {(program, case): text for program in PROGRAMS for case, text in recorded(program)}
MEANINGS = {
    "no-package": (ImageError, "build.packages: not in the repositories of 42: no-such-package; correct or remove"),
    "refused": (HostError, NO_NETWORK),
    "no-name": (HostError, NO_NETWORK),
    "no-release": (ImageError, "build.suite, build.repositories: no repository of '42' at https://near.example/"),
    "unsigned": (ImageError, NOT_SIGNED),
    "altered": (HostError, DAMAGED),
    "altered-indexed": (BootproofError, ""),
    "altered-header": (ImageError, NOT_SIGNED),
    "metadata-altered": (HostError, METADATA),
    "metadata-unsigned": (HostError, METADATA),
    "primary-altered": (HostError, DAMAGED),
    "package-missing": (HostError, NO_NETWORK),
    "other-key": (HostError, METADATA),
}


@pytest.mark.parametrize(("program", "case"), OUTPUTS)
def test_a_failure_names_who_must_act_and_quotes_the_program(
    program: str, case: str, definition: ImageDefinition, tmp_path: Path
) -> None:
    distribution, log = distributions.of(PROGRAMS[program]), tmp_path / "log"
    log.write_text(OUTPUTS[program, case])
    kind, words = MEANINGS[case]

    diagnosis = distribution.diagnose(first(definition), log, removed=[])

    assert isinstance(diagnosis, kind)
    assert words in str(diagnosis)
    assert str(log) in str(diagnosis)
    assert case == "no-package" or str(diagnosis).splitlines()[1] in log.read_text()


def test_a_package_whose_payload_does_not_fit_its_signed_header_is_refused(
    definition: ImageDefinition, tmp_path: Path
) -> None:
    """dnf tells only that it cannot be opened, zypper that a digest is bad."""
    for program, words in (("dnf", NOT_SIGNED), ("zypper", DAMAGED)):
        (tmp_path / "log").write_text(OUTPUTS[program, "altered-indexed"])

        diagnosis = distributions.of(PROGRAMS[program]).diagnose(first(definition), tmp_path / "log", removed=[])

        assert words in str(diagnosis)


def test_another_failure_is_quoted(definition: ImageDefinition, tmp_path: Path) -> None:
    said = "Error: \n Problem: conflicting requests\n  - nothing provides /bin/sh needed by kernel-core-6.12-1.x86_64\n"
    (tmp_path / "log").write_text(said)

    diagnosis = distributions.of("fedora").diagnose(first(definition), tmp_path / "log", removed=[])

    assert type(diagnosis) is ImageError
    assert "mine: dnf failed" in str(diagnosis)
    assert "nothing provides /bin/sh" in str(diagnosis)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_playbook_that_needs_the_network_is_told_from_one_that_does_not(program: str) -> None:
    distribution = distributions.of(PROGRAMS[program])

    assert distribution.needs_network(OUTPUTS[program, "no-name"])
    assert distribution.needs_network(json.dumps(OUTPUTS[program, "refused"]))
    for case in ("no-package", "no-release", "package-missing"):
        assert not distribution.needs_network(json.dumps(OUTPUTS[program, case]))


def test_zypper_in_a_playbook_is_read_in_ansibles_one_line() -> None:
    said = json.dumps("Download (curl) error for 'http://near.example/x':\nError code: HTTP response: 502\n")

    assert distributions.of("opensuse").needs_network(said)
    assert not distributions.of("opensuse").needs_network(said.replace("502", "404"))


@pytest.mark.parametrize("code", [401, 407, 408, 500])
def test_only_an_answer_that_the_repository_is_not_there_is_the_definitions(
    code: int, definition: ImageDefinition, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(OUTPUTS["dnf", "no-release"].replace("404", str(code)))

    diagnosis = distributions.of("fedora").diagnose(first(definition), tmp_path / "log", removed=[])

    assert type(diagnosis) is HostError
    assert NO_NETWORK in str(diagnosis)


def test_repomd_files_are_known_by_their_urls_and_the_newest_file_is_the_date(tmp_path: Path) -> None:
    name = "https%3A%2F%2Fnear.example%2F%24releasever%2Frepodata%2Frepomd.xml"
    (tmp_path / name).write_text(
        "<repomd><revision>7</revision><data><timestamp>1795994787</timestamp></data>"
        "<data><timestamp>1795994790</timestamp></data></repomd>"
    )

    archive = distributions.of("fedora").read_archive(tmp_path)

    assert list(archive.releases) == ["https://near.example/$releasever/repodata/repomd.xml"]
    assert archive.epoch_s == 1795994790


@pytest.mark.parametrize(
    ("family", "suite", "folder"),
    [
        (CENTOS, "9-stream", "var/lib/rpm"),
        (CENTOS, "10-stream", "usr/lib/sysimage/rpm"),
        (FEDORA, "35", "var/lib/rpm"),
        (FEDORA, "36", "usr/lib/sysimage/rpm"),
        (FEDORA, "rawhide", "usr/lib/sysimage/rpm"),
        (OPENSUSE, "15.6", "usr/lib/sysimage/rpm"),
    ],
    ids=lambda value: getattr(value, "title", None),
)
def test_rpms_database_is_where_the_release_looks_for_it(family: RpmFamily, suite: str, folder: str) -> None:
    assert family.database_folder(suite) == folder


def test_the_first_layer_is_another_one_for_another_repository_or_key(definition: ImageDefinition) -> None:
    elsewhere = replace(definition.repositories[0], url="https://far.example")
    known = layer_key(definition)

    assert layer_key(replace(definition, repositories=(elsewhere,))) != known
    definition.repositories[0].key.write_text("another key")
    assert layer_key(definition) != known


def test_a_mirror_is_refused_because_the_definition_names_the_repositories(definition: ImageDefinition) -> None:
    for name in RPM_FAMILIES:
        with pytest.raises(UsageError, match=r"name the mirror in build\.repositories of "):
            next(distributions.of(name).commands(first(definition, mirror="https://far.example")))


@contextmanager
def answering(code: int) -> Iterator[str]:
    """The URL of a server that answers everything with ``code``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/$releasever"
        finally:
            server.shutdown()
            thread.join()


def configured(definition: ImageDefinition, url: str) -> str:
    """dnf's configuration for a repository at ``url``."""
    made = first(replace(definition, repositories=(replace(definition.repositories[0], url=url),)))
    home(made).mkdir(parents=True, exist_ok=True)
    FEDORA.configure(made)
    return (home(made) / "dnf.conf").read_text()


@pytest.mark.parametrize(("code", "signed"), [(200, 1), (404, 0), (410, 0)])
def test_dnf_verifies_metadata_unless_the_repository_has_no_signature(
    code: int, signed: int, definition: ImageDefinition
) -> None:
    with answering(code) as url:
        config = configured(definition, url)

    assert f"repo_gpgcheck={signed}\n" in config
    assert "\ngpgcheck=1\n" in config
    assert "\nlocalpkg_gpgcheck=1\n" in config


@pytest.mark.parametrize("code", [401, 403, 407, 500, 503])
def test_another_answer_about_the_signature_does_not_switch_it_off(code: int, definition: ImageDefinition) -> None:
    with answering(code) as url, pytest.raises(HostError, match=rf"{NO_NETWORK}.*repomd\.xml\.asc: HTTP Error {code}"):
        configured(definition, url)


def test_dnf_verifies_metadata_of_a_folder_that_has_a_signature(definition: ImageDefinition, tmp_path: Path) -> None:
    (tmp_path / "repodata").mkdir()

    assert "repo_gpgcheck=0\n" in configured(definition, tmp_path.as_uri())
    (tmp_path / "repodata/repomd.xml.asc").touch()
    assert "repo_gpgcheck=1\n" in configured(definition, tmp_path.as_uri())
