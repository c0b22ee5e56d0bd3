"""Verbs for the guests of a hypervisor.

Each step has a limit. One that fails is a finding that names the guest, the step, what libvirt and QEMU said, and the
versions of both hosts.
"""

from __future__ import annotations

import gzip
import math
import shlex
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from harness.core.deadline import Deadline
from harness.core.errors import Blame, BootproofError, HostError
from harness.guest import waiting
from harness.guest.channel import Completed
from harness.guest.probes import Probe, ask, read
from harness.guest.waiting import WaitFailed
from harness.guests.domains import Domain, Kind, domain_xml
from harness.guests.tiny_guest import Answer, Record, TinyGuest, make_disk, parse_answer, read_record
from harness.lint.finding import LintFailed
from harness.machine.machine import Machine
from harness.model.device_kinds import Firmware
from harness.model.machine_spec import DiskFormat
from harness.model.verdict import Finding
from harness.verdict.attribution import doubted

STEP_S = 60.0
"""How long a step may take on the reference machine: libvirt starts a tiny guest there in 4 s (KVM) to 13 s (TCG)."""
TPM_START_S = 180.0
"""The same for the first guest with a TPM: swtpm makes the keys of a certificate authority and of the TPM (29 s)."""
ASK_S = 20.0
"""How long a guest may take to answer; it may be starting."""
SLOW_ASK_S = 120.0
"""The same for a guest by UEFI, whose firmware takes most of it, and for one with a TPM: if its self-test takes longer
than 2 s, SeaBIOS turns it off, and the guest resets itself, up to five times."""
_GRACE_S = 30.0
"""Between the limit of a command in the guest and the harness's own."""
_TIMED_OUT = (124, 137)
"""timeout(1): the status of a command that was ended, by SIGTERM and by SIGKILL."""
_LOG = "/var/log/libvirt/qemu"
_SHOWN = 300
_QUOTED_GUESTS = 2
_VERSION = Probe("versions of libvirt and QEMU", "virsh version --daemon")
_KVM = Probe("KVM", "if [ -w /dev/kvm ]; then echo kvm; else echo qemu; fi")
_ASK = """\
tty=$(virsh -q ttyconsole {guest}) || exit
exec 3<>"$tty" || exit
for attempt in $(seq {attempts}); do
    printf '%s\\n' {command} >&3
    answer=$(timeout {patience_s} sed -u -n -E '/^({word}|error)\\>/{{p;q}}' <&3)
    case $answer in '' | *reason=unknown-command*) ;; *) echo "$answer"; exit ;; esac
done
exit 124
"""
"""Only while the terminal is open does QEMU pass on what the guest prints. A guest that has just been started empties
its serial port when it gets to it, and sees no command or the end of one; UEFI firmware takes what comes before."""
_PATIENCE_S = 5
_ANSWERS = {"write": "written"}
"""The first word of an answer, where it is not that of the command."""
_WORDS = """\
grep -Ev '^-|\\\\$|^[A-Z_]+=|starting up libvirt|device redirected' {log}/{guest}.log 2>&1 |
    tail -n 3 | sed 's/^/QEMU: /'
journalctl -b -p warning -n 6 -o cat --no-pager _SYSTEMD_UNIT=libvirtd.service + _SYSTEMD_UNIT=virtqemud.service 2>&1 |
    sed -n 's/^./libvirt: &/p'
journalctl -b -n 4 -o cat --no-pager _SYSTEMD_UNIT=libvirt-guests.service 2>&1 | sed -n 's/^./libvirt-guests: &/p'
:"""
"""What libvirt and QEMU said about a guest, in lines of the journal and of QEMU's log, without its command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostVersion:
    """The version of a host's image, and of the programs that run guests there."""

    image: str
    libvirt: str
    qemu: str

    def __str__(self) -> str:
        return f"{self.image} (libvirt {self.libvirt}, QEMU {self.qemu})"


class GuestFailed(LintFailed):
    """A guest is not as it should be, or a step with it failed: ``finding``, which the run has, says which and why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.blame = finding.blame
        if self.blame is not Blame.IMAGE:
            self.exit_status = HostError.exit_status

    def __str__(self) -> str:
        return "\n".join([f"{self.finding.where}: {self.finding.what} [{self.finding.id}]", *self.finding.evidence])


class Hypervisor:
    """The guests of ``machine``, which is on. ``origin`` is the host that they were made on, or come from."""

    def __init__(self, machine: Machine, origin: HostVersion | None = None) -> None:
        self.machine = machine
        self.origin = origin or self.version()

    def version(self) -> HostVersion:
        """`ImageError` if libvirt does not answer."""
        return read(ask(self.machine.channel, [_VERSION], Deadline(240)), _VERSION, self._version)

    def _version(self, text: str) -> HostVersion:
        daemon, qemu = (
            next(line.rpartition(" ")[2] for line in [*text.splitlines(), f"{begin} unknown"] if line.startswith(begin))
            for begin in ("Running against daemon:", "Running hypervisor: QEMU")
        )
        return HostVersion(image=self.machine.artifacts.manifest.version, libvirt=daemon, qemu=qemu)

    def kind(self) -> Kind:
        """``kvm`` if the host has KVM: libvirt starts such a guest faster, also where KVM itself is emulated."""
        return read(ask(self.machine.channel, [_KVM]), _KVM, _kind)

    def virsh(self, arguments: str, *, guest: str, step: str, limit_s: float = STEP_S) -> str:
        """What ``virsh`` prints with these arguments, in the shell's words; `GuestFailed` if it fails or takes too
        long."""
        return self.check(f"virsh -q {arguments}", guest=guest, step=step, limit_s=limit_s)

    def check(self, command: str, *, guest: str, step: str, limit_s: float = STEP_S) -> str:
        """What the simple ``command`` prints on the host, as in `virsh`."""
        limit = math.ceil(Deadline(limit_s).length_s)
        done = self.machine.run(f"timeout -k 5 {limit} {command}", Deadline(limit + _GRACE_S, scaled=False))
        if done.status:
            self.fail("guest-step-failed", guest, f"{step}: {_ending(done, command, limit)}")
        return done.text

    def define(self, domain: Domain, kind: Kind) -> None:
        """Let libvirt know ``domain``, whose disk is there: it is off.

        On an emulated host, no KVM runs UEFI firmware: QEMU, which emulates it, aborts with "assertion failed:
        (bql_locked())" when a guest writes CR8, as OVMF does after each interrupt, while another one waits (QEMU 10.0,
        helper_write_crN in target/i386/tcg/system/misc_helper.c takes no lock before cpu_interrupt).
        """
        is_safe = domain.firmware == "bios" or not self.machine.spec.is_emulated
        self.define_xml("define", domain_xml(domain, kind if is_safe else "qemu"), guest=domain.name)
        if domain.autostarts:
            self.virsh(f"autostart {domain.name}", guest=domain.name, step="autostart")

    def define_xml(self, verb: str, xml: str, *, guest: str) -> str:
        """Give ``xml`` to a command of virsh that takes a file, such as net-define; what it prints."""
        command = f"sh -c {shlex.quote(f'printf %s {shlex.quote(xml)} | virsh -q {verb} /dev/stdin')}"
        return self.check(command, guest=guest, step=verb)

    def put_disk(self, domain: Domain, tiny: TinyGuest) -> None:
        """Make the disk of ``domain``, a qcow2."""
        with TemporaryDirectory(prefix="bootproof-") as work:
            disk = Path(work) / "tiny.qcow2"
            firmware = Firmware.UEFI if domain.firmware == "efi" else Firmware.BIOS
            make_disk(disk, tiny, DiskFormat.QCOW2, firmware=firmware)
            packed = b64encode(gzip.compress(disk.read_bytes())).decode()
        file, folder = shlex.quote(domain.disk), shlex.quote(str(Path(domain.disk).parent))
        self.machine.check(
            f"mkdir -p {folder} && base64 -d <<'END' | gzip -d >{file}\n{packed}\nEND\n[ -s {file} ] && sync {file}"
        )

    def start(self, guest: str, *, limit_s: float = STEP_S) -> None:
        """Start it, or resume it if its memory was saved: returns once it runs."""
        self.virsh(f"start {guest}", guest=guest, step="start", limit_s=limit_s)

    def wait_for_state(self, guest: str, state: str, *, step: str, limit_s: float = STEP_S) -> None:
        """Wait until libvirt says that ``guest`` is in ``state``: "running", "paused", "shut off"."""
        wait = waiting.command_succeeds(f"virsh -q domstate {guest} | grep -qx {shlex.quote(state)}")
        try:
            waiting.wait(self.machine.name, self.machine.channel, wait, Deadline(limit_s))
        except WaitFailed as error:
            done = self.machine.run(f"virsh -q domstate --reason {guest}")
            seen = done.errors if done.status else done.text
            problem = f"{step}: it is {seen!r} after {error.waited_s:.0f} s, not {state}"
            self.fail("guest-step-failed", guest, problem, error=error)

    def ask(self, guest: str, command: str = "status", *, step: str = "", limit_s: float = ASK_S) -> Answer:
        """Its answer to ``command`` on its serial port; `GuestFailed` if it is silent."""
        limit = math.ceil(Deadline(limit_s).length_s)
        done = self._asked(guest, command, limit)
        if done.status or not done.text:
            self.fail("guest-step-failed", guest, f"{step or command}: {_ending(done, 'its serial port', limit)}")
        return parse_answer(done.text)

    def status_of(self, guest: str) -> Answer | None:
        """Its answer to "status" on its serial port; None if it is silent."""
        done = self._asked(guest, "status", math.ceil(Deadline(ASK_S).length_s))
        return None if done.status or not done.text else parse_answer(done.text)

    def _asked(self, guest: str, command: str, limit_s: int) -> Completed:
        patience, verb = math.ceil(Deadline(_PATIENCE_S).length_s), command.partition(" ")[0]
        script = _ASK.format(
            guest=guest,
            command=shlex.quote(command),
            word=_ANSWERS.get(verb, verb),
            attempts=math.ceil(limit_s / patience),
            patience_s=patience,
        )
        return self.machine.run(script, Deadline(limit_s + _GRACE_S, scaled=False))

    def record(self, disk: str) -> Record | None:
        """What is recorded on the ``disk`` of a guest that is off."""
        content = self.machine.check(f"gzip -c {shlex.quote(disk)} | base64 -w 0")
        with TemporaryDirectory(prefix="bootproof-") as folder:
            file = Path(folder) / "tiny.qcow2"
            file.write_bytes(gzip.decompress(b64decode(content)))
            return read_record(file)

    def words(self, guest: str) -> tuple[str, ...]:
        """What libvirt and QEMU said last about ``guest``; nothing if the host does not answer."""
        with suppress(BootproofError):
            lines = self.machine.check(_WORDS.format(log=_LOG, guest=guest)).splitlines()
            return tuple(line[:_SHOWN] for line in lines)
        return ()

    def fail(self, finding: str, guest: str, problem: str, *, error: BaseException | None = None) -> NoReturn:
        """Raise the finding of this id about ``guest``, which the run has then."""
        raise GuestFailed(self.report(finding, {guest: problem}, error=error))

    def report(
        self,
        finding: str,
        problems: Mapping[str, str],
        *,
        stage: str = "",
        evidence: Sequence[str] = (),
        error: BaseException | None = None,
    ) -> Finding:
        """Add a finding about all guests that have ``problems`` to the run; it is the test host's, if that is why.
        ``evidence`` comes before what libvirt and QEMU said."""
        now, (first, *others) = self._version_now(), problems
        more = f"; also {', '.join(others)}" if others else ""
        lines = [*(f"{guest}: {problems[guest]}" for guest in others), *evidence]
        lines += [line for guest in [*problems][:_QUOTED_GUESTS] for line in self.words(guest)]
        found = Finding(
            id=finding,
            what=f"{stage}{': ' if stage else ''}guest {first}: {problems[first]}{more}",
            where=self.machine.name
            if now == self.origin
            else f"{self.machine.name}, {self.origin.image} → {now.image}",
            evidence=(*dict.fromkeys(lines), f"the guests were made on {self.origin}", f"the host now has {now}"),
        )
        found = doubted(found, self.machine.doubt(error))
        self.machine.context.run.add_finding(found)
        return found

    def _version_now(self) -> HostVersion:
        with suppress(BootproofError):
            return self.version()
        return HostVersion(image=self.machine.artifacts.manifest.version, libvirt="unknown", qemu="unknown")


def _kind(text: str) -> Kind:
    return "kvm" if text == "kvm" else "qemu"


def _ending(done: Completed, command: str, limit_s: int) -> str:
    """How a step that failed ended, in one line."""
    if done.status in _TIMED_OUT:
        return f"{command.splitlines()[0][:_SHOWN]} did not answer within {limit_s} s"
    said = " ".join((done.errors or done.text).split())
    return said[:_SHOWN] or f"{command.splitlines()[0][:_SHOWN]} {done.ending}"
