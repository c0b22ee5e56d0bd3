"""A survey of the units of a guest that fails or does not become ready: one script, one answer, one frozen value.

The script needs only what an initrd of dracut has: bash, systemctl, journalctl, udevadm, ls, uname, readlink. A running
guest gets the script over its channel. The initrd gets it as a credential, and prints the answer to the second serial
port when it enters emergency mode (see `serial_shell`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.core.deadline import Deadline
from harness.guest.channel import Channel
from harness.guest.unit_states import names

ANSWER_S = 60.0
"""How long a guest that fails may take to answer, on the reference machine: it may be busy with its boot."""

_MOST_UNITS, _MOST_JOURNALS = 40, 12
_JOURNAL_LINES = 40
_PROPERTIES = (
    "Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "ExecMainCode", "ExecMainStatus",
    "NRestarts", "Requires", "Requisite", "BindsTo", "Wants", "After", "ExecStart", "WorkingDirectory", "Where",
)  # fmt: skip
_JOB_ENDED = "be02cf6855d2428ba40df7e9d022f03d"
"""SD_MESSAGE_UNIT_FAILED of sd-messages.h: a job of UNIT ended with JOB_RESULT. Timed-out devices and units whose
dependency failed are not in the state "failed", and are found by this message alone."""

SCRIPT = f"""\
set -f
units={{units}}
say() {{{{ name=$1; shift; printf '\\n\\036%s\\n' "$name"; "$@" 2>&1; printf '\\n\\036= %s\\n' $?; }}}}
add() {{{{ case " $units " in *" $1 "*) ;; *) units="$units $1" ;; esac; }}}}
udevadm settle --timeout=10 >/dev/null 2>&1
settled=$?
say kernel uname -r
say modules ls -1 /usr/lib/modules
say settled echo $settled
results=$(journalctl -b -q --no-pager -o export --output-fields=UNIT,JOB_RESULT MESSAGE_ID={_JOB_ENDED} 2>&1) ||
    {{{{ [ -z "$results" ] || say problem echo "$results"; results=; }}}}
say results printf '%s\\n' "$results"
while IFS= read -r line; do case $line in UNIT=*) add "${{{{line#UNIT=}}}}" ;; esac; done <<EOF
$results
EOF
failed=$(systemctl list-units --failed --no-legend --plain --full --no-pager 2>&1) ||
    {{{{ say problem echo "$failed"; failed=; }}}}
while read -r unit _; do [ -z "$unit" ] || add "$unit"; done <<EOF
$failed
EOF
jobs=$(systemctl list-jobs --no-legend --plain --full --no-pager 2>&1)
say jobs printf '%s\\n' "$jobs"
while read -r _ unit _ state; do [ "$state" != running ] || add "$unit"; done <<EOF
$jobs
EOF
set -- $units
count=0 few=
for unit; do count=$((count + 1)); [ $count -gt {_MOST_UNITS} ] || few="$few $unit"; done
set -- $few
[ $# = 0 ] && exit 0
shown=$(systemctl show --no-pager -p {",".join(_PROPERTIES)} -- "$@" 2>&1) || say problem echo "$shown"
say units printf '%s\\n' "$shown"
while IFS= read -r line; do
    case $line in
        "ExecStart={{{{ path="*) path=${{{{line#*path=}}}}; path=${{{{path%% ;*}}}} ;;
        WorkingDirectory=*/*) path=/${{{{line#*/}}}} ;;
        *) continue ;;
    esac
    [ -e "$path" ] || say "missing $path" ls -ld -- "$path"
done <<EOF
$shown
EOF
count=0
for unit; do
    count=$((count + 1))
    [ $count -gt {_MOST_JOURNALS} ] && break
    say "journal $unit" journalctl -b -q --no-pager --no-hostname -n {_JOURNAL_LINES} -o short-monotonic -u "$unit"
done
exit 0
"""

_SECTION = re.compile(r"^\x1e(?!= )(?P<name>[^\n]*)\n(?P<text>.*?)\n\x1e= (?P<status>\d+)$", re.MULTILINE | re.DOTALL)
_TIMED_OUT = re.compile(r"[Tt]imed out|[Tt]imeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """A unit: properties as `systemctl show` has them, ``job_result`` of its last failed job, its last ``journal``.

    ``needs`` are the units of Requires=, Requisite= and BindsTo=, ``wants_before`` those of Wants= that come before it.
    ``exit_code`` is CLD_EXITED (1), CLD_KILLED (2) or CLD_DUMPED (3), 0 for a unit without main process;
    ``exit_status`` is its status or signal. ``missing`` maps its files that are missing to what ls(1) says of them.
    """

    id: str
    load: str = "loaded"
    active: str = "failed"
    enabled: str = ""
    result: str = "success"
    exit_code: int = 0
    exit_status: int = 0
    restarts: int = 0
    job_result: str = ""
    has_running_job: bool = False
    needs: tuple[str, ...] = ()
    wants_before: tuple[str, ...] = ()
    program: str = ""
    missing: tuple[tuple[str, str], ...] = ()
    journal: tuple[str, ...] = ()

    @property
    def has_failed(self) -> bool:
        """Whether the unit itself failed, other than because of another unit."""
        return self.active == "failed" or (self.is_dead and self.job_result in ("failed", "timeout", "assert"))

    @property
    def is_dead(self) -> bool:
        """Whether the unit neither runs nor is being started."""
        return self.active in ("inactive", "failed")

    @property
    def is_device(self) -> bool:
        return self.id.endswith(".device")

    @property
    def has_timed_out(self) -> bool:
        """Whether the unit failed because a time limit expired: systemd's, or the program's own, by its journal."""
        if "timeout" in (self.result, self.job_result) or self.result == "watchdog":
            return True
        return any(_TIMED_OUT.search(line) for line in self.journal)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSurvey:
    """First the units that were asked for, then those whose job failed, in the order of time, those that failed
    otherwise, and those whose job runs, which are many while a machine boots.

    ``modules`` are the folders in /usr/lib/modules, none if the guest does not list any. ``is_settled``: udev has no
    event left, so that a device which is absent does not come by itself. ``problem`` is why the guest could not list
    or show its units.
    """

    kernel: str = ""
    modules: tuple[str, ...] = ()
    is_settled: bool = False
    units: tuple[UnitState, ...] = ()
    problem: str = ""

    def unit(self, name: str) -> UnitState | None:
        return next((unit for unit in self.units if unit.id == name), None)


def survey_units(channel: Channel, asked_units: Sequence[str] = (), deadline: Deadline | None = None) -> UnitSurvey:
    """Ask a guest that answers; raises what `Channel.run` raises, by default after `ANSWER_S`."""
    done = channel.run(script(asked_units), deadline or Deadline(ANSWER_S))
    survey = parse(done.stdout.decode("utf-8", "replace"))
    return replace(survey, problem=f"the survey of units {done.ending}: {done.errors}") if done.status else survey


def script(asked_units: Sequence[str] = ()) -> str:
    """The script, for sh(1), that asks about ``asked_units`` and all that failed or are being started."""
    return SCRIPT.format(units=shlex.quote(" ".join(asked_units)))


def parse(answer: str) -> UnitSurvey:
    """The survey in the script's output, as far as it is there: pure. The initrd's has carriage returns."""
    found = list(_SECTION.finditer(answer.replace("\r", "")))
    sections = {one["name"]: one["text"].strip("\n") for one in found}
    statuses = {one["name"]: one["status"] for one in found}
    results = dict(_results(sections.get("results", "")))
    running = {row[1] for row in map(str.split, sections.get("jobs", "").splitlines()) if row[3:4] == ["running"]}
    missing = {name[8:]: text for name, text in sections.items() if name.startswith("missing ")}
    blocks = [_properties(block) for block in sections.get("units", "").split("\n\n")]
    return UnitSurvey(
        kernel=sections.get("kernel", ""),
        modules=tuple(sections["modules"].split()) if statuses.get("modules") == "0" else (),
        is_settled=sections.get("settled") == "0",
        units=tuple(_unit(block, results, running, missing, sections) for block in blocks if "Id" in block),
        problem=sections.get("problem", ""),
    )


def _results(export: str) -> Iterator[tuple[str, str]]:
    """Unit and job result of each entry in the journal's export format, in which a blank line ends an entry."""
    for entry in export.split("\n\n"):
        fields = _properties(entry)
        if "UNIT" in fields:
            yield fields["UNIT"], fields.get("JOB_RESULT", "")


def _properties(block: str) -> dict[str, str]:
    return {key: value for key, is_pair, value in (line.partition("=") for line in block.splitlines()) if is_pair}


def _unit(
    block: Mapping[str, str],
    results: Mapping[str, str],
    running: set[str],
    missing: Mapping[str, str],
    sections: Mapping[str, str],
) -> UnitState:
    name, after = block["Id"], set(names(block, "After"))
    program = block.get("ExecStart", "").partition("path=")[2].partition(" ;")[0]
    folder = block.get("WorkingDirectory", "").lstrip("!-")
    return UnitState(
        id=name,
        load=block.get("LoadState", ""),
        active=block.get("ActiveState", ""),
        enabled=block.get("UnitFileState", ""),
        result=block.get("Result", "success"),
        exit_code=_number(block.get("ExecMainCode", "")),
        exit_status=_number(block.get("ExecMainStatus", "")),
        restarts=_number(block.get("NRestarts", "")),
        job_result=results.get(name, ""),
        has_running_job=name in running,
        needs=tuple(word for key in ("Requires", "Requisite", "BindsTo") for word in names(block, key)),
        wants_before=tuple(word for word in names(block, "Wants") if word in after),
        program=program,
        missing=tuple((path, missing[path]) for path in dict.fromkeys((program, folder)) if path in missing),
        journal=tuple(sections.get(f"journal {name}", "").splitlines()),
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
