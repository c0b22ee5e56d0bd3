"""Formats that others read: old files stay readable, newer ones are refused in a sentence, the schemas are current."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.cli.promote import TRUST_VARIABLE
from harness.core import serialization
from harness.model.artifacts import MANIFEST, Manifest
from harness.model.layout import ATTESTATION, SBOM
from harness.model.verdict import Verdict
from harness.promotion import attest
from harness.promotion.select import TREE_VARIABLE
from harness.replay.bundle import Bundle
from harness.replay.bundle_read import unpack

from ... import samples, schemas
from ..proven import Proven

FILES = Path(__file__).parents[2] / "formats"
SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"
KINDS: dict[str, Any] = {"verdict": Verdict, "manifest": Manifest, "bundle": Bundle}


def number(file: Path) -> int:
    return int(file.stem.rpartition("-")[2])


def files(name: str) -> list[Path]:
    return sorted(FILES.glob(f"{name}-*.json"), key=number)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_each_older_format_says_the_same_as_one_of_the_current(name: str) -> None:
    values: list[Any] = [serialization.read(KINDS[name], file) for file in files(name)]

    assert values == [values[-1]] * (1 + KINDS[name].FORMAT.number - number(files(name)[0]))


def test_an_attestation_of_each_older_format_verifies_and_says_the_same_verdict() -> None:
    keys = {file.stem: file.read_text().strip() for file in FILES.glob("key*.pub")}
    *older, current = (attest.verify(file.read_bytes(), keys, file.name).verdict for file in files("attestation"))

    assert older == [current] * attest.Predicate.FORMAT.number


def test_artifacts_keep_their_digest_when_their_manifest_gets_a_number() -> None:
    """The old file says in its verdict which digest the code of its time gave its manifest."""
    recorded = json.loads((FILES / "verdict-0.json").read_text())["digests"]["artifacts"]

    assert {serialization.read(Manifest, file).digest for file in files("manifest")} == {recorded}


# The commands


@dataclass(frozen=True)
class Place:
    """A folder with artifacts, the folder ``run`` of their run, a policy that trusts its key, and a tree."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def put(self, number: int) -> None:
        """The run and the artifacts as a Bootproof of that format left them."""
        samples.artifacts(self.folder / "artifacts", "2026.11")
        shutil.copy(FILES / f"manifest-{number}.json", self.folder / "artifacts" / MANIFEST)
        self.run.mkdir()
        shutil.copy(FILES / f"attested-verdict-{number}.json", self.run / "verdict.json")
        shutil.copy(FILES / f"attestation-{number}.json", self.run / ATTESTATION)
        shutil.copy(FILES / "sbom.cdx.json", self.run / SBOM)

    def promote(self) -> int:
        return main(["promote", "nova-kvm", "--to", "stable", "--run", "run", "--artifacts", "artifacts"])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    proven = Proven(tmp_path)
    (tmp_path / "ci.key").touch()
    shutil.copy(FILES / "key.pub", tmp_path / "ci.key.pub")
    proven.demand()
    (tmp_path / "images" / "nova-kvm").mkdir(parents=True)
    (tmp_path / "images" / "nova-kvm" / "image.toml").touch()
    for name in ("policy.toml", "policy.toml.sig"):
        (tmp_path / name).rename(tmp_path / "images" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path / "keeper.key.pub"))
    monkeypatch.setenv(TREE_VARIABLE, str(tmp_path / "tree"))
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    return Place(tmp_path)


def renumber(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 9}))


def renumber_predicate(file: Path) -> None:
    """In the payload of the envelope, which nobody signs anew: the number is read first."""
    envelope = json.loads(file.read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["format"] = 9
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    file.write_text(json.dumps(envelope, sort_keys=True, separators=(",", ":")) + "\n")


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_of_an_older_bootproof_is_promoted_and_reported(place: Place, number: int) -> None:
    place.put(number)

    assert place.promote() == 0
    assert main(["report", "run"]) == 0
    assert "2026.11" in (place.run / "report.html").read_text()


def test_artifacts_of_an_older_bootproof_are_compared(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.put(0)
    shutil.copytree("artifacts", "newer")
    shutil.copy(FILES / "manifest-1.json", Path("newer", MANIFEST))

    assert main(["diff", "artifacts", "newer"]) == 0
    assert "format" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "file", "newer", "problem", "reads"),
    [
        ("promote", "run/verdict.json", renumber, "format 9 of a verdict", 2),
        ("promote", f"run/{ATTESTATION}", renumber_predicate, "format 9 of an attestation", 2),
        ("promote", f"artifacts/{MANIFEST}", renumber, "format 9 of a manifest", 1),
        ("report run", "run/verdict.json", renumber, "format 9 of a verdict", 2),
        ("diff artifacts artifacts", f"artifacts/{MANIFEST}", renumber, "format 9 of a manifest", 1),
    ],
)
def test_a_newer_file_is_refused_in_a_sentence_that_says_what_to_do(
    command: str,
    file: str,
    newer: Callable[[Path], None],
    problem: str,
    reads: int,
    place: Place,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place.put(1)
    newer(place.folder / file)

    status = place.promote() if command == "promote" else main(command.split())

    line = capsys.readouterr().err.strip()
    assert status == 4
    expected = rf"bootproof: \S*{file} has {problem}; this Bootproof reads up to {reads}: upgrade Bootproof"
    assert re.fullmatch(expected, line)


def packed(index: dict[str, Any], target: Path) -> Path:
    """A bundle of nothing but its index."""
    content = json.dumps(index | {"files": {}}).encode()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo("bundle.json")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    with target.open("wb") as file:
        subprocess.run(["zstd", "-cq"], input=stream.getvalue(), stdout=file, check=True)
    return target


@pytest.mark.parametrize("file", files("bundle"), ids=lambda file: file.stem)
def test_a_bundle_of_each_format_is_opened(file: Path, tmp_path: Path) -> None:
    opened = unpack(packed(json.loads(file.read_text()), tmp_path / "x.bundle"), tmp_path)

    assert opened.bundle == replace(serialization.read(Bundle, files("bundle")[-1]), files={})


@pytest.mark.parametrize("part", ["bundle", "manifest"])
def test_replay_refuses_a_newer_bundle_in_a_sentence(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = json.loads(files("bundle")[-1].read_text())
    (index if part == "bundle" else index["manifest"])["format"] = 9
    bundle = packed(index, tmp_path / "x.bundle")

    assert main(["replay", str(bundle)]) == 4
    reads = {"bundle": 3, "manifest": 1}[part]
    assert capsys.readouterr().err == (
        f"bootproof: {bundle} has format 9 of a {part}; this Bootproof reads up to {reads}: upgrade Bootproof\n"
    )


# Schemas


JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None), "array": list,
    "object": dict, "any": object,
}  # fmt: skip


def problems(value: Any, rule: dict[str, Any], root: dict[str, Any], at: str = "$") -> list[str]:
    """Where ``value`` is not what the schema says, for the words of JSON Schema that ours consist of."""
    if "$ref" in rule:
        return problems(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root, at)
    if "anyOf" in rule:
        return [] if any(not problems(value, one, root, at) for one in rule["anyOf"]) else [f"{at}: none of anyOf"]
    if value not in rule.get("enum", [value]) or value != rule.get("const", value):
        return [f"{at}: {value!r}"]
    if rule.get("type") == "integer" and isinstance(value, float) and value.is_integer():  # as protobuf writes it
        return []
    if not isinstance(value, JSON_TYPES[rule.get("type", "any")]):
        return [f"{at}: {value!r} is not of type {rule['type']}"]
    if isinstance(value, list):
        return [one for n, item in enumerate(value) for one in problems(item, rule["items"], root, f"{at}[{n}]")]
    if not isinstance(value, dict):
        return []
    found = [f"{at}: no {name}" for name in rule.get("required", ()) if name not in value]
    for name, item in value.items():
        inner = rule.get("properties", {}).get(name, rule["additionalProperties"])
        found += [f"{at}: {name} is unknown"] if inner is False else problems(item, inner, root, f"{at}.{name}")
    return found


@pytest.mark.parametrize("name", schemas.FORMATS)
def test_the_schemas_are_those_of_the_classes(name: str) -> None:
    kept = (SCHEMAS / f"{name}.schema.json").read_text()

    assert kept == schemas.text(name), f"docs/schemas/{name}.schema.json is not current: run make schemas, and commit"


def current(name: str) -> Any:
    plain = json.loads(files(name)[-1].read_text())
    return json.loads(base64.b64decode(plain["payload"]))["predicate"] if name == "attestation" else plain


@pytest.mark.parametrize("name", schemas.FORMATS)
def test_what_bootproof_writes_fits_its_schema_and_what_lacks_something_does_not(name: str) -> None:
    written, rules = current(name), json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    required = rules["$defs"][rules["$ref"].rpartition("/")[2]]["required"]

    assert problems(written, rules, rules) == []
    for gone in required:
        assert problems({key: value for key, value in written.items() if key != gone}, rules, rules)
    assert problems({**written, "format": 0}, rules, rules)
    assert problems({**written, "surprise": 1}, rules, rules)
