"""Templates and clones of a real machine: clones are isolated, and the template does not change."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import digest
from harness.core.errors import Blame
from harness.guest.checks import BootFailed
from harness.lab import open_lab
from harness.machine import states
from harness.machine.by_hand import by_hand
from harness.machine.machine import Machine
from harness.machine.states import Versions
from harness.machine.templates import StateFailed, Templates
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import DiskBus, DiskSpec, MachineSpec, Network
from harness.qemu.disk_images import open_ext4
from harness.qemu.snapshot import CannotFreeze
from harness.runs.folder import Run, make_key
from harness.store.store import Store
from harness.store.template_record import discard

SIGKILL = 9


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store for this module, with one template, made on first use."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def run(tmp_path: Path, store: Store) -> Run:
    run = Run(tmp_path, "main")
    make_key(run, store)
    return run


@pytest.fixture
def templates(run: Run, store: Store, spec: MachineSpec, base: ImageDefinition, artifacts: Artifacts) -> Templates:
    return Templates(
        definition=base,
        versions=Versions(artifacts, artifacts, artifacts, artifacts),
        spec=spec,
        network=Network.LAB,
        run=run,
        store=store,
        open_lab=open_lab,
        by_hand=by_hand,
    )


@contextmanager
def machine_of(templates: Templates, name: str = "machine", state: str = "booted") -> Iterator[Machine]:
    folder = templates.run.folder / name
    with open_lab(folder / "lab") as lab, templates.machine(state, name, lab=lab, folder=folder) as machine:
        yield machine


def template_folder(templates: Templates) -> Path:
    with ExitStack() as stack:
        return templates._held(states.path_to("booted"), stack).folder


def test_a_later_run_has_the_logs_of_the_boot_whatever_became_of_the_run_that_made_it(
    templates: Templates, tmp_path: Path
) -> None:
    template_folder(templates)
    for machine in tmp_path.glob("template-*"):
        shutil.rmtree(machine)
    later = replace(templates, run=Run(tmp_path / "later", "main"))
    later.run.folder.mkdir()
    make_key(later.run, templates.store)

    template_folder(later)

    (boot,) = later.run.boots()
    assert Path(boot.console).is_relative_to(later.run.folder)
    assert "Linux version" in Path(boot.console).read_text("utf-8")


def contents(folder: Path) -> dict[str, str]:
    return {file.name: digest.of_file(file) for file in sorted(folder.iterdir()) if file.is_file()}


def test_no_clone_sees_what_another_writes_and_the_template_stays_as_it_is(templates: Templates) -> None:
    folder = template_folder(templates)
    before = contents(folder)

    with machine_of(templates, "left") as left, machine_of(templates, "right") as right:
        assert left.is_clone
        assert right.is_clone
        left.check("echo left >/data/mark && sync && echo left >/run/mark && echo left >/etc/mark")
        right.check("echo right >/data/mark && sync && echo right >/run/mark && echo right >/etc/mark")
        for machine in (left, right):
            seen = machine.check("sync; echo 3 >/proc/sys/vm/drop_caches; cat /data/mark /run/mark /etc/mark").split()
            assert seen == [machine.name] * 3
        left.power_off()
        with open_ext4(left.spec.disks[0]) as data:
            assert data.read("/mark") == b"left\n"
    with machine_of(templates, "late") as late:
        assert late.run("ls /data/mark /run/mark /etc/mark").text == ""

    assert contents(folder) == before


def test_a_clone_has_its_own_time_randomness_network_and_server(templates: Templates) -> None:
    with machine_of(templates, "left") as left, machine_of(templates, "right") as right:
        random = [machine.check("head -c 16 /dev/urandom | od -An -tx1") for machine in (left, right)]
        late_s = [time.time() - float(machine.check("date +%s.%N")) for machine in (left, right)]
        for machine in (left, right):
            machine.context.lab.http.serve("/who", machine.name.encode())
            asked = "exec 3<>/dev/tcp/10.77.0.1/80; printf 'GET /who HTTP/1.0\\r\\n\\r\\n' >&3; tail -1 <&3"
            assert machine.check(asked) == machine.name
            machine.check(
                "networkctl renew $(ls /sys/class/net | grep -v lo) && networkctl status | grep -q 10.77.0.10"
            )
            assert machine.ssh.run("cat /proc/sys/kernel/random/boot_id").text == machine.check(
                "cat /proc/sys/kernel/random/boot_id"
            )
        kernel = left.check("dmesg")

    assert random[0] != random[1]
    assert "crng reseeded due to virtual machine fork" in kernel
    assert max(map(abs, late_s)) < 2


def test_the_first_reboot_of_a_clone_is_a_real_one_and_keeps_its_disk(templates: Templates) -> None:
    with machine_of(templates) as machine:
        before = machine.check("cat /proc/sys/kernel/random/boot_id; echo kept >/data/mark")
        machine.reboot()

        assert not machine.is_clone
        assert machine.check("cat /proc/sys/kernel/random/boot_id") != before
        assert machine.check("cat /data/mark") == "kept"


def test_a_state_is_built_on_anothers_template_and_made_once(templates: Templates) -> None:
    made = templates.run.folder / "made"

    @states.state("marked")
    def _marked(machine: Machine, _: Versions) -> None:
        with made.open("a") as file:
            file.write("once\n")
        machine.check("echo marked >/run/mark; echo marked >/data/mark; sync")

    for name in ("first", "second"):
        with machine_of(templates, name, "marked") as machine:
            assert machine.is_clone
            assert machine.check("cat /run/mark /data/mark") == "marked\nmarked"
    with machine_of(templates, "plain") as machine:
        assert machine.run("cat /run/mark /data/mark").text == ""
    assert made.read_text() == "once\n"


def test_a_state_that_failed_is_not_tried_again(templates: Templates) -> None:
    tried = []

    @states.state("broken")
    def _broken(machine: Machine, _: Versions) -> None:
        tried.append(machine.name)
        machine.check("echo that will not do >&2; exit 3")

    with pytest.raises(Exception, match="that will not do"), machine_of(templates, "first", "broken"):
        pass
    with (
        pytest.raises(StateFailed, match=r"not tried again.*that will not do") as again,
        machine_of(templates, "second", "broken"),
    ):
        pass
    assert again.value.blame is Blame.IMAGE
    assert len(tried) == 1


def test_a_killed_clone_is_the_hosts_doing(templates: Templates) -> None:
    with machine_of(templates) as machine:
        machine.power.child.signal(SIGKILL)
        with pytest.raises(BootFailed, match="qemu-ended") as failure:
            machine.run("sleep 5")
    assert failure.value.blame is Blame.HOST


def test_a_template_that_is_altered_under_a_clone_is_the_hosts_doing_and_never_used_again(
    templates: Templates,
) -> None:
    folder = template_folder(templates)
    kept = templates.run.folder / "kept"
    shutil.copytree(folder, kept, copy_function=shutil.copy2)

    with machine_of(templates) as machine:
        os.utime(folder / "memory")
        assert machine.doubt()
    findings = templates.run.findings()
    assert [(finding.id, finding.blame) for finding in findings] == [("template-altered", Blame.HOST)]
    with ExitStack() as stack:
        assert templates._found(folder.name, stack) is None
    assert not folder.exists()
    kept.rename(folder)
    (folder / "state").chmod(0o600)
    (folder / "state").write_bytes((folder / "state").read_bytes()[:1000])
    with ExitStack() as stack:
        assert templates._found(folder.name, stack) is None


def test_another_qemu_has_another_template(
    templates: Templates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = states.path_to("booted")
    before = templates._key(way)
    other = tmp_path / "bin" / "qemu-system-x86_64"
    other.parent.mkdir()
    shutil.copy(shutil.which("qemu-system-x86_64") or "", other)
    monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")

    assert templates._key(way) != before


def test_another_boot_of_the_host_has_another_template(templates: Templates, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that a host crash left half written is not used."""
    way = states.path_to("booted")
    before = templates._key(way)
    monkeypatch.setattr("harness.machine.templates.host_identity", lambda: ["another boot"])

    assert templates._key(way) != before


def test_a_store_without_room_for_a_guests_memory_freezes_nothing(templates: Templates) -> None:
    large = replace(templates, spec=replace(templates.spec, memory_mib=1 << 30))

    with pytest.raises(CannotFreeze, match=r"freezing needs 10737.* MiB below .*store.*, [0-9]+ MiB are free"):
        large._check_room()


def test_a_machine_that_cannot_be_frozen_is_booted_and_the_run_says_why(templates: Templates, tmp_path: Path) -> None:
    nvme = DiskSpec(path=tmp_path / "x", serial="NVME", bus=DiskBus.NVME)
    templates = replace(templates, spec=replace(templates.spec, disks=(nvme,)))

    with machine_of(templates) as machine:
        assert not machine.is_clone
        assert machine.check("lsblk -dno SERIAL /dev/nvme0n1").strip() == "NVME"
    notes = [event.data["text"] for event in templates.run.events() if event.kind == "note"]
    assert any("booted, not cloned" in text and "nvme" in text for text in notes)
    assert len(templates.run.boots()) == 1


def test_unused_templates_go_and_used_ones_stay(templates: Templates) -> None:
    folder = template_folder(templates)
    with machine_of(templates):
        assert not discard(templates.store, folder)
    assert discard(templates.store, folder)
    assert not folder.exists()
