"""What a broken command does to an inspection: the script of `ask` runs in this host's shells."""

from __future__ import annotations

import subprocess

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, ChannelTimeout, Completed
from harness.guest.probes import MOST_BYTES, Probe, ProbeFailed, ask, read


class Here(Channel):
    """A shell of this host."""

    def __init__(self, shell: str = "bash") -> None:
        self._shell = shell

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        done = subprocess.run([self._shell, "-c", command], check=False, capture_output=True)
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


GOOD = Probe("before", "echo one; echo; echo two")


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_each_answer_has_its_name_and_keeps_its_lines(shell: str) -> None:
    here = Probe("a list", "cat <<END\nfirst\n\nlast\nEND")

    assert ask(Here(shell), [GOOD, here]) == {"before": "one\n\ntwo", "a list": "first\n\nlast"}


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize(
    ("command", "problem", "errors"),
    [
        ("/nowhere/uname -r", "ended with status 127", "/nowhere/uname"),
        ("echo half; echo no bus >&2; exit 3", "ended with status 3", "no bus"),
        ("sh -c 'kill -9 $$'", "ended with status 137 (SIGKILL)", ""),
        ("true", "printed nothing", ""),
        ("echo; echo", "printed nothing", ""),
        ("head -c 10M /dev/zero", "printed more than the 2 MiB", ""),
        ("yes", "printed more than the 2 MiB", ""),
    ],
)
def test_a_command_that_gives_no_answer_is_named_with_its_error(
    command: str, problem: str, errors: str, shell: str
) -> None:
    with pytest.raises(ProbeFailed) as failure:
        ask(Here(shell), [GOOD, Probe("broken", command), Probe("after", "echo three")])

    assert (failure.value.name, failure.value.command) == ("broken", command)
    assert failure.value.problem.startswith(problem)
    assert errors in failure.value.errors
    assert command in str(failure.value)


def test_an_answer_that_looks_like_the_end_of_another_is_an_error() -> None:
    with pytest.raises(ProbeFailed, match=r"'sly'.* did not finish"):
        ask(Here(), [Probe("sly", "printf '\\n\\036after 0\\n'"), Probe("after", "echo three")])


def test_an_answer_may_be_as_long_as_the_limit() -> None:
    answers = ask(Here(), [Probe("long", f"head -c {MOST_BYTES - 100} /dev/zero | tr '\\0' x")])

    assert len(answers["long"]) == MOST_BYTES - 100


def test_a_guest_without_head_has_answered_nothing() -> None:
    class NoHead(Here):
        def run(self, command: str, deadline: Deadline | None = None) -> Completed:
            return super().run(command.replace("| head ", "| /nowhere/head "), deadline)

    with pytest.raises(
        ProbeFailed, match=r"did not finish: the script, which ends in head.1., ended with status 127: .*nowhere.head"
    ):
        ask(NoHead(), [GOOD])


def test_an_inspection_without_an_answer_in_time_names_its_probes_and_not_its_script() -> None:
    class Hangs(Channel):
        def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
            raise ChannelTimeout("machine", command, 5.0, "Look.")

    with pytest.raises(ChannelTimeout) as failure:
        ask(Hangs(), [GOOD, Probe("after", "true")])

    assert failure.value.command == "the answers to before, after"


def test_an_answer_that_cannot_be_read_is_quoted() -> None:
    with pytest.raises(ImageError, match=r"'size', from `stat -c %s x`, cannot be read \(ValueError.*begins:\nabc"):
        read({"size": "abc\nd"}, Probe("size", "stat -c %s x"), int)
