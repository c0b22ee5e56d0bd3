"""All errors of Bootproof, as a tree by who must act.

    BootproofError
    ├── UsageError                   an option or a file is wrong               exit 4
    │   ├── DefinitionError              a key of a TOML file
    │   ├── SpecError                    a machine or lab that cannot exist
    │   ├── NewerFormat                  a file of a newer Bootproof                core.serialization
    │   └── BadHostFile                  a file of a fleet that is not read         fleet.host_file
    ├── ImageError                   the image did not build, boot or work      exit 1
    │   ├── BootFailed                   a boot ended badly; has the finding        machine.errors
    │   ├── UnknownArchive               nothing reads a part of the initrd         store.initrd_tree
    │   ├── LintFailed                   its files do not hold together             lint.finding
    │   │   ├── HostFaulty                   a ready host is not fit for its work    examine.finding
    │   │   ├── ContractBroken               guests of its hosts no longer start     guests.broken
    │   │   ├── ConfigurationStale           it does not understand what is kept     persistence.kept_configuration
    │   │   └── GuestFailed                  a guest of a host is not as it should be guests.hypervisor
    │   │       └── MigrationFailed              … after a live migration, or cannot    guests.migration
    │   ├── RuleFailed                   a rule of its definition does not hold     examine.rules
    │   ├── NotReady                     a demanded unit is not active              guest.readiness
    │   ├── StillStarting                jobs have not ended in time                guest.readiness
    │   ├── ConsoleTimeout               the console did not print it in time       guest.console
    │   ├── WaitFailed                   what a test awaits does not happen in time guest.waiting
    │   ├── GuestCommandFailed           a command in the guest failed              guest.channel
    │   ├── ProbeFailed                  an inspection got no answer                guest.probes
    │   ├── ChannelTimeout               a command did not end in time              guest.channel
    │   ├── ChannelClosed                the channel closed under a command         guest.channel
    │   ├── DamagedFileSystem            e2fsck cannot repair it                    qemu.ext4
    │   ├── NotVerified                  a signature or a digest is not valid       promotion.attest
    │   │   └── Unreadable                   it is not even an attestation: exit 4  promotion.attest
    │   └── NotPromoted                  a policy does not allow it                 promotion.promote
    ├── HostError                    this machine: a program, space, network    exit 75
    │   ├── MissingExtra                 a library of an extra is not installed
    │   ├── CommandFailed                a program failed; has its output           core.process
    │   ├── EmulatorFault                QEMU's emulation went wrong                machine.errors
    │   ├── CannotFreeze                 QEMU cannot write or take a state          qemu.snapshot
    │   ├── NoSupervisor                 a lab's supervisor did not start           lab.start_supervisor
    │   └── PeerLost                     a host of a pool is gone, or is silent     pool.frames
    ├── HarnessError                 Bootproof itself                           exit 75
    │   ├── QmpError                     a QMP command failed                       qemu.qmp
    │   │   ├── QmpRefused                   QEMU answered with an error        qemu.qmp
    │   │   ├── QmpTimeout                   QEMU did not answer in time        qemu.qmp
    │   │   └── QmpGone                      QEMU is not there                  qemu.qmp
    │   └── LabError                     a request to a lab's supervisor failed     lab.supervisor_client
    ├── FailedBefore                 it failed before in this run (blame: as then)  store.memo
    └── StateFailed                  a state could not be prepared (as its cause)   machine.template_store

The exit statuses are pytest's (4 is its usage error) and EX_TEMPFAIL of sysexits.h (75): an outcome that says nothing
about the image. Every error pickles, because xdist sends errors between processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class Blame(StrEnum):
    """Who is to blame: decides between *failed* and *inconclusive*."""

    IMAGE = "image"
    HOST = "host"
    HARNESS = "harness"


class BootproofError(Exception):
    """An error that is shown as a message, without a traceback.

    ``problem`` says what is wrong and ``remedy`` what to do; the message is both. ``remedy`` may be empty, and
    ``problem`` is empty in subclasses with a message of their own.
    """

    exit_status = 75
    blame = Blame.HARNESS
    remedy = ""

    def __init__(self, *args: object, remedy: str = "") -> None:
        super().__init__(*args)
        self.problem = str(args[0]) if len(args) == 1 else ""
        if remedy:
            self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else super().__str__()


class UsageError(BootproofError):
    """An option or a definition is wrong; the message names it and what would be right."""

    exit_status = 4


class DefinitionError(UsageError):
    """``file``: ``key`` is wrong because of ``problem``; ``remedy`` says what would be right."""

    def __init__(self, file: str, key: str, problem: str, remedy: str) -> None:
        super().__init__(file, key, problem, remedy)
        self.file, self.key, self.problem, self.remedy = file, key, problem, remedy

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.problem}; {self.remedy}"


class SpecError(UsageError):
    """A specification of a machine or lab that cannot exist."""


class ImageError(BootproofError):
    """The image is at fault."""

    exit_status = 1
    blame = Blame.IMAGE


class HostError(BootproofError):
    """This machine lacks something, or failed at something, that says nothing about the image."""

    blame = Blame.HOST


class MissingExtra(HostError):
    """A library is missing that is installed by an extra of Bootproof's package."""


class HarnessError(BootproofError):
    """Bootproof itself is at fault."""


@contextmanager
def optional(extra: str, need: str) -> Iterator[None]:
    """`MissingExtra` where an import in the block fails: ``need``, and how to install the ``extra`` that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(f"{need}: pip install 'bootproof[{extra}]'") from error


def blame_of(error: BaseException) -> Blame:
    """Whose doing an error is: a failed assertion is about the image, an `OSError` about the host."""
    if isinstance(error, BootproofError):
        return error.blame
    if is_claim(error):
        return Blame.IMAGE
    return Blame.HOST if isinstance(error, OSError) else Blame.HARNESS


def is_claim(error: BaseException) -> bool:
    """Whether ``error`` is a failed assertion, or what ``pytest.fail()`` raises: pytest is not imported here."""
    is_failed = isinstance(error, AssertionError) or type(error).__name__ == "Failed"
    return is_failed and not is_time_limit(error)


def is_time_limit(error: BaseException) -> bool:
    """Whether pytest-timeout ended the test: 2.4 says "Timeout (>2.0s) from pytest-timeout.", 2.3 "Timeout >2.0s"."""
    return type(error).__name__ == "Failed" and str(error).startswith(("Timeout (>", "Timeout >"))
