"""A write load: a writer in the guest that appends records to a file on /data and acknowledges each after fsync(2).

A record is a line with its number and a checksum. It is acknowledged on the console, so an acknowledged record that is
missing later was lost.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.core.deadline import Deadline, poll
from harness.core.errors import ImageError
from harness.machine.machine import Machine

NAME = "bootproof-load"
_ACKNOWLEDGED = re.compile(r"bootproof-load: kept (\d+)$")
_WRITER = """
file={file} number={number}
while :; do
    number=$((number + 1))
    sum=$(printf %s "{seed} $number" | sha256sum)
    printf '\\n%s %s' $number ${{sum%% *}} >>$file
    sync $file && echo "bootproof-load: kept $number" >/dev/console
done
"""
"""sync(1) with a file's name is fsync(2). A record begins with a newline, so that a torn record before it does no
harm."""


def records(content: bytes, seed: str) -> frozenset[int]:
    """The numbers of the complete records in ``content``."""
    lines = (line.split() for line in content.decode("ascii", "replace").splitlines())
    return frozenset(
        int(words[0]) for words in lines if len(words) == 2 and words[0].isdigit() and words[1] == _sum(words[0], seed)
    )


def _sum(number: str, seed: str) -> str:
    return hashlib.sha256(f"{seed} {number}".encode()).hexdigest()


@dataclass(slots=True)
class WriteLoad:
    """The write load of one machine over its boots, in ``file``.

    ``acknowledged`` maps the number of each record to the value of ``moment`` when it was acknowledged.
    """

    machine: Machine
    file: str
    seed: str
    moment: Callable[[], int]
    acknowledged: dict[int, int] = field(default_factory=dict)

    def start(self) -> None:
        """Start the writer, or start it again after a reboot."""
        self.machine.console.listeners.append(self._hear)
        file = shlex.quote(self.file)
        script = _WRITER.format(file=file, number=max(self.acknowledged, default=0), seed=self.seed)
        self.machine.check(
            f"touch {file} && sync {file} $(dirname {file}) && cat >/run/load <<'END'\n{script}\nEND\n"
            "systemd-run --quiet --unit=bootproof-load sh /run/load"
        )

    def go_on(self, seconds: float) -> None:
        """Let the writer run. `ImageError` if it acknowledges nothing."""
        known = len(self.acknowledged)
        poll(lambda: False, Deadline(seconds, scaled=False), every_s=seconds)
        if len(self.acknowledged) == known:
            done = self.machine.systemctl("status bootproof-load")
            why = done.text or f"systemctl status {done.ending}: {done.errors}"  # 3: the unit is not active
            raise ImageError(f"{self.machine.name}: no record in {self.file} within {seconds:.0f} s:\n{why}")

    def _hear(self, line: str) -> None:
        """Called in the console's thread when the line arrives."""
        if found := _ACKNOWLEDGED.search(line):
            self.acknowledged.setdefault(int(found[1]), self.moment())
