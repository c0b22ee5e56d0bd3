"""``bootproof merge``: the parts of a run in shards become one run, if each is whole, unaltered and of one plan."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from harness.core import digest, serialization
from harness.core.errors import HostError, UsageError
from harness.model.artifacts import MANIFEST, Artifacts, Manifest
from harness.model.layout import ATTESTATION, EVENTS, PART, PLAN, SBOM, STATEMENT
from harness.model.machine_spec import Accelerator
from harness.model.shard import ShardPlan
from harness.model.verdict import Outcome, Part, Verdict
from harness.promotion import attest
from harness.promotion.attest import RESTORE, Attestation, NotVerified
from harness.runs.folder import Run, make_latest, new_run_folder, unwritable
from harness.runs.record import PROFILE, read_record
from harness.runs.relocate import relocated
from harness.verdict.assemble import Subject, assemble
from harness.verdict.merge import cost_of, host_of, missing, parts_of, scope_of

_VERDICT, _JUNIT = "verdict.json", "junit.xml"
_NOT_COPIED = ("id_ed25519", "id_ed25519.pub", "report.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRun:
    """A part's folder, verified: its verdict, the plan, and the SHA-256 of what it attests."""

    folder: Path
    verdict: Verdict
    plan: ShardPlan
    attested: str
    has_results: bool = True

    @property
    def part(self) -> Part:
        return self.verdict.parts[0]

    @property
    def is_void(self) -> bool:
        """Whether its host ran nothing, because it is unfit or could not prepare: then the part did not run."""
        return self.verdict.outcome is Outcome.INCONCLUSIVE and not self.has_results


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A merged run. ``left_out`` are sentences about unfinished and replaced parts."""

    folder: Path
    verdict: Verdict
    left_out: tuple[str, ...]


def find_parts(folders: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The folders of parts in ``folders``, whose merged runs hold several, and a sentence for each unfinished one."""
    found, unfinished = list[Path](), list[str]()
    for given in folders:
        plans = sorted(given.rglob(PLAN))
        parts = [plan.parent for plan in plans if not _is_merged(plan.parent)]
        if not parts:
            raise UsageError(f"{given} holds no part of a run in shards: no folder in it has {PLAN}")
        for folder in parts:
            if (folder / _VERDICT).is_file():
                found.append(folder)
            else:
                unfinished.append(f"{folder} is left out: it has no {_VERDICT}, so its run did not end")
    return list(dict.fromkeys(found)), unfinished


def _is_merged(folder: Path) -> bool:
    return any(folder.glob(f"{PART}*/{PLAN}"))


def read_part(folder: Path, keys: Mapping[str, str]) -> PartRun:
    """The part in ``folder``. `NotVerified` if it was altered or, with ``keys``, if none of them signed it."""
    attested, payload = _attested(folder, keys)
    try:
        verdict = serialization.read(Verdict, folder / _VERDICT)
    except (OSError, ValueError):
        verdict = None
    if verdict is None or not attest.are_same(verdict, attested.verdict):
        raise NotVerified(f"{folder / _VERDICT} is not what the part attests: it was changed after the run", RESTORE)
    for name in (EVENTS, SBOM, PLAN):
        _check(folder / name, attested.configuration.get(name, ""))
    _check(folder / MANIFEST, attested.files.get(MANIFEST, ""))
    reported = read_record(Run(folder, "main")).reported
    part = PartRun(
        folder=folder,
        verdict=verdict,
        plan=_plan(folder),
        attested=digest.of_bytes(payload),
        has_results=bool(reported),
    )
    _check_part(part, [test.test for test in reported])
    return part


def _why(verdict: Verdict) -> str:
    return f": {verdict.findings[0].what} [{verdict.findings[0].id}]" if verdict.findings else ""


def _plan(folder: Path) -> ShardPlan:
    try:
        return serialization.read(ShardPlan, folder / PLAN)
    except ValueError as error:
        raise NotVerified(f"{folder / PLAN} is not a plan: {error}", RESTORE) from error


def _attested(folder: Path, keys: Mapping[str, str]) -> tuple[Attestation, bytes]:
    signed, plain = folder / ATTESTATION, folder / STATEMENT
    if signed.is_file():
        content = signed.read_bytes()
        if keys:
            return attest.verify(content, keys, str(signed)), content
        return attest.unverified(content, str(signed)), content
    if keys:
        raise NotVerified(f"{folder} is not signed", "run each part with --sign-key KEY, or bootproof attest sign it")
    if not plain.is_file():
        raise NotVerified(f"{folder} has neither {ATTESTATION} nor {STATEMENT}", RESTORE)
    content = plain.read_bytes()
    return attest.unsigned(content, str(plain)), content


def _check(path: Path, sha256: str) -> None:
    if not path.is_file() or digest.of_file(path) != sha256:
        raise NotVerified(f"{path} is not what the part attests: it was changed, or is missing", RESTORE)


def _check_part(part: PartRun, tests: Iterable[str]) -> None:
    """It is one of its plan's, about an image of the plan, and has results of its own tests only."""
    folder, verdict, shards = part.folder, part.verdict, part.plan.shards
    if len(verdict.parts) != 1:
        raise NotVerified(f"{folder} is a run of one host, not a part: it needs no merge", "leave it out")
    if not 1 <= part.part.number <= part.part.of == len(shards):
        raise NotVerified(f"{folder} is {part.part}, but its plan has {len(shards)} shards", RESTORE)
    if verdict.image not in [image.name for image in part.plan.collected.images]:
        raise NotVerified(f"{folder} is about the image {verdict.image}, which is not in its plan", RESTORE)
    own = set(shards[part.part.number - 1].tests)
    for test in tests:
        if test not in own:
            raise NotVerified(f"{folder} is {part.part}, but has a result of {test}, which is of another part", RESTORE)


def check_together(parts: Sequence[PartRun]) -> tuple[list[PartRun], list[PartRun]]:
    """The parts by number, each once, and the runs of parts that another one replaces.

    `NotVerified` unless all are of one plan, and each agrees with it. A run that is inconclusive is replaced by one
    that is not; two other runs of a part contradict each other.
    """
    by_number, replaced = defaultdict[int, list[PartRun]](list), list[PartRun]()
    for part in parts:
        _check_plan(part, parts[0])
        by_number[part.part.number].append(part)
    for runs in by_number.values():
        ended = [run for run in runs if run.verdict.outcome is not Outcome.INCONCLUSIVE]
        replaced += [run for run in runs if ended and run not in ended]
        first, *others = runs[:] = ended or runs
        for other in others:
            if other.attested != first.attested:
                raise NotVerified(
                    f"{first.folder} and {other.folder} are both {first.part}, and differ", "leave one of them out"
                )
    return [by_number[number][0] for number in sorted(by_number)], replaced


def _check_plan(part: PartRun, first: PartRun) -> None:
    """`NotVerified` unless ``part`` is of the plan of ``first``, and agrees with it."""
    if part.part.plan != first.part.plan:
        raise NotVerified(f"{part.folder} and {first.folder} are parts of different plans", "merge those of one plan")
    for what, wanted in part.plan.image(part.verdict.image).digests.items():
        if part.verdict.digests.get(what) != wanted:
            raise NotVerified(
                f"{part.folder}: the {what} is another one than in the plan", "run the part again with the plan"
            )


def merge(
    folders: Sequence[Path], parent: Path, keys: Mapping[str, str], signer: Any | None, policy: str = ""
) -> list[Merged]:
    """A merged run in ``parent`` for each image whose parts are in ``folders``.

    ``keys`` are those that may have signed parts, by name; without any, parts need no signature. `NotVerified` if parts
    are altered or do not belong together.
    """
    found, unfinished = find_parts(folders)
    by_image = defaultdict[str, list[PartRun]](list)
    for folder in found:
        part = read_part(folder, keys)
        if part.is_void:
            unfinished.append(f"{folder} is left out: none of its tests ran{_why(part.verdict)}")
        else:
            by_image[part.verdict.image].append(part)
    if not by_image:
        raise UsageError("nothing to merge: " + "; ".join(unfinished))
    together = [check_together(parts) for _, parts in sorted(by_image.items())]
    merging = [_merge_image(parts, replaced, parent, signer, policy) for parts, replaced in together]
    return [replace(merged, left_out=(*unfinished, *merged.left_out)) for merged in merging]


def _merge_image(
    parts: Sequence[PartRun], replaced: Sequence[PartRun], parent: Path, signer: Any | None, policy: str
) -> Merged:
    """Runs that were ``replaced`` are named in the events, and bound in what is attested."""
    left_out = tuple(
        f"{run.folder} is left out: {run.part} ran again, with a verdict about the image; here{_why(run.verdict)}"
        for run in replaced
    )
    image, plan = parts[0].verdict.image, parts[0].plan
    try:
        run = Run(new_run_folder(parent, f"{image}-merged"), "main")
        try:
            _unite(run, parts)
            for sentence in left_out:
                run.add_note(sentence)
        except NotVerified:
            shutil.rmtree(run.folder)
            raise
        of = parts_of([part.verdict for part in parts])
        for finding in missing(plan, of):
            run.add_finding(finding)
        verdict = _conclude(run, plan, parts, of)
        serialization.write(run.folder / _VERDICT, verdict)
        bound = {f"{PART}{part.part.number}": part.attested for part in parts}
        bound |= {f"replaced-{place}": part.attested for place, part in enumerate(replaced, 1)}
        attest.write_all(run.folder, verdict, _artifacts(run.folder), signer, policy, bound)
        make_latest(run.folder)
    except OSError as error:
        raise unwritable(parent, error) from error
    return Merged(folder=run.folder, verdict=verdict, left_out=left_out)


def _unite(run: Run, parts: Sequence[PartRun]) -> None:
    """Copy the parts into ``run``, with the events of all; `NotVerified` if those of one cannot be read."""
    first = parts[0]
    for name in (PLAN, MANIFEST):
        shutil.copyfile(first.folder / name, run.folder / name)
    for test in first.plan.image(first.verdict.image).tests:
        run.add(test)
    for part in parts:
        name = f"{PART}{part.part.number}"
        folder = shutil.copytree(
            part.folder, run.folder / name, ignore=shutil.ignore_patterns(*_NOT_COPIED), symlinks=True
        )
        _add_events(run, part, name, folder)
        if (folder / PROFILE).exists() and not (run.folder / PROFILE).exists():
            (run.folder / PROFILE).parent.mkdir()
            shutil.copyfile(folder / PROFILE, run.folder / PROFILE)
    _write_junit(run, (run.folder / f"{PART}{part.part.number}" for part in parts))


def _add_events(run: Run, part: PartRun, name: str, folder: Path) -> None:
    try:
        run.add_all(one for recorded in Run(folder, "main").events() for one in relocated(recorded, name, folder))
    except ValueError as error:
        raise NotVerified(f"{part.folder / EVENTS}: {error}", RESTORE) from error


def _write_junit(run: Run, folders: Iterable[Path]) -> None:
    """All parts' suites in one file; a part without the file is left out, because its verdict has its results."""
    suites = ElementTree.Element("testsuites")
    for folder in folders:
        with suppress(OSError, ElementTree.ParseError):
            suites.extend(ElementTree.parse(folder / _JUNIT).getroot().iter("testsuite"))
    ElementTree.ElementTree(suites).write(run.folder / _JUNIT, encoding="utf-8", xml_declaration=True)


def _conclude(run: Run, plan: ShardPlan, parts: Sequence[PartRun], of: tuple[Part, ...]) -> Verdict:
    artifacts, verdicts = _artifacts(run.folder), [part.verdict for part in parts]
    host = host_of(of)
    accelerators = {verdict.host.get("accelerator", "").partition(":")[0] for verdict in verdicts}
    subject = Subject(
        artifacts=artifacts,
        accelerator=Accelerator.TCG if accelerators == {Accelerator.TCG.value} else Accelerator.KVM,
        digests=parts[0].verdict.digests,
        host=host,
    )
    scope = scope_of(plan, parts[0].verdict.image, of)
    verdict = assemble(scope, subject, read_record(run), (0.0, 0.0))
    return replace(verdict, cost=cost_of(verdicts))


def _artifacts(folder: Path) -> Artifacts:
    """Their manifest, without the files: the merging host need not have them."""
    try:
        return Artifacts(folder=folder, manifest=serialization.read(Manifest, folder / MANIFEST))
    except ValueError as error:
        raise HostError(f"{folder / MANIFEST} cannot be read: {error}") from error
