"""The guests of one machine over its boots, as `Journey` is for files: made, left, and looked for after each boot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from harness.core.deadline import Deadline
from harness.guest import waiting
from harness.guest.waiting import WaitFailed
from harness.guests.expectations import Ending, Expected, Known, Problem, expected, left, wrong_after_boot, wrong_memory
from harness.guests.ground import Ground, make_ground, reach_guests
from harness.guests.hypervisor import (
    ASK_S,
    SLOW_ASK_S,
    STEP_S,
    TPM_START_S,
    GuestFailed,
    Hypervisor,
)
from harness.guests.samples import Activity, SampleGuest
from harness.guests.survey import OFF, SeenGuest, Survey, survey
from harness.guests.tiny_guest import Answer
from harness.machine.machine import Machine
from harness.model.verdict import Finding

LOGS = "/var/log/libvirt"
_UP_S = 10.0
"""How long guests may take to come back once libvirt answers on a ready host: it tries all guests with autostart
before it answers anybody (libvirt 11.3, src/qemu/qemu_driver.c, qemuStateInitialize), and libvirt-guests has ended."""
_PING = "ping -n -c 3 -W 10 -i 0.5 {address}"


@dataclass(slots=True)
class GuestsOverBoots:
    """``guests`` on ``machine``. ``findings``, which the run has, are about guests that did not come back as they
    should; ``known`` is what each one that ran answered last."""

    machine: Machine
    ground: Ground
    guests: tuple[SampleGuest, ...]
    hypervisor: Hypervisor = field(init=False)
    known: dict[str, Known] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    _left: tuple[SampleGuest, ...] = ()
    _word: int = 0

    def __post_init__(self) -> None:
        self.hypervisor = Hypervisor(self.machine)
        self._left = self.guests

    def make(self) -> None:
        """Make them with their network and pool, and start all but those that are left off. `GuestFailed` if one cannot
        be made: its image is no hypervisor for it."""
        kind = self.hypervisor.kind()
        for guest in self.guests:
            self.hypervisor.put_disk(guest.domain, guest.tiny)
        make_ground(self.hypervisor, self.ground)
        for guest in self.guests:
            self.hypervisor.define(guest.domain, kind)
            if guest.activity is not Activity.OFF:
                self.hypervisor.start(guest.name, limit_s=TPM_START_S if guest.domain.has_tpm else STEP_S)

    def leave(self, ending: Ending, *, goes_back: bool = False) -> None:
        """Let each that runs write a word on its disk, and leave it as its `Activity` says (see `left`); what was
        written by then is on the host's disk."""
        self._left = tuple(left(guest, ending, goes_back=goes_back) for guest in self.guests)
        self._word += 1
        answers = dict[str, Answer]()
        for guest in self._used():
            self.hypervisor.ask(guest.name, f"write word-{self._word}", limit_s=_answers_within_s(guest))
            answers[guest.name] = self.hypervisor.ask(guest.name)
            if guest.activity is Activity.PAUSED:
                self.hypervisor.virsh(f"suspend {guest.name}", guest=guest.name, step="pause")
            elif guest.activity is Activity.SAVED:
                self.hypervisor.virsh(f"managedsave {guest.name}", guest=guest.name, step="managedsave")
        seen = self._survey()
        self.known = {
            name: Known(answer=answer, log_begins=seen.guests[name].log_begins) for name, answer in answers.items()
        }
        self.machine.check("sync")

    def check(self, stage: str, ending: Ending, *, starts_on_boot: bool) -> None:
        """Look for all of them after a boot, start those that were left to be started, and look whether they are as
        they were. `GuestFailed` with the first finding, after all that this stage found were added to the run."""
        wanted = {guest.name: expected(guest, ending, starts_on_boot=starts_on_boot) for guest in self._left}
        self._wait_for(wanted)
        seen = self._survey()
        problems = dict[str, list[Problem]]()
        for guest in self._left:
            known = self.known.get(guest.name)
            found = list(wrong_after_boot(guest, seen, wanted[guest.name], known, keeps_log=self._keeps_logs))
            if guest.name in seen.guests and guest.activity is not Activity.OFF:
                found += self._wrong_when_running(guest, seen.guests[guest.name], wanted[guest.name], found)
            problems[guest.name] = found
        self._report(stage, problems)

    def _wrong_when_running(
        self, guest: SampleGuest, now: SeenGuest, wanted: Expected, found: Iterable[Problem]
    ) -> list[Problem]:
        """Let ``guest`` run, and ask it. One that should run already and does not is started by hand: what libvirt says
        then is the best evidence."""
        known, name = self.known.get(guest.name), guest.name
        if now.state != "running":
            command = "resume" if now.state == "paused" else "start"
            done = self.machine.run(f"timeout 120 virsh -q {command} {name}", Deadline(300))
            if done.status:
                why = " ".join(done.errors.split())
                return [Problem("guest-not-started", f"{command} by hand fails: {why}")]
        try:
            answer = self.hypervisor.ask(name, limit_s=_answers_within_s(guest))
        except GuestFailed as error:
            self.findings.append(error.finding)
            return []
        problems = [] if any(found) else list(wrong_memory(guest, wanted, known, answer))
        pinged = self.machine.run(reach_guests(_PING.format(address=guest.address)), Deadline(90))
        if pinged.status:
            said = "; ".join(pinged.text.splitlines()[-2:])
            problems.append(Problem("guest-cut-off", f"it does not answer ping at {guest.address}: {said}"))
        return problems

    def _report(self, stage: str, problems: dict[str, list[Problem]]) -> None:
        """A finding for each kind of problem, about all guests that have it."""
        by_id = defaultdict[str, dict[str, str]](dict)
        for name, found in problems.items():
            for problem in found:
                said = by_id[problem.id].get(name)
                by_id[problem.id][name] = f"{said}; {problem.what}" if said else problem.what
        for kind, affected in by_id.items():
            self.findings.append(self.hypervisor.report(kind, affected, stage=stage))
        if self.findings:
            raise GuestFailed(self.findings[0])

    def _wait_for(self, wanted: dict[str, Expected]) -> None:
        """Until each is in its state, or for as long as guests may take; `check` says what is wrong."""
        self.hypervisor.version()
        active = [(name, one.state) for name, one in wanted.items() if one.state != OFF]
        tests = " && ".join(f"virsh -q domstate {name} | grep -qx {state}" for name, state in active)
        with suppress(WaitFailed):
            what = waiting.command_succeeds(tests or "true")
            waiting.wait(self.machine.name, self.machine.channel, what, Deadline(_UP_S), every_s=2.0)

    def _survey(self) -> Survey:
        return survey(self.machine.channel, [guest.domain for guest in self.guests], self.ground)

    def _used(self) -> tuple[SampleGuest, ...]:
        return tuple(guest for guest in self._left if guest.activity is not Activity.OFF)

    @property
    def _keeps_logs(self) -> bool:
        return any(LOGS.startswith(path) for path in self.machine.definition.persistent_paths)


def _answers_within_s(guest: SampleGuest) -> float:
    return SLOW_ASK_S if guest.domain.firmware == "efi" or guest.domain.has_tpm else ASK_S
