"""The files of one machine over its boots."""

from __future__ import annotations

import secrets
import shlex
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.machine.machine import Machine
from harness.persistence.locations import find_locations
from harness.qemu.ext4 import open_ext4

_NONCE = "bootproof-nonce"
_ELSEWHERE = ("/root", "/etc", "/var/lib")
_READ = """
for file in {files}; do
    if text=$(base64 -w 0 "$file" 2>&1); then
        echo "0 $text"
    else
        echo "1 $(printf %s "$text" | base64 -w 0)"
    fi
done
"""
"""A line for each file: whether it cannot be read, and its content or the error, which may have any bytes."""


@dataclass(slots=True)
class Journey:
    """The files of one machine over its boots. ``nonces`` maps each persistent file to its content, ``on_disk`` to its
    path on its file system; ``scratch`` are files that must not survive; ``losses`` are sentences about failures."""

    machine: Machine
    nonces: dict[str, str] = field(default_factory=dict)
    on_disk: dict[str, str] = field(default_factory=dict)
    scratch: tuple[str, ...] = ()
    losses: list[str] = field(default_factory=list)

    def write(self, stage: str) -> None:
        """Write a nonce below each persistent path, synced with its folder (fsync(2)), and scratch files elsewhere."""
        kept = find_locations(self.machine.channel, self.machine.definition.persistent_paths)
        elsewhere = find_locations(self.machine.channel, _ELSEWHERE)
        devices = {location.device for location in kept}
        self.scratch = tuple(f"{place.path}/scratch" for place in elsewhere if place.device not in devices)
        commands = [f"echo gone > {file}" for file in self.scratch]
        for location in kept:
            path, name = location.path, f"{_NONCE}-{stage}"
            file = f"{path}/{name}"
            self.nonces[file] = secrets.token_hex(16)
            self.on_disk[file] = f"{location.inner}/{name}"
            commands.append(f"printf %s {self.nonces[file]} > {shlex.quote(file)}")
            commands.append(f"sync {shlex.quote(file)} {shlex.quote(path)}/.")
        self.machine.check(" && ".join(commands))

    def check(self, stage: str) -> None:
        """Add to ``losses`` each nonce that is missing, and each scratch file that survived."""
        for file, (is_read, text) in self._read().items():
            nonce = self.nonces[file]
            if not is_read:
                self.losses.append(f"{stage}: {file} cannot be read, expected {nonce}: {text}")
            elif text != nonce:
                self.losses.append(f"{stage}: {file} has {text!r}, expected {nonce}")
        look = f'for file in {shlex.join(self.scratch)}; do if [ -e "$file" ]; then echo "$file"; fi; done'
        if left := self.machine.check(look):
            self.losses.append(f"{stage}: not on /data, but survived: {left}")

    def _read(self) -> dict[str, tuple[bool, str]]:
        """Whether each persistent file can be read, and its content or why not: all of them by one command."""
        if not self.nonces:
            return {}
        lines = self.machine.check(_READ.format(files=shlex.join(self.nonces))).splitlines()
        answers = [line.partition(" ")[::2] for line in lines]
        return {
            file: (status == "0", b64decode(text).decode("utf-8", "replace").rstrip("\n"))
            for file, (status, text) in zip(self.nonces, answers, strict=True)
        }

    def end(self) -> None:
        """Power the machine off, and add to ``losses`` each nonce that is missing on its raw disk."""
        self.machine.power_off()
        if self.nonces:
            self.losses += self._missing_on_disk()

    def _missing_on_disk(self) -> Iterator[str]:
        with open_ext4(self.machine.spec.data) as data:
            for file, nonce in self.nonces.items():
                seen = data.read(self.on_disk[file]).decode()
                if seen != nonce:
                    yield f"on the raw disk: {file} has {seen!r}, expected {nonce}"
