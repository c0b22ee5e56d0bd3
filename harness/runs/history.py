"""Earlier runs on this host: outcomes, boot times, test durations and flakes, in one small SQLite file.

The history is a convenience: a verdict is in its run's folder and does not depend on this file. A writer holds the
store's lock ``history``, so runs that end at the same time wait for each other, and a damaged file is set aside once.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness.core import serialization
from harness.core.errors import BootproofError, HostError, UsageError
from harness.model.artifacts import INITRD, KERNEL, Manifest
from harness.model.prepared import TestDurations
from harness.model.verdict import Outcome, Verdict
from harness.runs.folder import Run
from harness.runs.record import RunRecord, read_record
from harness.store.store import Store

_SCHEMA_VERSION = 3
_SCHEMA = """
create table run (
    id integer primary key,
    folder text not null unique,
    image text not null,
    version text not null,
    digest text not null,
    outcome text not null,
    started text not null,
    elapsed_s real not null,
    accelerator text not null,
    memory_mib integer,
    kernel_bytes integer,
    initrd_bytes integer,
    rootfs_bytes integer,
    clone_mib integer
);
create index run_of_image on run (image, started);
create index run_of_digest on run (digest, started);
create table boot (
    run integer not null references run (id) on delete cascade,
    machine text not null,
    number integer not null,
    path text not null,
    phases text not null,
    ready_s real,
    digest text not null default ''
);
create index boot_of_run on boot (run);
create index boot_of_digest on boot (digest);
create table test (
    run integer not null references run (id) on delete cascade,
    test text not null,
    outcome text not null,
    took_s real not null
);
create index test_of_run on test (run);
create table flake (
    run integer not null references run (id) on delete cascade,
    "where" text not null,
    what text not null
);
create index flake_of_run on flake (run);
"""
_RUN = "insert into run values (null, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPGRADES = {
    1: "alter table run add column clone_mib integer;",
    2: """
        alter table boot add column digest text not null default '';
        update boot set digest = (select digest from run where run.id = boot.run);
        create index boot_of_digest on boot (digest);
    """,
}
"""From each older format to the next. Format 2 has only the boots of the artifacts that the run's verdict is about."""
_LAST_RUNS = 3
"""The shortest duration of a test in this many runs is taken: in the others it may have waited for something shared."""
_PATIENCE_S = 30.0
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds, measured ``count`` times."""

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.count == 1:
            return f"{self.median:.0f} s"
        return f"{self.median:.0f} s ({self.low:.0f} to {self.high:.0f}, {self.count} boots)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """All runs of one set of artifacts. ``boots_s`` maps a boot path and accelerator to times until ready, also of
    boots in runs of other artifacts, which upgraded from or to these.

    ``outcome`` and ``started`` (ISO 8601) are those of the last run.
    """

    version: str
    digest: str
    runs: int
    passed: int
    boots_s: dict[str, Spread]
    flakes: int
    outcome: Outcome
    started: str
    memory_mib: float | None
    rootfs_mib: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One figure over versions, the oldest first: pairs of version and value in ``unit``."""

    name: str
    unit: str
    points: tuple[tuple[str, float], ...]


class _Damaged(Exception):
    """The file is not a valid history."""


# Writing


def keep(store: Store, verdict: Verdict, folder: Path) -> str:
    """Add a finished run; a second verdict of the same run replaces the first.

    Raises nothing: returns a sentence about the problem, or an empty string.
    """
    if not verdict.digests:
        return ""  # there was nothing to boot
    try:
        with store.locked("history"):
            path = store.folder("history") / "history.sqlite"
            try:
                return _add(path, store, verdict, folder)
            except _Damaged as error:
                aside = _set_aside(path)
                problem = _add(path, store, verdict, folder)
                return problem or f"{path} was damaged ({error}); it was renamed to {aside.name}, a new history begins"
    except (BootproofError, OSError, sqlite3.Error, _Damaged, ValueError, KeyError, TypeError) as error:
        return f"this run is not in the history: {error}"


def _add(path: Path, store: Store, verdict: Verdict, folder: Path) -> str:
    record = read_record(Run(folder, "main"))
    with _open(path) as base:
        _prepare(base, path)
        with base:
            base.execute("begin immediate")
            base.execute("delete from run where folder = ?", [str(folder.resolve())])
            number = base.execute(_RUN, [*_row(store, verdict, folder), record.clone_mib or None]).lastrowid
            base.executemany(
                "insert into boot values (?, ?, ?, ?, ?, ?, ?)", ([number, *row] for row in _boots(verdict))
            )
            base.executemany("insert into test values (?, ?, ?, ?)", ([number, *row] for row in _tests(record)))
            flakes = [[number, finding.where, finding.what] for finding in verdict.findings if finding.id == "flake"]
            base.executemany("insert into flake values (?, ?, ?)", flakes)
    return ""


def _prepare(base: sqlite3.Connection, path: Path) -> None:
    """Create or upgrade the tables; `_Damaged` if the file is not an intact history of Bootproof."""
    version, tables = _schema_version(base, path), base.execute("select count(*) from sqlite_master").fetchone()[0]
    if not version and tables:
        raise _Damaged("it has tables of another program")
    if not version:
        base.executescript(f"begin; {_SCHEMA} pragma user_version = {_SCHEMA_VERSION}; commit;")
    for older in range(version, _SCHEMA_VERSION) if version else ():
        base.executescript(f"begin immediate; {_UPGRADES[older]} pragma user_version = {older + 1}; commit;")
    answer = base.execute("pragma quick_check(1)").fetchone()[0]
    if answer != "ok":
        raise _Damaged(answer.splitlines()[-1])


def _row(store: Store, verdict: Verdict, folder: Path) -> list[Any]:
    return [
        str(folder.resolve()),
        verdict.image,
        verdict.version,
        verdict.digests["artifacts"],
        (Outcome.INCONCLUSIVE if verdict.is_partial else verdict.outcome).value,  # a part proves nothing alone
        verdict.started,
        verdict.elapsed_s,
        verdict.host.get("accelerator", "").partition(":")[0],
        verdict.runtime_profile.memory_mib if verdict.runtime_profile else None,
        *_sizes(store, verdict),
    ]


def _sizes(store: Store, verdict: Verdict) -> list[int | None]:
    """Bytes of kernel, initrd and root file system, from the manifest while the store still has the artifacts."""
    with suppress(UsageError):
        manifest: Manifest = store.artifacts(verdict.digests["artifacts"]).manifest
        return [manifest.files[name].size_bytes for name in (KERNEL, INITRD, manifest.rootfs)]
    return [None, None, None]


def _boots(verdict: Verdict) -> Iterator[list[Any]]:
    """This run's boots, each with the artifacts that it ran; a template's boots count in the run that made it."""
    for boot in verdict.boots:
        if not boot.run and boot.is_ordinary:
            yield [boot.machine, boot.number, boot.boot_path, json.dumps(boot.phases), boot.ready_s, boot.artifacts]


def _tests(record: RunRecord) -> Iterator[list[Any]]:
    """Each test with its outcome, "failed" if anything around it did, and the seconds it took with its fixtures."""
    outcomes = defaultdict[str, set[str]](set)
    for part in record.reported:
        if part.outcome != "passed" or part.when == "call":
            outcomes[part.test].add(part.outcome)
    for test, seen in outcomes.items():
        outcome = next(name for name in ("failed", "skipped", "passed") if name in seen)
        yield [test, outcome, round(record.took_s[test], 1)]


def _set_aside(path: Path) -> Path:
    """Rename the damaged file, and remove its journal, which would be replayed into the new file."""
    number = next(number for number in range(1, 10_000) if not path.with_name(f"damaged-{number}.sqlite").exists())
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    return path.rename(path.with_name(f"damaged-{number}.sqlite"))


# Reading


def versions(store: Store, image: str) -> tuple[Version, ...]:
    """All runs of the image by artifacts, the earliest first; `HostError` if the history cannot be read."""
    with _reading(store) as base:
        if base is None:
            return ()
        runs, boots = defaultdict[str, list[sqlite3.Row]](list), _ready_times(base, image)
        for run in base.execute("select * from run where image = ? order by started, id", [image]):
            runs[run["digest"]].append(run)
        counted = "select digest, count(*) from flake join run on run.id = flake.run where image = ? group by digest"
        flakes = dict(base.execute(counted, [image]).fetchall())
        return tuple(_version(found, boots[digest], flakes.get(digest, 0)) for digest, found in runs.items())


def _ready_times(base: sqlite3.Connection, image: str) -> dict[str, dict[str, list[float]]]:
    times_s = defaultdict[str, dict[str, list[float]]](lambda: defaultdict(list))
    rows = base.execute(
        f"select {_digest_of_boot(base)}, path, accelerator, ready_s from boot join run on run.id = boot.run "
        "where image = ? and ready_s is not null order by path, accelerator",
        [image],
    )
    for digest, path, accelerator, ready_s in rows:
        times_s[digest][" ".join(filter(None, [path, accelerator]))].append(ready_s)
    return times_s


def _digest_of_boot(base: sqlite3.Connection) -> str:
    """The column with the artifacts that a boot ran: of an older file, those that its run's verdict is about."""
    return "boot.digest" if _format(base) >= 3 else "run.digest"


def _version(runs: list[sqlite3.Row], boots_s: dict[str, list[float]], flakes: int) -> Version:
    last = runs[-1]
    memory_mib = [run["memory_mib"] for run in runs if run["memory_mib"] is not None]
    rootfs_bytes = next((run["rootfs_bytes"] for run in runs if run["rootfs_bytes"]), None)
    return Version(
        version=last["version"],
        digest=last["digest"],
        runs=len(runs),
        passed=sum(run["outcome"] == Outcome.PASSED for run in runs),
        boots_s={path: Spread(median(all_s), min(all_s), max(all_s), len(all_s)) for path, all_s in boots_s.items()},
        flakes=flakes,
        outcome=Outcome(last["outcome"]),
        started=last["started"],
        memory_mib=median(memory_mib) if memory_mib else None,
        rootfs_mib=round(rootfs_bytes / _MIB, 1) if rootfs_bytes else None,
    )


def series(known: Iterable[Version]) -> tuple[Series, ...]:
    """Figures over versions, from `versions`: seconds until ready, size, memory; unknown values are left out."""
    boots, rootfs, memory = defaultdict[str, list[tuple[str, float]]](list), [], []
    for version in known:
        for path, spread in version.boots_s.items():
            boots[path].append((version.version, spread.median))
        if version.rootfs_mib is not None:
            rootfs.append((version.version, version.rootfs_mib))
        if version.memory_mib is not None:
            memory.append((version.version, version.memory_mib))
    named = [(f"{path} until ready", "s", points) for path, points in boots.items()]
    named += [("root file system", "MiB", rootfs), ("memory in use when idle", "MiB", memory)]
    return tuple(Series(name=name, unit=unit, points=tuple(points)) for name, unit, points in named if points)


def durations(store: Store, image: str) -> TestDurations:
    """What the last runs of ``image`` measured; nothing, if the history cannot be read.

    A test counts only where it passed: a test that failed may have ended before its work was done.
    """
    with suppress(HostError), _reading(store) as base:
        if base is None or _format(base) < 2:
            return TestDurations()
        tests = base.execute(
            "select test, min(took_s) from (select test, took_s, "
            "row_number() over (partition by test order by started desc, run.id desc) as age "
            "from test join run on run.id = test.run where image = ? and test.outcome = 'passed') "
            "where age <= ? group by test",
            [image, _LAST_RUNS],
        )
        newest = "select clone_mib from run where image = ? and clone_mib is not null order by started desc, id desc"
        clone = base.execute(newest, [image]).fetchone()
        return TestDurations(
            clone_mib=clone["clone_mib"] if clone else 0, boot_s=_boot_s(base, image), tests_s=dict(tests.fetchall())
        )
    return TestDurations()


def _boot_s(base: sqlite3.Connection, image: str) -> float:
    """Seconds until a boot is ready, the median of the last runs; 0 if there was none."""
    rows = base.execute(
        "select ready_s from boot join (select id from run where image = ? order by started desc, id desc limit ?) "
        "as recent on recent.id = boot.run where ready_s is not null",
        [image, _LAST_RUNS],
    )
    times_s = [ready_s for (ready_s,) in rows]
    return median(times_s) if times_s else 0.0


def last_verdict_folder(store: Store, digest: str) -> Path | None:
    """The folder of the newest run that passed these artifacts, else of their newest run, else of the newest run of
    others that booted them, if it still exists.

    `HostError` if the history cannot be read.
    """
    with _reading(store) as base:
        if base is None:
            return None
        order = "run.digest = :digest desc, outcome = 'passed' desc, started desc, id desc"
        booted = f"select run from boot join run on run.id = boot.run where {_digest_of_boot(base)} = :digest"
        select = f"select folder from run where digest = :digest or id in ({booted}) order by {order}"
        rows = base.execute(select, {"digest": digest}).fetchall()
    return next((Path(folder) for (folder,) in rows if _has_boots_of(digest, Path(folder))), None)


def _has_boots_of(digest: str, folder: Path) -> bool:
    """Whether the verdict in ``folder`` is about these artifacts or has boots of them: another run may have taken the
    folder's name since."""
    with suppress(OSError, ValueError, BootproofError):  # a newer format is an error of the last kind
        verdict = serialization.read(Verdict, folder / "verdict.json")
        return digest in (verdict.digests.get("artifacts"), *(boot.artifacts for boot in verdict.boots))
    return False


@contextmanager
def _reading(store: Store) -> Iterator[sqlite3.Connection | None]:
    """The history, or None before the first run; `HostError` in one sentence if it cannot be read."""
    path = store.root / "history" / "history.sqlite"
    if not path.exists():
        yield None
        return
    try:
        with _open(path) as base:
            if not _schema_version(base, path):
                raise _Damaged("it has no tables")
            yield base
    except _Damaged as error:
        raise HostError(f"{path} is damaged ({error}); the next run renames it and begins a new history") from error
    except sqlite3.Error as error:
        raise HostError(f"{path} cannot be read: {error}") from error


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for the block; `_Damaged` if the file turns out to be damaged, also later in the block."""
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)) as base:
            base.row_factory = sqlite3.Row
            base.execute("pragma foreign_keys = on")
            yield base
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            raise _Damaged(str(error)) from error
        raise


def _schema_version(base: sqlite3.Connection, path: Path) -> int:
    """0 for a new file; `HostError` for a file of a newer Bootproof, which is not changed."""
    version = _format(base)
    if version > _SCHEMA_VERSION:
        raise HostError(
            f"{path} was written by a newer Bootproof (format {version}; this one reads up to {_SCHEMA_VERSION})"
        )
    return version


def _format(base: sqlite3.Connection) -> int:
    return int(base.execute("pragma user_version").fetchone()[0])
