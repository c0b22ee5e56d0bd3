"""Before its part of a run in shards, a host proves itself: a machine of a build that has passed becomes ready there.

What fails then is the host's doing. Where no such artifacts are known, nothing is proven, and a note says so.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

from harness.core.errors import Blame, BootproofError, HostError, UsageError
from harness.fixtures.machine import context_of, template_spec
from harness.lab import open_lab
from harness.machine.errors import BootFailed
from harness.machine.states import BOOTED, Versions
from harness.machine.template_store import StateFailed, TemplateStore
from harness.machine.templates import Templates
from harness.model.artifacts import Artifacts
from harness.model.prepared import PreparedImage
from harness.model.verdict import Finding, Outcome
from harness.plugin.state import RunState
from harness.promotion.select import select_promoted
from harness.runs import history
from harness.store.store import Store, find_store

_STREAM, _NAME = "stable", "host-proof"


def prove_host(state: RunState, image: str) -> Finding | None:
    """A finding about this host if it cannot run a build of ``image`` that has passed before; else None."""
    store, run, prepared = find_store(), state.runs[image], state.prepared[image]
    with ExitStack() as until:
        good = _passed_before(prepared, store, until)
        if good is None:
            run.add_note(f"this host is not proven first: no other build of {image} that has passed is known here")
            return None
        run.add_note(f"this host proves itself first, with {image} {good.manifest.version}, which has passed")
        trial = run.expected_to_fail(run.folder / _NAME)
        templates = Templates(
            spec=replace(template_spec(state, image, Versions(good, good, good, good)), network_faults=()),
            store=TemplateStore(store=store, run=trial),
            open_lab=partial(open_lab, network=prepared.network),
            context_of=partial(context_of, state, trial),
        )
        try:
            lab = until.enter_context(templates.open_lab(trial.folder / "lab"))
            until.enter_context(templates.machine(BOOTED, _NAME, lab=lab, folder=trial.folder / "disks"))
        except (BootproofError, OSError) as error:
            return _unfit(good, image, error)
    return None


def _passed_before(prepared: PreparedImage, store: Store, until: ExitStack) -> Artifacts | None:
    """What the stream has now, else the last build that passed in a run on this host; never what is under test."""
    if (side := select_promoted(None, prepared.image, _STREAM, until)) is not None:
        return None if side.artifacts.digest == prepared.under_test.name else side.artifacts
    with suppress(HostError):
        for version in reversed(history.versions(store, prepared.image)):
            if version.outcome is Outcome.PASSED and version.digest != prepared.under_test.name:
                with suppress(UsageError):  # it is no longer in the store
                    return store.hold(partial(store.artifacts, version.digest), until)
    return None


def _unfit(good: Artifacts, image: str, error: BaseException) -> Finding:
    finding = error.finding if isinstance(error, BootFailed | StateFailed) else None
    why = f"{finding.what} [{finding.id}]" if finding else str(error).partition("\n")[0]
    return Finding(
        id="host-unfit",
        what=f"this host does not run {image} {good.manifest.version}, which has passed before: {why}",
        where=_NAME,
        blame=Blame.HOST,
        evidence=finding.evidence if finding else (),
        cause="the host: its emulator, memory, disk or load; the same bytes have passed elsewhere",
    )
