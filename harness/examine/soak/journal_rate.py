"""How fast the journal of a host grows that is left alone: it must keep a day, or an incident of the night is gone."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence

from harness.examine.soak.ground import Ground
from harness.examine.soak.looks import Look, Phase
from harness.examine.texts import lines_of
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.lint.finding import LintFinding, fails

_ENTRY_BYTES = 800
"""What an entry takes in a file, without the tables that each file begins with: measured with Debian 13."""
_LEAST_KEPT_S = 86400.0
_Z95_ONE_SIDED = 1.645
_LAST = Probe(
    "who writes to the journal",
    "echo look\njournalctl -q --no-pager -n 1000 -o json --output-fields=_SYSTEMD_UNIT,SYSLOG_IDENTIFIER",
)


def judge_rate(channel: Channel, looks: Sequence[Look], ground: Ground) -> Iterator[LintFinding]:
    """A finding if the journal keeps less than a day; asks the host for the units that write most."""
    kept_s = keeps_s(looks, ground)
    if kept_s < _LEAST_KEPT_S:
        by = read(ask(channel, [_LAST]), _LAST, lambda text: Counter(map(_source, lines_of(text))))
        what = f"it has room for {ground.journal_bytes >> 20} MiB, and keeps {kept_s / 3600:.1f} hours of an idle host"
        lines = [f"{count} of the last {by.total()} entries are of {unit}" for unit, count in by.most_common(3)]
        yield fails("journal-floods", "journal:systemd-journald", what, *lines)


def keeps_s(looks: Sequence[Look], ground: Ground) -> float:
    """For how long the journal keeps an entry of a host that is left alone, 95 % certain to be no longer: pure.

    The entries are counted as a Poisson process. Infinite if there are too few, or the journal's room is not known.
    """
    alone = [look.sample for look in looks if look.phase is Phase.ALONE]
    if len(alone) < 2 or not ground.journal_bytes:
        return math.inf
    count = alone[-1].entries - alone[0].entries
    surely = count - _Z95_ONE_SIDED * math.sqrt(max(count, 0))
    if surely <= 0:
        return math.inf
    return ground.journal_bytes / _ENTRY_BYTES / (surely / (alone[-1].at_s - alone[0].at_s))


def _source(line: str) -> str:
    entry = json.loads(line)
    return str(entry.get("_SYSTEMD_UNIT") or entry.get("SYSLOG_IDENTIFIER") or "kernel")
