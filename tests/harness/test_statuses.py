"""The status of every command counts: each call that returns one is followed by a look at it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("harness", "fixtures", "tests/image")
METHODS = {"run", "systemctl"}
"""Methods of channels, machines and testinfra's Host that return how a command ended."""
FUNCTIONS = {("process", "answer"), ("process", "capture")}
RAISE = {("process", "run"), ("chroot", "run")}
"""Functions that raise for any status but 0."""
LOOKS = {"status", "ending", "rc", "returncode", "succeeded", "failed", "checked"}
"""Attributes of a completed command that show its status, or raise."""


def unseen(source: str) -> Iterator[int]:
    """The lines of ``source`` that run a command whose status nobody looks at."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _returns_a_status(node.func) and not _is_seen(node, parents):
            yield node.lineno


def _returns_a_status(function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute):
        return False
    called = (function.value.id if isinstance(function.value, ast.Name) else "", function.attr)
    return called in FUNCTIONS or (function.attr in METHODS and called not in RAISE)


def _is_seen(call: ast.Call, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether its result is handed on, or its status read: at once, or from the variable that the result is put in."""
    parent = parents[call]
    if isinstance(parent, ast.Attribute):
        return parent.attr in LOOKS
    if isinstance(parent, ast.Return | ast.Compare | ast.Lambda):
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
    found = [f"{path.relative_to(ROOT)}:{line}" for path in files() for line in unseen(path.read_text("utf-8"))]

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
