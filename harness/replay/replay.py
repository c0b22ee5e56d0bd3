"""``bootproof replay``: reproduce the failure of a bundle."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import HostError, UsageError
from harness.core.namespaces import remove
from harness.core.statistics import share_interval
from harness.core.terminal import to_stderr
from harness.lab import open_lab
from harness.machine.attend import AttachMode, attend
from harness.model import network_faults
from harness.model.machine_spec import BreakPoint
from harness.model.network_faults import adapted
from harness.model.verdict import Finding
from harness.replay.attempt import attempt, make_files, make_folder
from harness.replay.break_at import stop_at
from harness.replay.bundle import UNFINISHED, Failure
from harness.replay.bundle_read import unpack
from harness.replay.case import AttemptFinding, Case
from harness.replay.case_from_bundle import ArtifactSources, case_from_bundle, on_this_host
from harness.replay.changes import change
from harness.store.store import find_store

_MISSED_BY_CHANCE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """One replay: the options of the command. ``settings`` are KEY=VALUE; with ``mode`` or ``break_at``, a person gets
    the machine and nothing is counted."""

    bundle: Path
    repeat: int = 1
    settings: tuple[str, ...] = ()
    mode: AttachMode | None = None
    break_at: str = ""
    artifacts: Path | None = None
    tree: str | None = None
    images_dir: Path | None = None
    run_dir: Path | None = None


def replay(options: ReplayOptions) -> int:
    """Print how often the failure was reproduced, and return the exit status; or give the machine to a person."""
    if options.repeat < 1:
        raise UsageError(f"--repeat {options.repeat}: expected at least 1")
    store = find_store()
    with ExitStack() as stack:
        folder = stack.enter_context(store.workfolder(remove=remove))
        opened = unpack(options.bundle, make_folder(folder / "bundle"))
        failure = opened.bundle.failure
        to_stderr(f"{options.bundle.name}: {failure.finding.what} [{failure.finding.id}]")
        sources = ArtifactSources(
            store=store, given=options.artifacts, tree=options.tree, images_dir=options.images_dir
        )
        case = case_from_bundle(opened, sources, stack)
        for setting in options.settings:
            case = change(case, setting, store)
        case = on_this_host(case, store)
        if options.mode or options.break_at:
            mode = options.mode or AttachMode.SHELL
            where = options.break_at or (BreakPoint.FIRMWARE if mode is AttachMode.GDB else "")
            return _attend(stop_at(case, where) if where else case, make_folder(folder / "shell"), mode)
        logs = (options.run_dir or folder / "runs").absolute()
        counts: Counter[str] = Counter()
        for number in range(1, options.repeat + 1):
            found = attempt(case, store, make_folder(logs / f"replay-{number}"), options.images_dir)
            seen = matching(found, failure.finding, is_test=bool(case.test))
            counts[seen] += 1
            to_stderr(f"replay {number}: {seen or 'no finding'}")
    lines, exit_status = summarize(failure, counts, options.repeat)
    print("\n".join(lines))
    return exit_status


def _attend(case: Case, folder: Path, mode: AttachMode) -> int:
    spec = make_files(case, folder, folder)
    faults = [network_faults.read(name) for name in case.network_faults]
    to_stderr("Ctrl-D ends it" if mode is AttachMode.MONITOR else "Ctrl-] ends it")
    with open_lab(folder / "lab", case.network, network_faults=faults) as lab:
        attend(adapted(spec, faults), case.before or case.booted, case.definition, lab, folder, case.stop, mode)
    return 0


def matching(found: tuple[AttemptFinding, ...], wanted: Finding, *, is_test: bool) -> str:
    """The id of ``wanted`` if it is among ``found``, else the first finding; empty if there is none.

    For a test, a finding counts only if it is about that test: other tests of its file may fail as well.
    """
    names = [one.id if not is_test or one.where == wanted.where else f"{one.id} at {one.where}" for one in found]
    return wanted.id if wanted.id in names else next(iter(names), "")


def summarize(failure: Failure, counts: Mapping[str, int], repeat: int) -> tuple[list[str], int]:
    """The result of ``repeat`` tries, of which ``counts`` showed each finding id (empty: none).

    Returns lines for a person, and the exit status.
    """
    wanted = failure.finding.id
    if wanted == UNFINISHED:  # nobody saw how that boot would have ended: any finding may be the reason
        reproduced = repeat - counts.get("", 0)
        lines = [f"not ready in {reproduced} of {repeat}"]
    else:
        reproduced = counts.get(wanted, 0)
        lines = [f"{wanted}: reproduced in {reproduced} of {repeat}{_rate(failure, reproduced, repeat)}"]
    lines += [f"{other or 'no finding'}: {count} of {repeat}" for other, count in counts.items() if other != wanted]
    enough = _enough(failure)
    if failure.seen < failure.tries and not reproduced and repeat < enough:
        lines.append(f"too few tries to conclude that the failure is gone: --repeat {enough}")
    return lines, _exit_status(failure, reproduced, repeat)


def _rate(failure: Failure, reproduced: int, repeat: int) -> str:
    """For an intermittent failure: its rate here and in its run, as 95 % intervals."""
    seen, tries = failure.seen, failure.tries
    if seen == tries:
        return ""
    return f" ({_interval(reproduced, repeat)}); in its run in {seen} of {tries} ({_interval(seen, tries)})"


def _interval(count: int, of: int) -> str:
    low, high = share_interval(count, of)
    return f"{low:.0%} to {high:.0%}"


def _enough(failure: Failure) -> int:
    """Tries after which a failure with the rate of its run would have appeared, with a probability of 95 %."""
    if failure.seen == failure.tries:
        return 1
    return math.ceil(math.log(_MISSED_BY_CHANCE) / math.log(1 - failure.seen / failure.tries))


def _exit_status(failure: Failure, reproduced: int, repeat: int) -> int:
    """1 if reproduced. An intermittent failure is reproduced if the 95 % intervals of both rates overlap."""
    if reproduced == repeat:
        return 1
    if not reproduced:
        return 0 if repeat >= _enough(failure) else HostError.exit_status
    if failure.seen < failure.tries:
        low, high = share_interval(reproduced, repeat)
        run_low, run_high = share_interval(failure.seen, failure.tries)
        if low <= run_high and run_low <= high:
            return 1
    return HostError.exit_status
