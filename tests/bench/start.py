"""The time until pytest and the command print something, until the first test, and to open and close a lab."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.lab import open_lab
from harness.model.events import Event, ReportedTest
from harness.runs.folder import Run

from .table import Figure, Limit, alternate, compared

ROOT = Path(__file__).parents[2]


def seconds(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def command_s(argv: Sequence[str | Path], cwd: Path = ROOT) -> float:
    """Seconds of a command. pytest's status 5, nothing collected, is expected in an empty folder."""
    started_s = time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, check=False, capture_output=True)
    taken_s = time.perf_counter() - started_s
    if done.returncode not in (0, 5):
        said = (done.stderr or done.stdout).decode("utf-8", "replace").rstrip()[-2000:]
        raise RuntimeError(f"{argv[0]} … {argv[-1]} ended with status {done.returncode}:\n{said}")
    return taken_s


def first_test_s(folder: Path, number: int) -> float:
    """Seconds from the start of pytest with eight workers to the first test of ``base``, which is built before.

    All workers collect the suite; the only test that is selected boots nothing.
    """
    test, runs = folder / "test_nothing.py", folder / f"runs-{number}"
    test.write_text("def test_nothing_is_booted(definition):\n    assert definition\n", "utf-8")
    argv: list[str | Path] = [Path(sys.executable).with_name("pytest"), "-q", "-n", "8", "-p", "no:cacheprovider"]
    argv += ["--image", "base", "--run-dir", runs, "-k", "nothing_is_booted", "tests/image", test]
    begun_s = time.time()
    subprocess.run(argv, cwd=ROOT, check=False, capture_output=True)  # 75: one test is no verdict
    (begin,) = [one.time_s for one in Run(runs / "latest", "main").events() if _is_set_up(one.event)]
    return begin - begun_s


def _is_set_up(event: Event) -> bool:
    return isinstance(event, ReportedTest) and event.when == "setup"


def measure_start(*, quick: bool) -> list[Figure]:
    pairs = 2 if quick else 9
    bootproof, pytest = (Path(sys.executable).with_name(name) for name in ("bootproof", "pytest"))
    collect: list[str | Path] = [pytest, "--collect-only", "-q", "-p", "no:cacheprovider"]
    with TemporaryDirectory() as empty:
        started = alternate(
            pairs, lambda: command_s([bootproof, "--help"]), lambda: command_s([sys.executable, "-c", "pass"])
        )
        collected = alternate(
            pairs, lambda: command_s([*collect, "--image", "base"]), lambda: command_s(collect, Path(empty))
        )
        (Path(empty) / "test_none.py").write_text("def test_none(): pass\n", "utf-8")
        first_test_s(Path(empty), 0)  # builds base and writes byte code
        numbers = count(1)
        begun = alternate(
            2 if quick else 5,
            lambda: first_test_s(Path(empty), next(numbers)),
            lambda: command_s(
                [pytest, "-q", "-n", "8", "-p", "no:cacheprovider", Path(empty) / "test_none.py"], Path(empty)
            ),
        )
    return [
        compared(
            "start", "bootproof --help", started[0], "python -c pass", started[1],
            unit="s", limit=Limit(most=0.5, unit="s", binding=False),
        ),
        compared(
            "start", "pytest --collect-only --image base", collected[0], "in an empty folder", collected[1],
            unit="s", limit=Limit(most=1.0, unit="s", binding=False),
        ),
        compared(
            "start", "until the first test of base, -n 8", begun[0], "pytest -n 8, a test without Bootproof", begun[1],
            unit="s", limit=Limit(most=5.0, unit="s", binding=False),
        ),
    ]  # fmt: skip


def measure_lab(*, quick: bool) -> list[Figure]:
    plain = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--mount", "--fork", "true"]

    def up_and_down() -> None:
        with TemporaryDirectory() as folder, open_lab(Path(folder)):
            pass

    up_and_down()  # the first time includes imports
    ours, theirs = alternate(3 if quick else 15, lambda: 1000 * seconds(up_and_down), lambda: 1000 * command_s(plain))
    limit = Limit(most=150.0, unit="ms", binding=False)
    return [compared("lab", "lab up and down", ours, "unshare true", theirs, unit="ms", limit=limit)]
