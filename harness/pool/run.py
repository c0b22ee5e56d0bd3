"""All shards of a plan on all hosts: GNU parallel starts them, `merge` makes one verdict of their parts."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core import digest, locks, process, serialization
from harness.core.deadline import Deadline, poll
from harness.core.errors import BootproofError, HostError, UsageError
from harness.model.shard import ShardPlan
from harness.pool import attempt
from harness.pool.attempt import ATTEMPTS, LOCK, PARTS, PLAN, POOL, REPOSITORY, Pool, check_parts, is_concluded
from harness.pool.files import pack_repository
from harness.pool.hosts import PoolHost
from harness.pool.on_host import Job
from harness.pool.table import Attempt, AttemptState, Watched
from harness.runs.folder import make_run_folder

_TRIES = 3
_SHELL = """\
# GNU parallel calls this in place of ssh: HOST -- COMMAND. The command runs here, and speaks to that host itself.
BOOTPROOF_POOL_HOST=${1#host} && export BOOTPROOF_POOL_HOST && shift
[ "$1" = -- ] && shift
exec sh -c "$*"
"""
_LEAST_LIMIT_S, _LONGER = 900.0, 4.0
_LOOK_EVERY_S, _END_S = 0.5, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRun:
    """The folder of a run on many hosts, with what all of its processes know."""

    folder: Path
    pool: Pool
    plan: ShardPlan
    left_out: dict[str, str]

    def missing(self) -> list[int]:
        """The shards without a part that says something about the image."""
        return [number for number in range(1, len(self.plan.shards) + 1) if not self._is_concluded(number)]

    def _is_concluded(self, shard: int) -> bool:
        try:
            return is_concluded(check_parts(self.folder / PARTS / str(shard), self.pool, shard), self.pool)
        except (BootproofError, OSError):
            return False

    def parts(self) -> tuple[list[Path], list[str]]:
        """The folders to merge, and a sentence for each part that cannot be used."""
        good, bad = list[Path](), list[str]()
        for number in range(1, len(self.plan.shards) + 1):
            place = self.folder / PARTS / str(number)
            if place.is_dir():
                try:
                    check_parts(place, self.pool, number)
                    good.append(place)
                except (BootproofError, OSError) as error:
                    bad.append(f"part {number} is left out: {error}")
        return good, bad

    def attempts(self) -> tuple[Attempt, ...]:
        return tuple(_read_attempts(self.folder / ATTEMPTS))

    def watched(self) -> Watched:
        hosts = tuple(host.name for host in self.pool.hosts)
        return Watched(
            hosts=hosts, left_out=self.left_out, shards=len(self.plan.shards), attempts=self.attempts()
        )  # fmt: skip

    def unsure(self) -> list[PoolHost]:
        """The hosts where a try ended without a part: they may have lost the process that clears up."""
        failed = {one.host for one in self.attempts() if one.state is AttemptState.FAILED}
        return [host for host in self.pool.hosts if host.name in failed]

    def reasons(self) -> list[str]:
        """For each shard without a conclusion: where it was tried, and what happened."""
        missing = self.missing()
        return [
            f"shard {one.shard}/{len(self.plan.shards)}, try {one.number} on {one.host}: {one.state}: {one.detail}"
            for one in self.attempts()
            if one.shard in missing
        ]


def _read_attempts(folder: Path) -> Iterator[Attempt]:
    for file in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError):
            yield serialization.read(Attempt, file)


def new_run(
    plan: ShardPlan, hosts: Sequence[PoolHost], left_out: dict[str, str], parent: Path, *, bootproof: str, workers: int,
    limit_s: float | None
) -> PoolRun:  # fmt: skip
    """A folder below ``parent`` with the plan and the files that each host gets: those of the current folder."""
    folder = make_run_folder(parent, "pool")
    for name in (ATTEMPTS, PARTS):
        (folder / name).mkdir()
    serialization.write(folder / PLAN, plan)
    pack_repository(Path.cwd(), folder / PLAN, folder / REPOSITORY)
    pool = Pool(
        hosts=tuple(hosts),
        bootproof=bootproof,
        job=_job(plan, workers),
        plan=digest.of_file(folder / PLAN),
        images=tuple(image.name for image in plan.collected.images),
        limit_s=limit_s or max(_LEAST_LIMIT_S, _LONGER * max(shard.expected_s for shard in plan.shards)),
    )
    serialization.write(folder / POOL, pool)
    return PoolRun(folder=folder, pool=pool, plan=plan, left_out=left_out)


def _job(plan: ShardPlan, workers: int) -> Job:
    """What all hosts are told. Artifacts that are named by folder here are named by digest to them."""
    images = plan.collected.images
    first = images[0]
    named = {"--artifacts": first.digests["artifacts"], "--previous": first.versions.get("old", "")}
    given = _folders(plan.options)
    return Job(
        shard=0,
        of=len(plan.shards),
        arguments=("-n", str(workers), *_without(plan.options, "--kernel-arguments")),  # the manifest has them by now
        artifacts=tuple(dict.fromkeys(one for image in images for one in image.artifacts)),
        replaced={option: sha256 for option, sha256 in named.items() if option in given},
    )


def _folders(words: Sequence[str]) -> set[str]:
    """The options whose value is a folder here: TREE@DIGEST is the same on all hosts."""
    values = zip(words, (*words[1:], ""), strict=True)
    given = [tuple(word.split("=", 1)) if "=" in word else (word, after) for word, after in values]
    return {option for option, value in given if value and Path(value).is_dir()}


def _without(words: Sequence[str], option: str) -> Iterator[str]:
    """``words`` without that option and its value."""
    rest = iter(words)
    for word in rest:
        if word == option:
            next(rest, None)
        elif not word.startswith(f"{option}="):
            yield word


def old_run(folder: Path, hosts: Sequence[PoolHost], left_out: dict[str, str]) -> PoolRun:
    """Continue the run in ``folder``, on ``hosts``."""
    try:
        pool = replace(serialization.read(Pool, folder / POOL), hosts=tuple(hosts))
        plan = serialization.read(ShardPlan, folder / PLAN)
    except (OSError, ValueError) as error:
        raise UsageError(f"--resume {folder}: not the folder of a run on many hosts: {error}") from None
    if locks.is_locked(folder / LOCK):
        raise UsageError(f"--resume {folder}: this run has not ended")
    serialization.write(folder / POOL, pool)
    return PoolRun(folder=folder, pool=pool, plan=plan, left_out=left_out)


def run_shards(run: PoolRun, look: Callable[[], None]) -> None:
    """Run what is missing; ``look`` is called twice a second. When this returns or raises, no host runs anything more
    for it, except a lost one, which ends by itself."""
    shards = run.missing()
    if not shards:
        return
    with _ending_attempts(run.folder), locks.locked(run.folder / LOCK), ExitStack() as stack:
        log = stack.enter_context((run.folder / "parallel.log").open("ab"))
        child = stack.enter_context(
            process.spawn(_parallel(run, shards), stdout=log.fileno(), stderr=log.fileno())
        )  # fmt: skip
        over = threading.Event()
        while child.poll() is None:
            look()
            over.wait(_LOOK_EVERY_S)
        look()


def _parallel(run: PoolRun, shards: Sequence[int]) -> list[str]:
    """It ends when this process does. Each host is an ssh of its own to it, which is `_SHELL`."""
    folder = run.folder.absolute()
    (folder / "at").write_text(_SHELL, "utf-8")
    hosts = (f"1/sh ./at host{number}\n" for number in range(1, len(run.pool.hosts) + 1))
    (folder / "sshlogins").write_text("".join(hosts), "utf-8")
    parallel = process.require("parallel", "parallel")
    environment = ["env", "-C", str(folder), f"PARALLEL_HOME={folder}/parallel", "SHELL=/bin/sh"]
    options = ["--plain", "--will-cite", "--sshloginfile", "sshlogins", "--jobs", "1", "--joblog", "+joblog"]
    options += ["--retries", str(_TRIES), "--timeout", f"{run.pool.limit_s + 2 * _END_S:.0f}"]
    command = f"{shlex.quote(sys.executable)} -P -m {attempt.__name__} . {{}}"
    (folder / "parallel").mkdir(exist_ok=True)
    return ["setsid", *process.tied_to_us([*environment, parallel, *options, command, ":::", *map(str, shards)])]


@contextmanager
def _ending_attempts(folder: Path) -> Iterator[None]:
    """After the block, whose end tells attempts that they are no longer wanted, wait until the last one has ended."""
    try:
        yield
    finally:
        poll(lambda: _nobody_holds(folder / ATTEMPTS), Deadline(_END_S, scaled=False), every_s=0.2)


def _nobody_holds(folder: Path) -> bool:
    descriptor = locks.lock_folder(folder, waits=False)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def check_concluded(run: PoolRun) -> list[Path]:
    """The folders of the parts to merge. `HostError` with the reasons if no shard has one."""
    good, _ = run.parts()
    if not good:
        reasons = "\n".join(f"    {reason}" for reason in run.reasons()) or "    nothing was tried"
        raise HostError(f"no shard was run to its end:\n{reasons}\ncontinue with bootproof run --resume {run.folder}")
    return good
