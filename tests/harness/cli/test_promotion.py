"""promote, rollback, streams, history, attest: their output, and errors for wrong input."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.cli.promote import TRUST_VARIABLE
from harness.core import serialization
from harness.promotion import attest
from harness.promotion.select import TREE_VARIABLE

from ..proven import Proven


@pytest.fixture
def proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proven:
    """The working directory after a run: images/policy.toml, runs/…, keys."""
    made = Proven(tmp_path)
    made.demand()
    (tmp_path / "images" / "site").mkdir(parents=True)
    (tmp_path / "images" / "site" / "image.toml").touch()
    for name in ("policy.toml", "policy.toml.sig"):
        (tmp_path / name).rename(tmp_path / "images" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path / "keeper.key.pub"))
    monkeypatch.setenv(TREE_VARIABLE, str(tmp_path / "tree"))
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    run(made, "1")
    return made


def run(made: Proven, version: str, name: str = "2026-11-21T12-00-00-site") -> Path:
    """The folder of a run of these artifacts."""
    artifacts = made.artifacts(version)
    folder = made.folder / "runs" / name
    folder.mkdir(parents=True)
    verdict = replace(made.verdict(artifacts), started=(datetime.now(UTC) - timedelta(hours=1)).isoformat())
    serialization.write(folder / "verdict.json", verdict)
    attest.write_all(folder, verdict, artifacts, attest.read_signer(str(made.key("ci"))))
    return folder


def promote(made: Proven, version: str = "1", *more: str) -> int:
    return main(["promote", "site", "--to", "stable", "--artifacts", str(made.artifacts(version).folder), *more])


def test_from_a_run_to_a_stream_and_back(proven: Proven, capsys: pytest.CaptureFixture[str]) -> None:
    run(proven, "2", "2026-11-21T12-30-00-site")
    run(proven, "9", "2026-11-21T13-00-00-site-other")  # another image, with a similar name

    assert promote(proven, "1", "--run", "runs/2026-11-21T12-00-00-site") == 0
    assert promote(proven, "2") == 0
    assert promote(proven, "2") == 0
    assert main(["rollback", "site", "--stream", "stable"]) == 0
    assert main(["streams"]) == 0
    assert main(["history", "site", "stable"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("site stable now points to 1 (")
    assert lines[1].startswith("site stable now points to 2 (")
    assert "already points to 2 (" in lines[2]
    assert lines[2].endswith(", attested by ci")
    assert lines[3].endswith(") again")
    assert [line.split()[0] for line in lines[-3:]] == ["1", "2", "1"]
    assert lines[-3].endswith("rollback")


def test_a_digest_is_found_in_the_published_tree(
    proven: Proven, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(proven, "2", "2026-11-21T12-30-00-site")
    promote(proven, "1", "--run", "runs/2026-11-21T12-00-00-site")
    promote(proven, "2")
    digests = [proven.artifacts(version).digest[:12] for version in ("1", "2")]

    assert main(["diff", *digests]) == 0
    monkeypatch.delenv(TREE_VARIABLE)
    assert main(["diff", *digests]) == 4
    assert f"no artifacts {digests[0]!r} in" in capsys.readouterr().err


def test_an_attestation_is_verified_offline(proven: Proven, capsys: pytest.CaptureFixture[str]) -> None:
    file = "runs/2026-11-21T12-00-00-site/attestation.json"
    folder = proven.artifacts().folder
    assert main(["attest", "verify", file, "--key", "ci.key.pub", "--artifacts", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["outcome"] == "passed"

    assert main(["attest", "verify", file, "--key", "keeper.key.pub"]) == 1
    assert "is not signed by a trusted key" in capsys.readouterr().err
    (folder / "vmlinuz").write_bytes(b"Kernel1")
    assert main(["attest", "verify", file, "--key", "ci.key.pub", "--artifacts", str(folder)]) == 1
    assert "vmlinuz was changed after it was attested" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "status", "problem"),
    [
        (["promote", "other", "--to", "stable"], 4, "no run of other in "),
        (["promote", "site", "--to", "nightly"], 4, "policy.toml has no stream 'nightly'; it has stable"),
        (["promote", "site", "--to", "stable", "--trust", "nothing"], 4, "the public key nothing cannot be read"),
        (["promote", "site", "--to", "stable", "--policy", "nothing"], 4, "the policy nothing does not exist"),
        (["promote", "site", "--to", "stable", "--from", "candidate"], 4, "has no stream candidate of site"),
        (["promote", "site", "--to", "stable", "--run", "nowhere"], 1, "attestation.json is missing"),
        (["rollback", "site", "--stream", "stable"], 4, "has no stream stable of site; known: none"),
        (["history", "site", "stable"], 4, "has no stream stable of site; known: none"),
        (["attest", "sign", "images/policy.toml"], 4, "no key: give --key FILE"),
        (["attest", "sign", "images/policy.toml", "--key", "ci.key.pub"], 4, "does not hold a private Ed25519 key"),
        (["attest", "verify", "nothing", "--key", "ci.key.pub"], 4, "nothing cannot be read"),
        (["attest", "key", "ci.key"], 4, "keys are never overwritten"),
    ],
)
def test_wrong_input_is_one_sentence(
    proven: Proven, capsys: pytest.CaptureFixture[str], argv: list[str], status: int, problem: str
) -> None:
    if argv[:2] == ["promote", "site"]:
        argv = [*argv, "--artifacts", str(proven.artifacts().folder)]

    assert main(argv) == status
    error = capsys.readouterr().err
    assert problem in error
    assert len(error.splitlines()) == 1


def test_a_verdict_that_was_edited_by_hand_is_refused(proven: Proven, capsys: pytest.CaptureFixture[str]) -> None:
    file = proven.folder / "runs" / "2026-11-21T12-00-00-site" / "verdict.json"
    file.write_text(file.read_text().replace('"passed"', '"failed"', 1))

    assert promote(proven) == 1
    assert "verdict.json is not the verdict that was attested" in capsys.readouterr().err
    assert not (proven.folder / "tree").exists() or not list((proven.folder / "tree").glob("streams/*"))


def test_a_tree_that_does_not_exist_is_not_an_empty_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["streams", "--tree", str(tmp_path / "nothing")]) == 4
    assert "is not a published tree: there is no such folder" in capsys.readouterr().err


def test_a_missing_tree_or_key_is_named(
    proven: Proven, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TREE_VARIABLE)
    assert promote(proven) == 4
    assert "no published tree: name one with --tree or $BOOTPROOF_TREE" in capsys.readouterr().err
    monkeypatch.setenv(TREE_VARIABLE, "tree")
    monkeypatch.delenv(TRUST_VARIABLE)
    assert promote(proven) == 4
    assert "no key to verify the policy with; give --trust KEY" in capsys.readouterr().err
