"""Which messages of a boot its serial console shows, by the kernel arguments.

The silence of a console that hides messages means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SERIAL = "console=ttyS0"
_QUIET_LEVEL, _DEFAULT_LEVEL, _PROGRESS_LEVEL = 4, 7, 7
"""Linux, kernel-parameters.txt: messages below ``loglevel=`` are shown; ``quiet`` is CONFIG_CONSOLE_LOGLEVEL_QUIET, 4.
"Run /init as init process" has level 6 (KERN_INFO)."""
_OFF = ("0", "no", "false", "off", "n", "f", "error", "auto")
"""systemd(1), systemd.show_status=: "auto" and "error" show only what fails or is slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleView:
    """The kernel argument that hides the kernel's progress, and the one that hides systemd's; empty if it is shown."""

    kernel_hidden_by: str = ""
    systemd_hidden_by: str = ""

    @property
    def hidden_by(self) -> str:
        """The kernel arguments that hide something."""
        return " ".join(dict.fromkeys(filter(None, (self.kernel_hidden_by, self.systemd_hidden_by))))

    @property
    def shows_phases(self) -> bool:
        """Whether the phases of a boot can be seen on the console."""
        return not self.hidden_by

    @property
    def unchecked(self) -> Iterator[str]:
        """A sentence for each thing that stays unseen."""
        if self.kernel_hidden_by:
            yield (
                f"kernel messages before the guest answers: this image hides them from its console "
                f"({self.kernel_hidden_by}), so a boot that hangs there gives no reason; those of a guest that answers "
                "are read from its journal"
            )
        if self.systemd_hidden_by:
            yield (
                f"units that fail before the guest answers or after it was ready: this image hides systemd's messages "
                f"from its console ({self.systemd_hidden_by}); those of a guest that is ready are read from its journal"
            )


def console_view(arguments: Sequence[str]) -> ConsoleView:
    """The view that the kernel ``arguments`` leave: pure. For each setting the last argument counts."""
    level, level_set_by = _DEFAULT_LEVEL, ""
    for argument in arguments:
        if argument == "quiet":
            level, level_set_by = _QUIET_LEVEL, argument
        elif argument == "debug":
            level = _DEFAULT_LEVEL
        elif found := re.fullmatch(r"loglevel=(\d+)", argument):
            level, level_set_by = int(found[1]), argument
    if "ignore_loglevel" in arguments:
        level = _DEFAULT_LEVEL
    consoles = [argument for argument in arguments if argument.startswith("console=")]
    elsewhere = "" if not consoles or consoles[-1].startswith(_SERIAL) else consoles[-1]
    has_serial = any(console.startswith(_SERIAL) for console in consoles)
    kernel = level_set_by if level < _PROGRESS_LEVEL else "" if has_serial or not consoles else consoles[-1]
    return ConsoleView(kernel_hidden_by=kernel, systemd_hidden_by=elsewhere or _status_hidden_by(arguments))


def _status_hidden_by(arguments: Sequence[str]) -> str:
    settings = [argument for argument in arguments if re.match(r"(rd\.)?systemd\.show_status(=|$)", argument)]
    if settings:
        return settings[-1] if settings[-1].partition("=")[2].lower() in _OFF and "=" in settings[-1] else ""
    return next((argument for argument in arguments if argument in ("quiet", "splash")), "")
