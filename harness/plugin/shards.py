"""One host's part of a run in shards: ``--shard I/N --plan FILE``; and the collection that a plan is made from."""

from __future__ import annotations

import platform
import shlex
import shutil
from collections.abc import Iterator, Sequence

import pytest

from harness.core import digest, serialization
from harness.core.deadline import usable_cores
from harness.model.artifacts import MANIFEST, load_artifacts
from harness.model.layout import PLAN
from harness.model.prepared import PreparedImage
from harness.model.shard import ROLES, Collected, ImagePlan, ShardPlan
from harness.model.verdict import Part
from harness.plugin.collect import REFERENCE_BOOT_S, expected_s, image_of, planned
from harness.plugin.options import RunOptions
from harness.plugin.state import RunState
from harness.runs.folder import Run
from harness.verdict.assemble import digests_of, tests_of

PROBLEM = "bootproof_problem"
"""What a worker hands to the controller if its tests are not those of the plan."""


def _settings_of(options: RunOptions) -> dict[str, str]:
    """What must be the same on all hosts besides the files, by option."""
    return {
        "--image": ",".join(options.definitions),
        "--boot-path": ",".join(options.boot_paths),
        "--hardware": options.hardware.name if options.hardware else "",
        "--network-fault": ",".join(fault.name for fault in options.network_faults),
        "--thorough": "yes" if options.is_thorough else "",
        "--power-cuts": str(options.power_cuts) if options.is_thorough else "",
        "--soak": str(options.soak_minutes) if options.is_thorough else "",
        "--repeat": str(options.repeats),
        "--seed": str(options.seed),
    }


def write_collected(session: pytest.Session, state: RunState) -> bool:
    """Write what this run would do, for ``bootproof plan``, in place of running it."""
    assert state.options.write_plan is not None
    serialization.write(state.options.write_plan, _collected(session.items, state))
    return True


def _collected(items: Sequence[pytest.Item], state: RunState) -> Collected:
    """What this run would do, on hosts like this one."""
    prepared = state.prepared.values()
    boot_s = max(one.durations.boot_s or REFERENCE_BOOT_S * one.slowness for one in prepared)
    return Collected(
        images=tuple(_image_plan(name, items, state) for name in state.prepared),
        settings=_settings_of(state.options),
        boot_s=round(boot_s, 1),
        lanes=usable_cores(),
    )


def _image_plan(name: str, items: Sequence[pytest.Item], state: RunState) -> ImagePlan:
    options, prepared = state.options, state.prepared[name]
    own = [item for item in items if image_of(item) == name]
    folders = zip(ROLES, (prepared.old, prepared.new, prepared.newest), strict=True)
    return ImagePlan(
        definition=options.definitions[name],
        boot_paths=options.paths_of(name),
        is_thorough=options.is_thorough,
        digests=_digests(name, own, state),
        versions={role: load_artifacts(folder).digest for role, folder in folders},
        tests=tuple(planned(item, options) for item in own),
        expected_s={item.nodeid: round(expected_s(item, prepared, options), 1) for item in own},
    )


def _digests(name: str, items: Sequence[pytest.Item], state: RunState) -> dict[str, str]:
    """What the verdict on this image is bound to, as its conclusion computes it."""
    artifacts = load_artifacts(state.prepared[name].under_test)
    tests = tests_of((planned(item, state.options) for item in items), state.suites)
    return digests_of(state.options.definitions[name], artifacts, tests)


# A host's part


def check_options(options: RunOptions) -> None:
    """pytest's `UsageError` if an option is another one than in the plan: before anything is built or booted."""
    if options.plan is None:
        return
    mine, arguments = _settings_of(options), shlex.join(options.plan.options)
    for option, value in options.plan.collected.settings.items():
        if mine.get(option, "") != value:
            given = [one or "(not given)" for one in (value, mine.get(option, ""))]
            differs = f"--plan was made with {option} {given[0]}, this run has {given[1]}"
            raise pytest.UsageError(f"{differs}; give pytest its options: {arguments}")


def select(config: pytest.Config, items: list[pytest.Item], state: RunState) -> list[pytest.Item]:
    """Leave only this shard's tests in ``items``; returns the others.

    If this run differs from the plan in what its tests prove, nothing is left: a worker hands a sentence about it to
    the controller, which ends the run with it. Without workers, it is pytest's `UsageError`.
    """
    plan, wanted = state.options.plan, own_tests(state.options)
    assert plan is not None
    assert wanted is not None
    if problem := next(_differences(config, items, state, plan), ""):
        if state.is_controller:
            raise pytest.UsageError(problem)
        config.workeroutput[PROBLEM] = problem  # type: ignore[attr-defined]  # of xdist's workers
        wanted = frozenset()
    others = [item for item in items if item.nodeid not in wanted]
    items[:] = [item for item in items if item.nodeid in wanted]
    return others


def _differences(
    config: pytest.Config, items: Sequence[pytest.Item], state: RunState, plan: ShardPlan
) -> Iterator[str]:
    """A sentence for each difference of this run's files to those of the plan."""
    for image in plan.collected.images:
        if image.name not in state.prepared:
            continue  # there is nothing to boot
        own = [item for item in items if image_of(item) == image.name]
        for what, sha256 in _digests(image.name, own, state).items():
            if image.digests.get(what) != sha256:
                yield _other(what, image, sha256)
    ids = {item.nodeid for item in items}
    lost = [test for shard in plan.shards for test in shard.tests if test not in ids]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        yield f"--plan: {lost[0]}{more} of its tests are not collected here; {_remedy(config, plan)}"


def _remedy(config: pytest.Config, plan: ShardPlan) -> str:
    """pytest takes FILE of ``--option FILE`` for a path of tests when it looks for its rootdir; ids begin there."""
    root, place = config.rootpath, config.invocation_params.dir
    if root != place and place.is_relative_to(root):
        return (
            f"pytest took {root} for the root of the tests: write options with a path as --plan=FILE, or add "
            f"--rootdir={place}"
        )
    return f"give pytest its options: {shlex.join(plan.options)}"


def _other(what: str, image: ImagePlan, here: str) -> str:
    there = image.digests.get(what, "none")
    return (
        f"--plan: the {what} of {image.name} has the digest {there[:12]} in the plan and {here[:12]} here; use one "
        "commit and one Bootproof on all hosts, or make a new plan"
    )


def note(run: Run, options: RunOptions) -> None:
    """Put the plan into the folder of a part: it can then be merged without anything else."""
    if options.plan is not None:
        serialization.write(run.folder / PLAN, options.plan)


def note_manifest(run: Run, options: RunOptions, prepared: PreparedImage) -> None:
    """Put the manifest into the folder of a part: the merging host need not have the artifacts."""
    if options.plan is not None:
        shutil.copyfile(prepared.under_test / MANIFEST, run.folder / MANIFEST)


def parts(run: Run, options: RunOptions) -> tuple[Part, ...]:
    """The part that this run is; empty for a whole one."""
    if options.plan is None:
        return ()
    number, of, plan = options.shard, len(options.plan.shards), digest.of_file(run.folder / PLAN)
    return (Part(number=number, of=of, plan=plan, host=platform.node()),)


def own_tests(options: RunOptions) -> frozenset[str] | None:
    """The tests of this part; None for a whole run."""
    return None if options.plan is None else frozenset(options.plan.shards[options.shard - 1].tests)


def about(options: RunOptions) -> Iterator[str]:
    """How much of the plan this host runs."""
    if plan := options.plan:
        shard = plan.shards[options.shard - 1]
        yield (
            f"part {options.shard} of {len(plan.shards)}: {len(shard.tests)} of "
            f"{sum(len(one.tests) for one in plan.shards)} tests, about {max(1, round(shard.expected_s / 60))} min"
        )
