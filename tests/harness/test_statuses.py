"""The status of every command counts: each call that returns one is followed by a look at it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("harness", "fixtures", "tests/image")
RETURN_A_STATUS = {"run", "systemctl", "answer", "capture"}
"""Methods and functions that return how a command ended: of channels, machines, testinfra's Host, `core.process`."""
RAISE = {("process", "run"), ("chroot", "run"), ("self", "_run")}
"""Receivers whose function of that name raises for any status but 0, or runs no command."""
NO_COMMANDS = {("cli/main.py", "run"), ("lab/dhcp_server.py", "answer"), ("lab/bridge.py", "answer"),
               ("lab/supervisor.py", "answer"), ("machine/attach_server.py", "answer"), ("machine/attend.py", "answer"),
               ("cli/attach.py", "answer")}  # fmt: skip
"""Functions of these names that run no command: of a subcommand, of DHCP and of the doors of `bootproof attach`."""
LOOKS = {"status", "ending", "rc", "succeeded", "failed", "checked"}
"""Attributes of a completed command that show its status, or raise."""


def unseen(source: str, file: str = "x.py") -> Iterator[int]:
    """The lines of ``source`` that run a command whose status nobody looks at."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _returns_a_status(node.func, file) and not _is_seen(node, parents):
            yield node.lineno


def _returns_a_status(function: ast.expr, file: str) -> bool:
    receiver, name = "", ""
    if isinstance(function, ast.Name):
        name = function.id
    elif isinstance(function, ast.Attribute):
        name = function.attr
        receiver = function.value.id if isinstance(function.value, ast.Name) else ""
    runs_none = any(file.endswith(at) and name == known for at, known in NO_COMMANDS)
    return name in RETURN_A_STATUS and (receiver, name) not in RAISE and not runs_none


def _is_seen(call: ast.Call, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether its result is handed on, or its status read: at once, or from the variable that the result is put in."""
    parent = parents[call]
    if isinstance(parent, ast.Attribute):
        return parent.attr in LOOKS
    if isinstance(parent, ast.Return | ast.Compare | ast.Lambda | ast.withitem):
        return True
    if not isinstance(parent, ast.Assign):
        return False
    target = parent.targets[0].elts[0] if isinstance(parent.targets[0], ast.Tuple) else parent.targets[0]
    within = parents[parent]
    while not isinstance(within, ast.FunctionDef | ast.Module):
        within = parents[within]
    uses = [node for node in ast.walk(within) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    return isinstance(target, ast.Name) and any(_looks(use, parents) for use in uses if use.id == target.id)


def _looks(use: ast.Name, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether a use of a variable reads the status: the variable may be it, or be handed on."""
    parent = parents[use]
    return not isinstance(parent, ast.Attribute) or parent.attr in LOOKS


def files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not path.is_symlink())


def test_the_harness_looks_at_the_status_of_each_command_that_it_runs() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}" for path in files() for line in unseen(path.read_text("utf-8"), str(path))
    ]

    assert found == [], "look at .status, or call .checked(), machine.check() or probes.ask()"


@pytest.mark.parametrize(
    "planted",
    [
        "channel.run('date')",
        "text = machine.run('date').text",
        "done = channel.run('date')\nprint(done.text, done.stderr)",
        "def f():\n    done = guest.run('date')\n    return done.text\n\ndef g(done):\n    return done.status",
        "answers = {one: machine.run(one).text for one in commands}",
        "blocks = machine.systemctl('show').text.split()",
        "_, text = process.answer(argv)",
        "text = process.answer(argv)[1]",
        "status, text, errors = process.capture(argv)",
        "control.run(argv, '', 1)",
    ],
)
def test_a_status_that_nobody_looks_at_is_found(planted: str) -> None:
    assert list(unseen(planted))


@pytest.mark.parametrize(
    "good",
    [
        "assert host.run('true').rc == 0",
        "done = channel.run('date')\nif done.status:\n    raise ImageError",
        "text = channel.run('date').checked()",
        "def run(self, command):\n    return self.channel.run(command)",
        "status, text = process.answer(argv)\nassert status < 4",
        "poll(lambda: control.run(argv, '', 1) == 0, deadline)",
        "process.run(argv, log=log)",
        "machine.check('date')",
    ],
)
def test_a_status_that_counts_is_not_found(good: str) -> None:
    assert list(unseen(good)) == []
