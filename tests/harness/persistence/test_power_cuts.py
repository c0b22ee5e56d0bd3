"""Power cuts on the host: what QEMU records, which states follow from it, and what they are judged to be."""

from __future__ import annotations

import json
import random
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from harness.core import process
from harness.core.errors import HostError
from harness.model.machine_spec import DiskSpec
from harness.persistence.power_cuts.campaign import PowerCutStudy
from harness.persistence.power_cuts.crash_states import CrashState, PartialWrite, plan_crash_states, windows
from harness.persistence.power_cuts.judge import (
    CrashResult,
    Expectation,
    Judgement,
    boots_from_power_on,
    judge,
    sample,
    unrestored,
)
from harness.persistence.power_cuts.lost_writes import lost_writes
from harness.persistence.power_cuts.materialize import new_layout
from harness.persistence.power_cuts.read_back import DiskContents, KnownContents, read_disk
from harness.persistence.power_cuts.sweep import Recording, expectation, lay_out, sweep
from harness.persistence.power_cuts.writelog import Flag, Write, count_entries, make_log, open_log
from harness.persistence.write_load import records
from harness.qemu.command_line import disk_node
from harness.qemu.disk_images import Partition

KIB, MIB = 1 << 10, 1 << 20


def write_log(path: Path, requests: Sequence[tuple[int, bytes] | None]) -> None:
    """A log of writes (offset, data) and flushes (None), as QEMU would have made it."""
    made = struct.pack("<QQQI", 0x6A736677736872, 1, len(requests), 512).ljust(512, b"\0")
    for request in requests:
        offset, data = request or (0, b"")
        flags = 0 if request else Flag.FLUSH
        made += struct.pack("<QQQQ", offset // 512, len(data) // 512, flags, 0).ljust(512, b"\0") + data
    path.write_bytes(made)


def block(letter: str, count: int = 1) -> bytes:
    return letter.encode() * 4096 * count


def test_what_qemu_records_reads_back(tmp_path: Path) -> None:
    disk = DiskSpec(path=tmp_path / "disk.raw", serial="S", writes=tmp_path / "log")
    disk.path.write_bytes(bytes(MIB))
    make_log(tmp_path / "log")
    for commands in (["write -P 97 8k 4k", "flush"], ["write -z 64k 64k", "write -P 98 512 1024"]):
        argv = [process.require("qemu-io", "qemu-utils"), "--image-opts", "-t", "writeback"]
        argv = [
            argv[0],
            *(word for command in commands for word in ("-c", command)),
            "json:" + json.dumps(disk_node(0, disk)),
        ]
        subprocess.run(argv, check=True, capture_output=True)

    with open_log(tmp_path / "log") as log:
        writes = [write for write in log.writes if write.size_bytes]
        seen = [(write.offset_bytes, write.size_bytes, log.data(write, 0, write.size_bytes)) for write in writes]
        first_flush = next(number for number, write in enumerate(log.writes) if write.is_flush)
    assert seen == [(8192, 4096, b"a" * 4096), (65536, 65536, bytes(65536)), (512, 1024, b"b" * 1024)]
    assert first_flush == 1
    assert count_entries(tmp_path / "log") >= 4


def test_half_a_log_and_what_is_none_are_the_hosts_fault(tmp_path: Path) -> None:
    write_log(tmp_path / "log", [(0, block("a")), None])
    whole = (tmp_path / "log").read_bytes()
    for flawed in (whole[:-600], whole[:600], b"x" * 4096):
        (tmp_path / "log").write_bytes(flawed)
        with pytest.raises(HostError, match="log"), open_log(tmp_path / "log"):
            pass


def writes_of(kinds: str) -> list[Write]:
    """ "w" is a write of three blocks, "f" a flush."""
    return [
        Write(0, 0, Flag.FLUSH, 0) if kind == "f" else Write(number * 12288, 12288, Flag(0), 0)
        for number, kind in enumerate(kinds)
    ]


def test_every_flush_boundary_is_cut_and_parts_are_what_was_on_its_way() -> None:
    writes = writes_of("wwfwfwwwwf")
    spans = list(windows(writes))

    cuts = plan_crash_states(writes, 60, seed=1)

    assert [(span.begin, span.writes, span.end) for span in spans] == [
        (0, (0, 1), 2), (3, (3,), 4), (5, (5, 6, 7, 8), 9), (10, (), 10)
    ]  # fmt: skip
    assert {cut.begin for cut in cuts if not cut.parts} == {0, 3, 5, 10}
    assert len(set(cuts)) == len(cuts) == 60
    assert cuts == sorted(cuts, key=lambda cut: cut.begin)
    inside = {span.begin: span.writes for span in spans}
    for cut in cuts:
        assert {part.number for part in cut.parts} <= set(inside[cut.begin])
        assert all(0 < part.size_bytes <= 12288 and part.size_bytes % 4096 == 0 for part in cut.parts)
        assert sum(part.size_bytes < 12288 for part in cut.parts) <= 1
    assert plan_crash_states(writes, 60, seed=1) == cuts
    assert plan_crash_states(writes, 60, seed=2) != cuts


def test_where_there_are_no_more_states_there_are_no_more_cuts() -> None:
    writes = [Write(0, 4096, Flag(0), 0), Write(0, 0, Flag.FLUSH, 0), Write(4096, 4096, Flag(0), 0)]

    assert plan_crash_states(writes, 1000, seed=1) == [CrashState(0, (), 1), CrashState(2, (), 3)]


def test_a_state_is_what_was_durable_and_the_parts_to_the_byte(tmp_path: Path) -> None:
    """Against the plainest model there is: an array of bytes."""
    source, size = random.Random(7), 64 * KIB
    requests = list[tuple[int, bytes] | None]()
    for _ in range(60):
        data = source.choice([bytes(512), source.randbytes(512)]) * source.choice([1, 8, 16])
        requests += [(source.randrange(0, size - len(data) + 1, 512), data), *([None] if source.random() < 0.3 else [])]
    write_log(tmp_path / "log", requests)
    start = 8 * KIB + 512

    seen: dict[object, bytes] = {}
    with open_log(tmp_path / "log") as log:
        layout = new_layout(log, tmp_path, start, size - start)
        for cut in plan_crash_states(log.writes, 150, seed=3):
            parts = layout.effective(cut)
            layout.lay_out(cut, tmp_path / "state")
            model = bytearray(size)
            whole = [PartialWrite(number, log.writes[number].size_bytes) for number in range(cut.begin)]
            for part in (*whole, *cut.parts):
                write = log.writes[part.number]
                data = log.data(write, 0, part.size_bytes)
                model[write.offset_bytes : write.offset_bytes + part.size_bytes] = data
            assert (tmp_path / "state").read_bytes() == model[start:], cut
            assert seen.setdefault((cut.begin, parts), bytes(model[start:])) == model[start:], "called equal"
            (tmp_path / "state").unlink()
    assert len(seen) < 150, "no two states were equal"


STEADY = {"/etc": "folder", "/etc/nova": "folder", "/etc/nova/nova.conf": "a", "/machine-id": "b"}
AWAITED = Expectation(
    ready_at=100,
    steady=STEADY,
    made=STEADY | {"/etc/nova/late": "c"},
    locations=("/etc/nova",),
    acknowledged={},
    seed="s",
)
GOOD = dict(AWAITED.made)


def without(*paths: str) -> dict[str, str]:
    return {path: digest for path, digest in GOOD.items() if path not in paths}


@pytest.mark.parametrize(
    ("begin", "files", "result", "named"),
    [
        (100, GOOD, CrashResult.KEPT, ""),
        (100, without("/etc/nova/nova.conf"), CrashResult.LOST, "/etc/nova: a file is missing: /etc/nova/nova.conf"),
        (
            100,
            GOOD | {"/machine-id": "other"},
            CrashResult.LOST,
            "outside of the persistent paths: a file has changed: /machine-id",
        ),
        (99, without("/etc/nova", "/etc/nova/nova.conf", "/etc/nova/late"), CrashResult.KEPT, ""),
        (
            99,
            without("/etc/nova/nova.conf"),
            CrashResult.OPEN,
            "/etc/nova is incomplete: /etc/nova/nova.conf is missing",
        ),
        (99, GOOD | {"/etc/nova/nova.conf": "half"}, CrashResult.OPEN, "a file has changed"),
        (99, {}, CrashResult.KEPT, ""),
        (100, without("/etc/nova/late"), CrashResult.OPEN, "/etc/nova is incomplete: /etc/nova/late is missing"),
    ],
)
def test_what_is_not_there_is_lost_once_the_machine_was_ready(
    begin: int, files: dict[str, str], result: CrashResult, named: str
) -> None:
    judgement = judge(CrashState(begin), DiskContents("", files), AWAITED)

    assert judgement.result is result
    assert named in judgement.sentence


def test_a_damaged_file_system_is_lost_once_the_machine_was_ready() -> None:
    assert [judge(CrashState(at), DiskContents("torn", {}), AWAITED).result for at in (99, 100)] == [
        CrashResult.OPEN,
        CrashResult.LOST,
    ]


def test_a_record_that_was_acknowledged_before_the_cut_must_be_there() -> None:
    def line(number: int) -> bytes:
        from hashlib import sha256

        return f"\n{number} {sha256(f's {number}'.encode()).hexdigest()}".encode()

    awaited = Expectation(ready_at=0, steady={}, made={}, locations=(), acknowledged={1: 10, 2: 20, 3: 30}, seed="s")
    content = line(1) + b"\n2 torn" + line(3)

    assert records(content, "s") == {1, 3}
    judgements = [judge(CrashState(at), DiskContents("", {}, content), awaited) for at in (19, 20)]
    assert [one.result for one in judgements] == [CrashResult.KEPT, CrashResult.LOST]
    assert "1 of 2, the first is number 2" in judgements[1].sentence


def test_a_record_that_was_acknowledged_without_any_flush_is_lost() -> None:
    awaited = Expectation(ready_at=0, steady={}, made={}, locations=(), acknowledged={1: 5}, seed="s")

    (boundary,) = plan_crash_states(writes_of("w" * 9), 1, seed=1)

    assert boundary == CrashState(0, (), 9)
    assert judge(boundary, DiskContents("", {}), awaited).result is CrashResult.LOST


def test_after_a_cut_first_boot_only_what_is_a_machines_own_may_be_new() -> None:
    twin = GOOD | {"/machine-id": "of the twin"}

    assert unrestored(GOOD | {"/machine-id": "new"}, AWAITED, twin) == ""
    assert "/etc/nova/nova.conf differs" in unrestored(GOOD | {"/etc/nova/nova.conf": "half"}, AWAITED, twin)
    assert "/machine-id is missing" in unrestored(without("/machine-id"), AWAITED, twin)


@pytest.mark.parametrize("begin", [99, 100])
def test_what_a_machine_had_not_yet_on_its_disk_may_be_new_after_the_cut(recording: Recording, begin: int) -> None:
    twin = GOOD | {"/machine-id": "of the twin", "/etc/nova/late": "of the twin"}
    study = PowerCutStudy(recording=recording, awaited=AWAITED, twin=twin, judged=0, results={}, sampled=[])

    def flaw(files: dict[str, str]) -> str:
        return study.problem(CrashState(begin), DiskContents("", files))

    assert flaw(GOOD | {"/etc/nova/late": "new"}) == ""
    assert "/etc/nova/late is missing" in flaw(without("/etc/nova/late"))
    assert "/etc/nova/nova.conf" in flaw(GOOD | {"/etc/nova/nova.conf": "half"})


def test_losses_are_booted_before_doubts_and_doubts_before_what_is_kept() -> None:
    ordered = [
        Judgement(CrashState(number), *result)
        for number, result in enumerate(
            [(CrashResult.OPEN, "x")] * 3 + [(CrashResult.KEPT, "")] * 90 + [(CrashResult.LOST, "y")] * 5
        )
    ]

    assert [one.cut.begin for one in sample(ordered, 6, ready_at=50)] == [0, 93, 97, 2, 50, 73]
    chosen = sample(ordered, 20, ready_at=50)
    assert len(chosen) == len(set(chosen)) == 20
    assert {one.cut.begin for one in chosen} >= {0, 2, 93, 97}
    assert all(one.cut.begin >= 50 for one in chosen[4:])


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """An ext4 in a partition, made and flushed; then ``/late`` is written without a flush before the next one."""
    size, start = 16 * MIB, MIB
    image, tree = tmp_path / "image", tmp_path / "tree"
    tree.mkdir()
    (tree / "early").write_bytes(b"kept" * 2000)
    states = list[bytes]()
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-b", "4096", "-d", str(tree), str(image), "16M"], check=True)
    states.append(image.read_bytes())
    for source in ("late", "later"):
        (tmp_path / source).write_bytes(source.encode() * 3000)
        request = ["/usr/sbin/debugfs", "-w", "-R", f"write {tmp_path / source} {source}", str(image)]
        subprocess.run(request, check=True, capture_output=True)
        states.append(image.read_bytes())
    requests = list[tuple[int, bytes] | None]()
    for before, after in zip([bytes(size), *states], states, strict=False):
        at = range(0, size, 4096)
        requests += [(start + n, after[n : n + 4096]) for n in at if before[n : n + 4096] != after[n : n + 4096]]
        requests.append(None)
    write_log(tmp_path / "log", requests)
    ready_at = requests.index(None, requests.index(None) + 1) + 1  # when /late was flushed
    return Recording(
        log=tmp_path / "log",
        disk_bytes=32 * MIB,
        partition=Partition(number=2, start_bytes=start, size_bytes=size, type=UUID(int=0)),
        ready_at=ready_at,
        acknowledged={},
        seed="s",
        load="/load",
        locations=("/late",),
        made={},
    )


def test_writes_without_order_are_found_and_their_file_is_named(recording: Recording, tmp_path: Path) -> None:
    """debugfs writes without a journal, so a cut in between damages the file system."""
    progress: list[tuple[int, int]] = []
    awaited = expectation(recording, tmp_path)
    assert set(awaited.steady) == {"/early", "/late"}

    judgements = sweep(recording, awaited, tmp_path, count=60, seed=1, progress=lambda *now: progress.append(now))

    boundaries = [one for one in judgements if not one.cut.parts]
    assert [one.result for one in boundaries] == [
        CrashResult.OPEN,
        CrashResult.KEPT,
        CrashResult.KEPT,
        CrashResult.KEPT,
    ]
    lost = [one for one in judgements if one.result is CrashResult.LOST]
    assert lost
    assert all(one.sentence.startswith("e2fsck") for one in lost)
    assert progress[-1] == (len(judgements), len(judgements))
    lines = lost_writes(recording, CrashState(awaited.ready_at), tmp_path)
    assert any(line.endswith("/later") for line in lines)
    assert any("of the file system itself" in line for line in lines)


def test_a_whole_disk_is_laid_out_for_a_machine(recording: Recording, tmp_path: Path) -> None:
    *_, end = (CrashState(span.begin) for span in windows(open_writes(recording)))

    lay_out(recording, end, tmp_path / "disk.raw")

    seen = (tmp_path / "disk.raw").stat()
    assert seen.st_size == recording.disk_bytes
    assert (tmp_path / "disk.raw").read_bytes()[MIB : 17 * MIB] == (tmp_path / "image").read_bytes()
    assert seen.st_blocks * 512 < 8 * MIB


def open_writes(recording: Recording) -> tuple[Write, ...]:
    with open_log(recording.log) as log:
        return log.writes


@pytest.mark.parametrize(("count", "full"), [(2, [0, 1]), (3, [0, 1]), (6, [0, 5]), (20, [0, 5, 10, 15])])
def test_a_fifth_of_the_sample_and_at_least_two_boot_from_power_on(count: int, full: list[int]) -> None:
    assert [number for number in range(count) if boots_from_power_on(number, count)] == full


@pytest.fixture
def file_system(tmp_path: Path) -> Path:
    state, tree = tmp_path / "state", tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("content")
    process.output(["mkfs.ext4", "-q", "-F", "-d", str(tree), str(state), "32M"])
    return state


def change(state: Path, at: int, data: bytes) -> None:
    with state.open("r+b") as file:
        file.seek(at)
        file.write(data)


def block_of(state: Path, file: str) -> int:
    return int(process.output(["debugfs", "-R", f"blocks {file}", str(state)]).split()[0]) * 1024


def test_states_that_differ_only_in_the_journal_or_the_time_are_read_once(file_system: Path, tmp_path: Path) -> None:
    known = KnownContents()
    seen = [read_disk(file_system, tmp_path / "files", known=known) for _ in range(2)]
    change(file_system, block_of(file_system, "<8>") + 512 * 1024, b"dropped transaction")
    seen.append(read_disk(file_system, tmp_path / "files", known=known))

    assert seen[0].files["/file"]
    assert seen[1] == seen[0]
    assert seen[2] is seen[1]


def test_one_byte_of_a_file_or_of_a_bitmap_is_judged_anew(file_system: Path, tmp_path: Path) -> None:
    known = KnownContents()
    whole = [read_disk(file_system, tmp_path / "files", known=known) for _ in range(2)][-1]

    change(file_system, block_of(file_system, "/file"), b"C")
    changed = read_disk(file_system, tmp_path / "files", known=known)
    change(file_system, block_of(file_system, "/file"), bytes(1024))
    emptied = read_disk(file_system, tmp_path / "files", known=known)
    change(file_system, block_of(file_system, "/file"), b"content")
    again = read_disk(file_system, tmp_path / "files", known=known)
    table = process.output(["dumpe2fs", str(file_system)])
    bitmap = int(table.partition("Block bitmap at ")[2].split()[0]) * 1024
    change(file_system, bitmap, b"\0")
    damaged = read_disk(file_system, tmp_path / "files", known=known)

    digests = {seen.files["/file"] for seen in (whole, changed, emptied)}
    assert len(digests) == 3
    assert again is whole
    assert damaged.problem.startswith("e2fsck -fn")


def test_a_discard_leaves_zeros_where_something_was_and_takes_no_time_elsewhere(tmp_path: Path) -> None:
    write_log(tmp_path / "log", [(0, block("a", 4)), None])
    with (tmp_path / "log").open("r+b") as log:  # all but the first half of the first block, on a disk of 2 TiB
        log.seek(0, 2)
        log.write(struct.pack("<QQQQ", 1, (2 << 40) // 512 - 1, Flag.DISCARD, 0).ljust(512, b"\0"))
        log.seek(0)
        log.write(struct.pack("<QQQI", 0x6A736677736872, 1, 3, 512))
    with open_log(tmp_path / "log") as log_:
        layout = new_layout(log_, tmp_path, 0, 2 << 40)
        layout.lay_out(CrashState(2, (PartialWrite(2, (2 << 40) - 512),), 3), tmp_path / "state")

    with (tmp_path / "state").open("rb") as state:
        assert state.read(32768) == b"a" * 512 + bytes(32768 - 512)
