"""What one try boots, and what it found: values."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import Blame
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import BreakPoint, MachineSpec, Network

SERVICE = re.compile(r"[A-Za-z0-9@_.-]+\.service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A machine to boot, or a test to run.

    ``arguments`` are appended to the kernel arguments of the manifest. With ``before``, the machine boots that and is
    upgraded to ``artifacts`` by kexec. ``disks`` are the contents of the spec's disks (None or missing: blank),
    ``variables`` those of UEFI. The machine waits at ``stop``. With ``test``, only that test and ``tests``, which
    share its machine, are run; they make their own machine.
    """

    spec: MachineSpec
    artifacts: Artifacts
    definition: ImageDefinition
    network_faults: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    before: Artifacts | None = None
    network: Network = Network.LAB
    disks: tuple[Path | None, ...] = ()
    variables: Path | None = None
    test: str = ""
    tests: tuple[str, ...] = ()
    seed: int = 1
    stop: BreakPoint | None = None

    @property
    def kernel_arguments(self) -> tuple[str, ...]:
        return (*self.artifacts.manifest.kernel_arguments, *self.arguments)

    @property
    def booted(self) -> Artifacts:
        """The artifacts, with all kernel arguments in their manifest."""
        manifest = replace(self.artifacts.manifest, kernel_arguments=self.kernel_arguments)
        return replace(self.artifacts, manifest=manifest)

    @property
    def contents(self) -> tuple[Path | None, ...]:
        """The content of each disk of the spec."""
        return (*self.disks, *[None] * (len(self.spec.disks) - len(self.disks)))

    def with_service_settings(self, unit: str, name: str, lines: str) -> Case:
        """The same case, with a drop-in for the service ``unit``, passed as a systemd credential."""
        dropin = {f"systemd.unit-dropin.{unit}~bootproof-{name}": f"[Service]\n{lines}\n"}
        return replace(self, spec=replace(self.spec, credentials={**self.spec.credentials, **dropin}))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinding:
    """The id of a finding, who is to blame, and the machine or test it is about."""

    id: str
    where: str
    blame: Blame = Blame.IMAGE
