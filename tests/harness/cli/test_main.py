"""The command line as a whole: the help of every command, lazy imports, and who may use argparse."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli.main import parse, parser

ROOT = Path(__file__).parents[3]


def commands(of: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in of._actions:  # argparse has no public list of them
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command
                yield from commands(command)


@pytest.mark.parametrize("command", list(commands(parser())), ids=lambda command: command.prog)
def test_the_help_of_a_command_describes_it_and_every_option(command: argparse.ArgumentParser) -> None:
    assert command.description
    assert [action.dest for action in command._actions if not action.help and action.dest != "==SUPPRESS=="] == []
    if command.prog.startswith("bootproof attest "):
        return  # `bootproof attest --help` has the examples of all three
    assert "example" in (command.epilog or "")
    assert "exit status" in (command.epilog or "")


@pytest.mark.parametrize("command", list(commands(parser())), ids=lambda command: command.prog)
def test_the_examples_of_a_command_parse(command: argparse.ArgumentParser) -> None:
    """Those on a line of their own; comments stand two blanks apart."""
    for line in (command.epilog or "").splitlines():
        if line.startswith("  bootproof "):
            words = line.strip().replace('"', "").partition("   ")[0].partition(" >")[0].split()
            parse(words[1:])


def test_help_loads_no_module_that_only_acting_needs() -> None:
    program = "import sys; from harness.cli.main import parser; parser().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    heavy = {"aiohttp", "cattrs", "rich", "qemu.qmp", "pexpect", "jinja2", "cryptography", "harness.machine"}
    assert heavy & set(done.stdout.split()) == set()


def test_argparse_is_used_by_the_command_line_alone() -> None:
    users = {
        file.relative_to(ROOT / "harness").parts[0]
        for file in (ROOT / "harness").rglob("*.py")
        if "argparse" in file.read_text("utf-8") and file.name != "hardware_scan.py"  # a program of its own
    }

    assert users == {"cli"}
