"""Templates and clones, with a real machine: clones are independent, and a template does not change."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import digest
from harness.core.errors import Blame
from harness.guest.waiting import WaitFailed
from harness.lab import Lab, open_lab
from harness.machine import states
from harness.machine.boot_plan import BootContext
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.machine.states import Versions
from harness.machine.template_store import StateFailed, TemplateStore
from harness.machine.templates import Templates, TemplateSpec, template_key
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.events import Note
from harness.model.machine_spec import BootPath, DiskBus, DiskSpec, MachineSpec, Network
from harness.qemu import program
from harness.qemu.ext4 import open_ext4
from harness.runs.folder import Run, make_key
from harness.store.store import Store
from harness.store.template_record import discard


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store for this module; its template is made by the first test that needs one."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def run(tmp_path: Path, store: Store) -> Run:
    run = Run(tmp_path, "main")
    make_key(run, store)
    return run


@pytest.fixture
def template_spec(spec: MachineSpec, base: ImageDefinition, artifacts: Artifacts) -> TemplateSpec:
    versions = Versions(artifacts, artifacts, artifacts, artifacts)
    return TemplateSpec(definition=base, versions=versions, machine=spec, network=Network.LAB)


@pytest.fixture
def templates(run: Run, store: Store, template_spec: TemplateSpec) -> Templates:
    return templates_of(template_spec, TemplateStore(store=store, run=run))


def templates_of(spec: TemplateSpec, store: TemplateStore) -> Templates:
    def context_of(lab: Lab) -> BootContext:
        return BootContext(lab=lab, run=store.run, slots=store.store.folder("slots"))

    return Templates(spec=spec, store=store, open_lab=open_lab, context_of=context_of)


@contextmanager
def machine_of(templates: Templates, name: str = "machine", state: str = "booted") -> Iterator[Machine]:
    folder = templates.store.run.folder / name
    with open_lab(folder / "lab") as lab, templates.machine(state, name, lab=lab, folder=folder) as machine:
        yield machine


def template_folder(templates: Templates) -> Path:
    with ExitStack() as stack:
        return templates.hold("booted", stack).folder


def test_a_later_run_has_the_logs_of_the_boot_whatever_became_of_the_run_that_made_it(
    templates: Templates, tmp_path: Path
) -> None:
    template_folder(templates)
    for machine in tmp_path.glob("template-*"):
        shutil.rmtree(machine)
    later = Run(tmp_path / "later", "main")
    later.folder.mkdir()
    make_key(later, templates.store.store)

    template_folder(templates_of(templates.spec, replace(templates.store, run=later)))

    (boot,) = later.boots()
    assert Path(boot.console).is_relative_to(later.folder)
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


def test_a_guest_can_be_waited_for_and_its_display_seen(templates: Templates, tmp_path: Path) -> None:
    with machine_of(templates) as machine:
        assert machine.systemctl("restart ssh.service").status == 0
        machine.wait_for_unit("ssh.service")
        machine.wait_for_open_port(22)
        machine.run("(sleep 2; touch /run/late) >/dev/null 2>&1 &")
        machine.wait_for_file("/run/late")
        assert machine.wait_until_succeeds("cat /proc/sys/kernel/ostype") == "Linux"
        machine.wait_until_fails("test -e /nowhere")
        machine.run("systemd-run --unit=broken sh -c 'echo no such driver; exit 3'")
        with pytest.raises(WaitFailed, match=r"the start of broken.service .*ActiveState=failed") as failure:
            machine.wait_for_unit("broken.service")
        assert any("no such driver" in line for line in failure.value.evidence)
        assert failure.value.waited_s < 60
        machine.screenshot(tmp_path / "display.png")
    assert (tmp_path / "display.png").read_bytes().startswith(b"\x89PNG")


def test_the_first_reboot_of_a_clone_is_a_real_one_and_keeps_its_disk(templates: Templates) -> None:
    with machine_of(templates) as machine:
        before = machine.check("cat /proc/sys/kernel/random/boot_id; echo kept >/data/mark")
        machine.reboot()

        assert not machine.is_clone
        assert machine.check("cat /proc/sys/kernel/random/boot_id") != before
        assert machine.check("cat /data/mark") == "kept"


def test_a_state_is_built_on_anothers_template_and_made_once(templates: Templates) -> None:
    made = templates.store.run.folder / "made"

    @states.state("marked")
    def _marked(machine: Machine, _: Versions) -> None:
        with made.open("a") as file:
            file.write("once\n")
        machine.check("echo marked >/run/mark; echo marked >/data/mark; sync")
        machine.notes["mark"] = {"seen": "marked"}

    for name in ("first", "second"):
        with machine_of(templates, name, "marked") as machine:
            assert machine.is_clone
            assert machine.check("cat /run/mark /data/mark") == "marked\nmarked"
            assert machine.notes == {"mark": {"seen": "marked"}}
    with machine_of(templates, "plain") as machine:
        assert machine.run("cat /run/mark /data/mark").text == ""
    assert made.read_text() == "once\n"


def test_a_machine_that_was_cloned_is_upgraded_by_kexec_whatever_booted_it(templates: Templates) -> None:
    with machine_of(templates) as machine:
        pid, new = machine.running_boot.child.pid, templates.spec.versions.new
        assert machine.spec.boot_path is not BootPath.KEXEC

        machine.kexec(new)

        assert machine.running_boot.child.pid == pid
        assert not machine.is_clone
        assert "root=live:http" in machine.check("cat /proc/cmdline")
    (boot,) = (boot for boot in templates.store.run.boots() if not boot.machine.startswith("template-"))
    assert (boot.boot_path, boot.artifacts) == ("kexec", new.digest)
    assert not templates.store.run.findings()


def test_a_second_machine_has_a_template_of_its_own(templates: Templates) -> None:
    second = templates.second(templates.spec.machine.boot_path)

    assert second.key("booted") != templates.key("booted")


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
        machine.running_boot.child.signal(signal.SIGKILL)
        with pytest.raises(BootFailed, match="qemu-ended") as failure:
            machine.run("sleep 5")
    assert failure.value.blame is Blame.HOST


def test_a_template_that_is_altered_under_a_clone_is_the_hosts_doing_and_never_used_again(
    templates: Templates,
) -> None:
    folder = template_folder(templates)
    kept = templates.store.run.folder / "kept"
    shutil.copytree(folder, kept, copy_function=shutil.copy2)

    with machine_of(templates) as machine:
        os.utime(folder / "memory")
        assert machine.doubt()
    findings = templates.store.run.findings()
    assert [(finding.id, finding.blame) for finding in findings] == [("template-altered", Blame.HOST)]
    with ExitStack() as stack:
        assert templates.store.find(folder.name, stack) is None
    assert not folder.exists()
    kept.rename(folder)
    (folder / "state").chmod(0o600)
    (folder / "state").write_bytes((folder / "state").read_bytes()[:1000])
    with ExitStack() as stack:
        assert templates.store.find(folder.name, stack) is None


def test_another_qemu_has_another_template(templates: Templates, tmp_path: Path) -> None:
    other = tmp_path / "qemu-system-x86_64"
    shutil.copy(program.in_use().program, other)
    qemu = replace(program.in_use(), program=str(other))

    key = template_key(templates.spec, states.path_to("booted"), templates.store, qemu=qemu)

    assert key != templates.key("booted")


def test_another_boot_of_the_host_has_another_template(templates: Templates) -> None:
    """A template that a crash of the host left half written is never found again."""
    path = states.path_to("booted")

    assert template_key(templates.spec, path, templates.store, host=["another boot"]) != templates.key("booted")


def test_a_machine_that_cannot_be_frozen_is_booted_and_the_run_says_why(templates: Templates, tmp_path: Path) -> None:
    nvme = DiskSpec(path=tmp_path / "x", serial="NVME", bus=DiskBus.NVME)
    machine_spec = replace(templates.spec.machine, disks=(nvme,))
    templates = replace(templates, spec=replace(templates.spec, machine=machine_spec))

    with machine_of(templates) as machine:
        assert not machine.is_clone
        assert machine.check("lsblk -dno SERIAL /dev/nvme0n1").strip() == "NVME"
    notes = [note.text for note in templates.store.run.of_kind(Note)]
    assert any("booted, not cloned" in text and "NVMe" in text for text in notes)
    assert len(templates.store.run.boots()) == 1


def test_unused_templates_are_removed_and_used_ones_stay(templates: Templates) -> None:
    folder = template_folder(templates)
    with machine_of(templates):
        assert not discard(templates.store.store, folder)
    assert discard(templates.store.store, folder)
    assert not folder.exists()
