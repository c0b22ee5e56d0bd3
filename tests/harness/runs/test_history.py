"""The history: each run once, also if several write at the same time, and never at a verdict's expense."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import process, serialization
from harness.core.errors import HostError
from harness.model.events import Cloned, ReportedTest
from harness.model.prepared import TestDurations as Durations
from harness.model.verdict import BootResult, Coverage, Finding, Outcome, RuntimeProfile, Verdict
from harness.runs import history
from harness.runs.folder import Run
from harness.store.store import Store

DIGEST = "a" * 64
TRAITS = RuntimeProfile(memory_mib=300, sockets=(), users={}, groups={}, links={}, units={})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def boot(ready_s: float | None, *, digest: str = DIGEST, run: str = "") -> BootResult:
    return BootResult(machine="m", number=1, boot_path="ipxe-bios", artifacts=digest, phases={"kernel": 5.0},
                ready_s=ready_s, console="", added_arguments=(), run=run)  # fmt: skip


def verdict(
    *boots: BootResult, version: str = "2026.11", digest: str = DIGEST, outcome: Outcome = Outcome.PASSED, hour: int = 1
) -> Verdict:
    return Verdict(
        outcome=outcome, image="base", version=version, digests={"artifacts": digest}, findings=(),
        coverage=Coverage(boot_paths=("ipxe-bios",), passed=(), failed=(), missing=()), boots=boots,
        host={"accelerator": "tcg: no /dev/kvm"}, started=f"2026-11-21T{hour:02}:00:00+00:00", elapsed_s=60.0,
        runtime_profile=TRAITS,
    )  # fmt: skip


def run_folder(tmp_path: Path, name: str, kept: Verdict, *, clone_mib: int = 300, one_s: float = 1.5) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    serialization.write(folder / "verdict.json", kept)
    run = Run(folder, "main")
    for when in ("setup", "call", "teardown"):
        run.add(ReportedTest(test="t::one", when=when, outcome="passed", took_s=one_s))
    run.add(ReportedTest(test="t::two", when="setup", outcome="skipped", took_s=0.1))
    run.add(ReportedTest(test="t::three", when="call", outcome="passed", took_s=1.0))
    run.add(ReportedTest(test="t::three", when="teardown", outcome="failed", took_s=1.0))
    run.add(Cloned(machine="m", state="booted", took_s=1.0, mib=clone_mib))
    return folder


def rows(store: Store, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(store.root / "history" / "history.sqlite") as base:
        found = base.execute(query).fetchall()
    base.close()
    return found


def test_a_run_is_noted_with_boots_tests_and_flakes(tmp_path: Path, store: Store) -> None:
    flake = Finding(id="flake", what="passed 2 of 3 times", where="t::one")
    seen = replace(verdict(boot(80.0), boot(90.0), boot(None), outcome=Outcome.FAILED), findings=(flake,))

    assert history.keep(store, seen, run_folder(tmp_path, "run", seen)) == ""

    (known,) = history.versions(store, "base")
    assert (known.version, known.digest, known.runs, known.passed) == ("2026.11", DIGEST, 1, 0)
    assert (known.outcome, known.flakes, known.memory_mib) == (Outcome.FAILED, 1, 300)
    assert known.boots_s == {"ipxe-bios tcg": history.Spread(85.0, 80.0, 90.0, 2)}
    assert rows(store, "select test, outcome, took_s from test order by test") == [
        ("t::one", "passed", 4.5),
        ("t::three", "failed", 2.0),
        ("t::two", "skipped", 0.1),
    ]


def test_the_same_run_is_one_row_and_its_later_verdict_counts(tmp_path: Path, store: Store) -> None:
    folder = run_folder(tmp_path, "run", verdict(boot(80.0)))

    history.keep(store, verdict(boot(80.0), outcome=Outcome.INCONCLUSIVE), folder)
    history.keep(store, verdict(boot(80.0)), folder)

    (known,) = history.versions(store, "base")
    assert (known.runs, known.outcome) == (1, Outcome.PASSED)
    assert len(rows(store, "select * from boot")) == 1
    assert len(rows(store, "select * from test")) == 3


def test_a_boot_counts_for_the_artifacts_that_it_ran_and_in_the_run_that_made_it(tmp_path: Path, store: Store) -> None:
    upgrades = verdict(boot(80.0), boot(10.0, digest="b" * 64), boot(20.0, run="/runs/earlier"))
    history.keep(store, upgrades, run_folder(tmp_path, "run", upgrades))
    (known,) = history.versions(store, "base")
    assert known.boots_s == {"ipxe-bios tcg": history.Spread(80.0, 80.0, 80.0, 1)}

    newer = verdict(boot(12.0, digest="b" * 64), version="2026.12", digest="b" * 64, hour=2)
    history.keep(store, newer, run_folder(tmp_path, "newer", newer))
    assert [one.boots_s["ipxe-bios tcg"].count for one in history.versions(store, "base")] == [1, 2]


def test_a_run_that_only_upgraded_to_artifacts_is_found_if_none_is_about_them(tmp_path: Path, store: Store) -> None:
    upgrades = verdict(boot(80.0), boot(90.0, digest="b" * 64), hour=2)
    folder = run_folder(tmp_path, "upgrades", upgrades)
    history.keep(store, upgrades, folder)

    assert history.last_verdict_folder(store, "b" * 64) == folder
    assert history.last_verdict_folder(store, "c" * 64) is None

    about = verdict(boot(80.0), digest="b" * 64, outcome=Outcome.FAILED, hour=1)
    history.keep(store, about, run_folder(tmp_path, "about", about))
    assert history.last_verdict_folder(store, "b" * 64) == tmp_path / "about"


def test_figures_over_versions_are_in_the_order_of_their_first_run(tmp_path: Path, store: Store) -> None:
    for hour, (version, digest, ready_s) in enumerate([("9", DIGEST, 80.0), ("10", "b" * 64, 70.0), ("9", DIGEST, 90)]):
        seen = verdict(boot(ready_s, digest=digest), version=version, digest=digest, hour=hour)
        history.keep(store, seen, run_folder(tmp_path, f"run{hour}", seen))

    known = history.versions(store, "base")

    assert [(one.version, one.runs) for one in known] == [("9", 2), ("10", 1)]
    assert history.series(known) == (
        history.Series(name="ipxe-bios tcg until ready", unit="s", points=(("9", 85.0), ("10", 70.0))),
        history.Series(name="memory in use when idle", unit="MiB", points=(("9", 300), ("10", 300))),
    )


def test_the_shortest_of_the_last_three_passes_is_a_tests_duration(tmp_path: Path, store: Store) -> None:
    for hour, one_s in enumerate([0.1, 2.0, 1.0, 3.0]):
        seen = verdict(boot(80.0), hour=hour)
        history.keep(store, seen, run_folder(tmp_path, f"run{hour}", seen, clone_mib=100 * hour, one_s=one_s))

    known = history.durations(store, "base")

    assert known == Durations(clone_mib=300, boot_s=80.0, tests_s={"t::one": 3.0}), (
        "a failed or skipped test has no duration"
    )
    assert history.durations(store, "other") == Durations()


_TO_2 = "drop index boot_of_digest; alter table boot drop column digest; pragma user_version = 2;"
_TO_1 = f"{_TO_2} alter table run drop column clone_mib; pragma user_version = 1;"


@pytest.mark.parametrize(("number", "script"), [(1, _TO_1), (2, _TO_2)])
def test_a_history_of_an_older_format_is_read_and_upgraded(
    tmp_path: Path, store: Store, number: int, script: str
) -> None:
    history.keep(store, verdict(boot(80.0)), run_folder(tmp_path, "run", verdict(boot(80.0))))
    with sqlite3.connect(store.root / "history" / "history.sqlite") as base:
        base.executescript(script)
    base.close()

    assert (history.durations(store, "base") == Durations()) == (number == 1)
    assert history.versions(store, "base")[0].boots_s["ipxe-bios tcg"].count == 1
    assert history.last_verdict_folder(store, DIGEST) == tmp_path / "run"

    seen = verdict(boot(80.0), hour=2)
    assert history.keep(store, seen, run_folder(tmp_path, "second", seen)) == ""
    assert history.versions(store, "base")[0].runs == 2
    assert history.versions(store, "base")[0].boots_s["ipxe-bios tcg"].count == 2
    assert history.durations(store, "base").clone_mib == 300


def test_durations_of_a_damaged_history_are_unknown(store: Store) -> None:
    _gibberish(store.folder("history") / "history.sqlite")

    assert history.durations(store, "base") == Durations()


def test_nothing_is_known_before_the_first_run(store: Store) -> None:
    assert history.versions(store, "base") == ()
    assert history.last_verdict_folder(store, DIGEST) is None
    assert not store.root.exists()


def test_the_newest_passed_verdict_that_is_still_there_is_found(tmp_path: Path, store: Store) -> None:
    folders = {}
    for hour, (name, outcome) in enumerate(
        [("old", Outcome.PASSED), ("good", Outcome.PASSED), ("bad", Outcome.FAILED)], start=1
    ):
        seen = verdict(boot(80.0), outcome=outcome, hour=hour)
        folders[name] = run_folder(tmp_path, name, seen)
        history.keep(store, seen, folders[name])

    found = []
    for name in ("good", "old", "bad"):
        found.append(history.last_verdict_folder(store, DIGEST))
        (folders[name] / "verdict.json").unlink()

    assert found == [folders["good"], folders["old"], folders["bad"]]
    assert history.last_verdict_folder(store, DIGEST) is None


def test_a_folder_that_holds_a_verdict_on_other_bytes_is_passed_over(tmp_path: Path, store: Store) -> None:
    seen = verdict(boot(80.0))
    folder = run_folder(tmp_path, "run", seen)
    history.keep(store, seen, folder)
    serialization.write(folder / "verdict.json", verdict(digest="b" * 64))

    assert history.last_verdict_folder(store, DIGEST) is None


_WRITER = """
import sys
from pathlib import Path
from harness.core import serialization
from harness.runs import history
from harness.store.store import Store
from harness.model.events import Cloned, ReportedTest
from harness.model.verdict import Verdict
store, parent, name = Store(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
seen = serialization.read(Verdict, parent / "run" / "verdict.json")
for number in range(25):
    folder = parent / f"{name}-{number}"
    folder.mkdir()
    print(history.keep(store, seen, folder), end="")
"""


@pytest.mark.parametrize("begun_as", [None, b"no history" * 1000])
def test_runs_that_end_at_once_are_all_noted(tmp_path: Path, store: Store, begun_as: bytes | None) -> None:
    run_folder(tmp_path, "run", verdict(boot(80.0)))
    if begun_as:
        (store.folder("history") / "history.sqlite").write_bytes(begun_as)
    argv = [sys.executable, "-c", _WRITER, str(store.root), str(tmp_path)]

    with ThreadPoolExecutor() as pool:
        sentence = "".join(pool.map(lambda name: process.output([*argv, name]), ["a", "b", "c"]))

    assert sentence.count("damaged-1.sqlite") == (1 if begun_as else 0)
    assert history.versions(store, "base")[0].runs == 75


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("create table theirs (x)")
    base.close()


def _torn(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * 4096 + content[8192:])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _gibberish(path: Path) -> None:
    path.write_bytes(b"gibberish" * 999)


@pytest.mark.parametrize("damage", [_foreign, _torn, _cut, _gibberish])
def test_a_damaged_history_is_renamed_and_the_run_begins_another(
    tmp_path: Path, store: Store, damage: Callable[[Path], None]
) -> None:
    path = store.folder("history") / "history.sqlite"
    seen = verdict(boot(80.0))
    if damage is not _foreign:
        history.keep(store, seen, run_folder(tmp_path, "first", seen))
    damage(path)
    damaged = path.read_bytes()

    sentence = history.keep(store, seen, run_folder(tmp_path, "run", seen))

    assert "was damaged" in sentence
    assert "\n" not in sentence
    assert path.with_name("damaged-1.sqlite").read_bytes() == damaged
    assert history.versions(store, "base")[0].runs == 1


def test_reading_a_damaged_history_names_its_file(store: Store) -> None:
    _gibberish(store.folder("history") / "history.sqlite")

    for look in (lambda: history.versions(store, "base"), lambda: history.last_verdict_folder(store, DIGEST)):
        with pytest.raises(HostError, match=r"is damaged .*; the next run renames it"):
            look()


def test_a_newer_history_is_refused_and_left_as_it_is(tmp_path: Path, store: Store) -> None:
    seen = verdict(boot(80.0))
    history.keep(store, seen, run_folder(tmp_path, "first", seen))
    path = store.root / "history" / "history.sqlite"
    with sqlite3.connect(path) as base:
        base.execute("pragma user_version = 99")
    base.close()
    before = path.read_bytes()

    sentence = history.keep(store, seen, run_folder(tmp_path, "run", seen))

    assert "not in the history" in sentence
    assert "newer Bootproof (format 99; this one reads up to 3)" in sentence
    assert path.read_bytes() == before
    with pytest.raises(HostError, match="newer Bootproof"):
        history.versions(store, "base")


@pytest.fixture
def full_of_nothing(store: Store) -> Store:
    """A store with a file where the history's folder should be."""
    store.root.mkdir()
    (store.root / "history").write_text("in the way")
    return store


def test_what_cannot_be_written_is_a_sentence(tmp_path: Path, full_of_nothing: Store) -> None:
    seen = verdict(boot(80.0))

    sentence = history.keep(full_of_nothing, seen, run_folder(tmp_path, "run", seen))

    assert sentence.startswith("this run is not in the history: ")


def test_a_run_with_nothing_to_boot_leaves_no_trace(tmp_path: Path, store: Store) -> None:
    assert history.keep(store, replace(verdict(), digests={}), tmp_path) == ""
    assert not store.root.exists()
