"""The tests of a run: the suite included in Bootproof, and the repository's own.

The suite is not one of pytest's paths. It may lie in a virtual environment inside the repository, and pytest would
then look for tests in all of that; its modules would collide with the repository's of the same name.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from harness.plugin import fixtures

FOLDER = Path(__file__).parents[1] / "suite"
NAME = "harness/suite"
OWN = "tests/image"


def roots(config: pytest.Config) -> tuple[Path, Path]:
    """Where the repository may be: pytest takes DIR of ``--run-dir DIR`` for a path when it looks for its rootdir."""
    return config.rootpath, config.invocation_params.dir


def folders(config: pytest.Config) -> tuple[Path, ...]:
    """The included suite and, if it is another one, the repository's own."""
    own = _own(config)
    return tuple(dict.fromkeys(folder.resolve() for folder in (FOLDER, own) if folder))


def _own(config: pytest.Config) -> Path | None:
    return next((root / OWN for root in roots(config) if (root / OWN).is_dir()), None)


def choose(config: pytest.Config) -> tuple[list[str], list[str]]:
    """What pytest must collect, and the id prefixes of the suite's tests to run before it.

    Paths on the command line exclude everything else. Without paths: the suite and ``tests/image``, or whatever pytest
    collects in a repository without that folder.
    """
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        ids = [argument for argument in config.args if _is_id(argument, config.invocation_params.dir)]
        return [argument for argument in config.args if argument not in ids], ids
    own = _own(config)
    if own and own.samefile(FOLDER):
        return [str(own)], []
    return [str(own)] if own else config.args, [NAME]


def _is_id(argument: str, invoked: Path) -> bool:
    return _begins(argument, NAME) and not (invoked / argument.partition("::")[0]).exists()


def is_root_file_system(folder: Path) -> bool:
    """Whether ``folder`` is an unpacked root file system or initrd: it has programs, and either a file that names its
    release or the folders that every Linux mounts on."""

    def has(name: str) -> bool:
        return os.path.lexists(folder / name)  # outside of a chroot, a link may lead nowhere

    releases = ("etc/os-release", "usr/lib/os-release", "etc/initrd-release")
    return (has("usr/bin") or has("bin")) and (any(map(has, releases)) or all(map(has, ("dev", "etc", "proc", "sys"))))


def is_left_alone(path: Path, config: pytest.Config) -> bool:
    """Whether pytest must not look for tests in ``path``: in a root file system there are those of its programs.

    It does if ``path``, or something in it, was asked for.
    """
    asked = (config.invocation_params.dir / argument.partition("::")[0] for argument in config.args)
    return is_root_file_system(path) and not any(one.is_relative_to(path) for one in asked)


def collect(session: pytest.Session, ids: list[str]) -> list[pytest.Item]:
    """The suite's tests whose id begins with one of ``ids``."""
    if not ids:
        return []
    suite = _Suite.from_parent(session, name=NAME, nodeid=NAME)
    suite.ids = ids
    items = list(session.genitems(suite))
    for beginning in ids:
        if not session.testsfailed and not any(_begins(item.nodeid, beginning) for item in items):
            raise pytest.UsageError(f"{beginning}: no such test in the suite of Bootproof")
    return items


def leave_out(collector: pytest.Collector, report: pytest.CollectReport) -> None:
    """Of a module of the suite, keep the tests that were asked for."""
    if isinstance(collector, _Module):
        report.result = [item for item in report.result if any(_begins(item.nodeid, asked) for asked in collector.ids)]


def _begins(nodeid: str, beginning: str) -> bool:
    """Whether ``beginning`` names that test, or its function, module or folder."""
    return f"{nodeid}/".startswith(tuple(f"{beginning.rstrip('/')}{end}" for end in ("/", "::", "[")))


class _Suite(pytest.Collector):
    """Not a `pytest.Directory`: for one, pytest would load every conftest.py above the place of installation."""

    ids: list[str]
    obj = property(lambda _: fixtures.aliases())  # pytest looks for fixtures there, as in a module

    def collect(self) -> Iterator[_Module]:
        self.session._fixturemanager.parsefactories(self)  # so that no conftest.py replaces them
        for path in sorted(FOLDER.glob("test_*.py")):
            module = _Module.from_parent(self, path=path, nodeid=f"{NAME}/{path.name}")
            module.ids = self.ids
            yield module


class _Module(pytest.Module):
    """A module of the suite, imported by its full name; the repository's settings for names do not apply."""

    ids: list[str]

    def _getobj(self) -> ModuleType:
        return importlib.import_module(f"{NAME.replace('/', '.')}.{self.path.stem}")

    def funcnamefilter(self, name: str) -> bool:
        return name.startswith("test_")
