"""The systemd credentials by which the harness reaches a guest."""

from __future__ import annotations

from dataclasses import replace

from harness.guest.serial_shell import SHELL_CREDENTIALS
from harness.model.machine_spec import MachineSpec
from harness.runs.folder import Run


def reachable(spec: MachineSpec, run: Run) -> MachineSpec:
    """``spec`` with the credentials of the serial shell and the run's SSH key; those of ``spec`` take precedence."""
    key = run.key.with_suffix(".pub").read_text("utf-8")
    return replace(spec, credentials={**SHELL_CREDENTIALS, "ssh.authorized_keys.root": key, **spec.credentials})
