"""The table of hosts, and the lines that replace it where there is no terminal."""

from __future__ import annotations

from harness.pool.table import Attempt, AttemptState, Watched, changes, rows, summary


def attempt(shard: int, number: int, host: str, state: AttemptState, detail: str = "", began_s: float = 0.0) -> Attempt:
    return Attempt(
        shard=shard, number=number, host=host, state=state, detail=detail, began_s=began_s, changed_s=began_s + 30
    )


LOST = attempt(1, 1, "h1", AttemptState.FAILED, "the host is lost: silent for 30 s")
AGAIN = attempt(1, 2, "h2", AttemptState.RUNS, "boots 3/18, about 13 min left", began_s=40)
DONE = attempt(2, 1, "h2", AttemptState.DONE, "base: passed")
WATCHED = Watched(hosts=("h1", "h2", "h3"), left_out={"h4": "not reachable"}, shards=3, attempts=(LOST, DONE, AGAIN))


def test_each_host_has_a_row_with_what_it_did_last() -> None:
    assert rows(WATCHED, 220.0) == [
        ("h1", "1/3", "1", "failed", "30 s", "the host is lost: silent for 30 s"),
        ("h2", "1/3", "2", "runs", "3 min", "boots 3/18, about 13 min left"),
        ("h3", "", "", "idle", "", ""),
        ("h4", "", "", "left out", "", "not reachable"),
    ]


def test_the_summary_counts_shards_by_their_last_try() -> None:
    assert summary(WATCHED) == "shards: 1 of 3 done, 1 running, 1 waiting; 1 try without a conclusion"


def test_a_change_of_state_is_a_line_and_a_change_of_progress_is_none() -> None:
    later = attempt(1, 2, "h2", AttemptState.RUNS, "boots 4/18, about 12 min left", began_s=40)
    over = attempt(1, 2, "h2", AttemptState.DONE, "base: failed", began_s=40)

    assert changes([LOST, AGAIN], [LOST, later], 3) == []
    assert [line.partition(" ")[2] for line in changes([AGAIN], [over, DONE], 3)] == [
        "h2: shard 2/3, try 1: done: base: passed",
        "h2: shard 1/3, try 2: done: base: failed",
    ]
