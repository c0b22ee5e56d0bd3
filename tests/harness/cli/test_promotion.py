"""promote, rollback, streams, history, attest: their output, and errors for wrong input."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.cli.promote import TRUST_VARIABLE
from harness.core import serialization
from harness.model.verdict import Part, Verdict
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


def run(made: Proven, version: str, name: str = "2026-11-21T12-00-00-site", key: str = "ci", **changes: Any) -> Path:
    """The folder of a run of these artifacts; without a ``key``, the run is not signed."""
    artifacts = made.artifacts(version)
    folder = made.folder / "runs" / name
    folder.mkdir(parents=True)
    verdict = replace(made.verdict(artifacts), started=(datetime.now(UTC) - timedelta(hours=1)).isoformat())
    verdict = replace(verdict, **changes)
    serialization.write(folder / "verdict.json", verdict)
    (folder / "events.jsonl").write_text('{"kind": "Note"}\n')
    attest.write_all(folder, verdict, artifacts, attest.read_signer(str(made.key(key))) if key else None)
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


def test_a_merged_run_is_promoted_as_any_other_and_its_parts_are_not(
    proven: Proven, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = tuple(Part(number=number, of=2, plan="9" * 64, host="a") for number in (1, 2))
    run(proven, "1", "2026-11-21T12-30-00-site", parts=parts[:1])
    assert promote(proven) == 1
    said = capsys.readouterr().err
    assert "the verdict is about part 1 of 2 only" in said
    assert "run bootproof merge RUN… on the folders of all parts" in said

    run(proven, "1", "2026-11-21T13-00-00-site-merged", parts=parts)
    assert promote(proven) == 0


def test_several_runs_are_promoted_together(proven: Proven, capsys: pytest.CaptureFixture[str]) -> None:
    policy = proven.folder / "images" / "policy.toml"
    policy.write_text(policy.read_text() + "boots = 6\n")
    attest.sign_file(policy, attest.read_signer(str(proven.key("keeper"))))
    first, second = "runs/2026-11-21T12-00-00-site", "runs/2026-11-21T12-30-00-site"
    run(proven, "1", Path(second).name, started=datetime.now(UTC).isoformat())

    assert promote(proven, "1", "--run", first, "--run", first) == 1
    assert "3 boots by direct became ready, 6 are required" in capsys.readouterr().err
    assert promote(proven, "1", "--run", first, "--run", second) == 0
    assert main(["streams", "--json"]) == 0
    (pointer,) = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert len(pointer["entry"]["further"]) == 1


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


GARBAGE = {
    "empty": b"",
    "text": b"# Promotion\n",
    "no UTF-8": b"\xff\xfe\x00",
    "a list": b"[]",
    "other JSON": b'{"payload": 3}',
    "no base64": b'{"payload": "%", "payloadType": "x", "signatures": []}',
    "nested": b"[" * 200_000,
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_no_attestation_is_unreadable(proven: Proven, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (proven.folder / "garbage").write_bytes(GARBAGE[name])

    assert main(["attest", "verify", "garbage", "--key", "ci.key.pub"]) == 4
    assert capsys.readouterr().err == (
        "bootproof: garbage is not an attestation: it does not hold a DSSE envelope in JSON\n"
    )


def test_the_signature_of_a_file_is_no_attestation(proven: Proven, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attest", "verify", "images/policy.toml.sig", "--key", str(proven.key("keeper")) + ".pub"]) == 4
    assert "policy.toml.sig is an envelope of 'application/octet-stream', not of" in capsys.readouterr().err
    (proven.folder / "list").write_text("[]")
    signed = attest.sign(b"[]", attest.read_signer("ci.key"))
    (proven.folder / "list").write_bytes(signed)
    assert main(["attest", "verify", "list", "--key", "ci.key.pub"]) == 4
    assert "list is not a valid attestation of a verdict: it does not hold an in-toto" in capsys.readouterr().err


def test_an_attestation_with_another_spelling_is_refused(proven: Proven, capsys: pytest.CaptureFixture[str]) -> None:
    file = proven.folder / "runs" / "2026-11-21T12-00-00-site" / "attestation.json"
    file.write_bytes(file.read_bytes() + b" ")

    assert main(["attest", "verify", str(file), "--key", "ci.key.pub"]) == 1
    assert "attestation.json was changed, or another program wrote it" in capsys.readouterr().err


def test_an_attestation_without_its_bill_of_materials_is_refused_for_that_reason(
    proven: Proven, capsys: pytest.CaptureFixture[str]
) -> None:
    (proven.folder / "runs" / "2026-11-21T12-00-00-site" / "sbom.cdx.json").unlink()

    assert promote(proven) == 1
    error = capsys.readouterr().err
    assert "sbom.cdx.json is missing: it was removed, or not copied with the attestation" in error
    assert "did not sign" not in error


# A run that is signed later


UNSIGNED = "2026-11-21T13-00-00-site"


def sign(folder: Path, *more: str) -> int:
    return main(["attest", "sign", str(folder), "--key", "ci.key", *more])


def test_a_run_without_a_key_is_signed_elsewhere_and_promoted(
    proven: Proven, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(proven, "2", UNSIGNED, key="")
    statement = (folder / "statement.json").read_bytes()
    assert promote(proven, "2") == 1
    assert f"the run did not sign its verdict; run bootproof attest sign runs/{UNSIGNED}" in capsys.readouterr().err
    elsewhere = shutil.copytree(folder, proven.folder / "copied")

    assert sign(elsewhere) == 0

    printed = capsys.readouterr()
    assert printed.out == f"{elsewhere / 'attestation.json'}\n"
    assert "are not compared; promote compares them" in printed.err
    envelope = json.loads((elsewhere / "attestation.json").read_text())
    assert base64.b64decode(envelope["payload"]) == statement
    assert main(["attest", "verify", str(elsewhere / "attestation.json"), "--key", "ci.key.pub"]) == 0
    assert promote(proven, "2", "--run", "copied") == 0
    assert sign(elsewhere) == 4
    assert "copied is signed already; check it with bootproof attest verify" in capsys.readouterr().err


def replaced(old: str, new: str) -> Callable[[Path], object]:
    def change(file: Path) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return change


def test_a_run_whose_statement_does_not_name_its_events_is_signed(proven: Proven) -> None:
    folder, artifacts = run(proven, "2", UNSIGNED, key=""), proven.artifacts("2")
    (folder / "events.jsonl").unlink()
    attest.write_all(folder, serialization.read(Verdict, folder / "verdict.json"), artifacts, None)
    (folder / "events.jsonl").touch()

    assert sign(folder) == 0


CHANGED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a verdict": ("verdict.json", replaced('"passed"', '"failed"'), "verdict.json and statement.json differ"),
    "no verdict any more": ("verdict.json", replaced("{", ""), "verdict.json and statement.json differ"),
    "a result": ("statement.json", replaced("PASSED", "FAILED"), "statement.json was changed after the run"),
    "a passed test": ("statement.json", replaced('s":["image"', 's":["ssh"'), "statement.json was changed after"),
    "a blank": ("statement.json", replaced(",", ", "), "statement.json was changed after the run"),
    "half a statement": ("statement.json", lambda file: os.truncate(file, 900), "statement.json was changed after"),
    "a package": ("sbom.cdx.json", replaced("package1", "package9"), "sbom.cdx.json was changed after the run"),
    "no packages": ("sbom.cdx.json", Path.unlink, "sbom.cdx.json is missing: it was removed after the run"),
    "an event": ("events.jsonl", replaced("Note", "Nope"), "events.jsonl was changed after the run"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_run_that_changed_is_not_signed(proven: Proven, capsys: pytest.CaptureFixture[str], name: str) -> None:
    file, change, problem = CHANGED[name]
    folder = run(proven, "2", UNSIGNED, key="")
    change(folder / file)

    assert sign(folder) == 1
    error = capsys.readouterr().err
    assert problem in error
    assert len(error.splitlines()) == 1 + ("are not in" in error)
    assert not (folder / "attestation.json").exists()


def test_artifacts_that_changed_are_named_whether_given_or_in_the_store(
    proven: Proven, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, artifacts = run(proven, "2", UNSIGNED, key=""), proven.artifacts("2")
    stored = shutil.copytree(artifacts.folder, proven.folder / "store" / "artifacts" / artifacts.digest)
    (stored / "initrd.img").write_bytes(b"Initrd2")

    assert sign(folder) == 1
    assert f"{stored / 'initrd.img'} was changed after it was attested" in capsys.readouterr().err
    assert sign(folder, "--artifacts", str(proven.artifacts("1").folder)) == 1
    assert "was changed after it was attested" in capsys.readouterr().err
    assert sign(folder, "--artifacts", str(artifacts.folder)) == 0
    assert capsys.readouterr().err == ""


def test_a_folder_that_cannot_be_signed_is_refused_in_one_sentence(
    proven: Proven, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sign(proven.folder / "images") == 4
    assert "images is not the folder of a run: it has no verdict.json" in capsys.readouterr().err
    folder = run(proven, "2", UNSIGNED, key="")
    (folder / "statement.json").unlink()
    assert sign(folder) == 4
    assert "statement.json is missing" in capsys.readouterr().err
    assert sign(Path("images", "policy.toml"), "--artifacts", "x") == 4
    assert "--artifacts is only for a run" in capsys.readouterr().err


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
