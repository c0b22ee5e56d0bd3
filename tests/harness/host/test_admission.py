"""Boots are admitted by cores and by memory, the host's or that of the control group."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from harness.core.deadline import usable_cores
from harness.core.errors import HostError
from harness.host.admission import boot_slot, cores_of_a_boot, group_limits, memory, memory_share
from harness.model.machine_spec import Accelerator, BootPath, MachineSpec
from harness.model.qemu import Qemu, Thread

MIB = 1 << 20


def test_this_process_may_use_some_memory_of_the_host() -> None:
    total_mib, available_mib = memory()

    assert 0 < available_mib <= total_mib


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        (
            {"memory.max": 4096 * MIB, "memory.current": 3000 * MIB, "memory.stat": "inactive_file 1048576"},
            (4096, 1097),
        ),
        ({"memory.max": "max", "memory.current": 5, "memory.stat": ""}, None),
        (
            {
                "memory.limit_in_bytes": 4096 * MIB,
                "memory.usage_in_bytes": 4096 * MIB,
                "memory.stat": f"inactive_file 1\ntotal_inactive_file {100 * MIB}",
            },
            (4096, 100),
        ),
    ],
)
def test_a_control_groups_limit_counts_without_the_cache_it_would_give_up(
    tmp_path: Path, files: dict[str, object], limits: tuple[int, int] | None
) -> None:
    group = tmp_path / "ci" / "job"
    group.mkdir(parents=True)
    for name, content in files.items():
        (group / name).write_text(str(content))

    assert list(group_limits(tmp_path, "/ci/job")) == ([limits] if limits else [])


def test_the_limit_of_a_group_above_counts_too(tmp_path: Path) -> None:
    (tmp_path / "ci" / "job").mkdir(parents=True)
    for name, content in {"memory.max": 64 * MIB, "memory.current": 0, "memory.stat": ""}.items():
        (tmp_path / "ci" / name).write_text(str(content))

    assert list(group_limits(tmp_path, "/ci/job")) == [(64, 64)]


def test_the_slot_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from harness.host.admission import boot_slot\n"
        "with boot_slot(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    argv = ["taskset", "-c", "0", sys.executable, "-c", script, str(tmp_path)]  # one core, so one slot
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert _is_held(tmp_path / "boot-0")
        holder.kill()

    assert not _is_held(tmp_path / "boot-0")


def _is_held(file: Path) -> bool:
    return subprocess.run(["flock", "--nonblock", str(file), "true"], check=False).returncode != 0


def is_admitted(folder: Path, needed_mib: int) -> bool:
    """Whether a machine with that memory is admitted at once."""
    try:
        with memory_share(folder, needed_mib, patience_s=0):
            return True
    except HostError:
        return False


def test_memory_that_was_promised_is_not_promised_again(tmp_path: Path) -> None:
    """A machine that was admitted a moment ago has not touched its memory yet, so it still looks free."""
    most_mib = memory()[1] * 2 // 3

    with memory_share(tmp_path, most_mib):
        assert not is_admitted(tmp_path, most_mib)
    assert is_admitted(tmp_path, most_mib)


def test_the_memory_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    most_mib = memory()[1] * 2 // 3
    script = (
        "import sys, time; from pathlib import Path; from harness.host.admission import memory_share\n"
        "with memory_share(Path(sys.argv[1]), int(sys.argv[2])): print('held', flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", script, str(tmp_path), str(most_mib)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert not is_admitted(tmp_path, most_mib)
        holder.kill()

    with memory_share(tmp_path, most_mib):
        assert len(list(tmp_path.glob("share-*"))) == 1


def test_shares_may_end_while_others_count_them(tmp_path: Path) -> None:
    """Counting removes the shares of dead processes, but not a share that is just ending."""
    script = (
        "import sys; from pathlib import Path; from harness.host.admission import memory_share\n"
        "for _ in range(100):\n"
        "    with memory_share(Path(sys.argv[1]), 1): pass"
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    children = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for _ in range(4)]

    assert [child.communicate()[1] for child in children] == [""] * 4
    assert list(tmp_path.glob("share-*")) == []


SPEC = MachineSpec(name="m", uuid=UUID(int=1), boot_path=BootPath.DIRECT, cpus=4)
QEMU = Qemu(program="/usr/bin/qemu-system-x86_64", version="10.0.2")


@pytest.mark.parametrize(
    ("accelerator", "thread", "cores"),
    [
        (Accelerator.TCG, Thread.SINGLE, 1),
        (Accelerator.TCG, Thread.MULTI, 4),
        (Accelerator.KVM, Thread.SINGLE, 4),
    ],
)
def test_a_boot_uses_as_many_cores_as_its_accelerator_has_threads(
    accelerator: Accelerator, thread: Thread, cores: int
) -> None:
    assert cores_of_a_boot(replace(SPEC, accelerator=accelerator), replace(QEMU, thread=thread)) == cores


def test_a_boot_of_many_cores_holds_all_of_its_slots_or_none(tmp_path: Path) -> None:
    cores = usable_cores()
    files = [tmp_path / f"boot-{number}" for number in range(cores)]
    with boot_slot(tmp_path, cores):
        assert all(map(_is_held, files))
        with pytest.raises(HostError, match="no boot slot in"), boot_slot(tmp_path, patience_s=0):
            pass
    with boot_slot(tmp_path):
        if cores > 1:
            with pytest.raises(HostError, match=f"no {cores} boot slots in"), boot_slot(tmp_path, cores, patience_s=0):
                pass
        assert list(map(_is_held, files)) == [True] + [False] * (cores - 1)


def test_a_machine_with_more_cpus_than_the_host_has_cores_is_admitted(tmp_path: Path) -> None:
    with boot_slot(tmp_path, usable_cores() + 1, patience_s=0):
        pass
