"""Collection: depends on definition and options only, so that all workers collect the same tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from harness.core.errors import UsageError
from harness.machine.states import path_to
from harness.model.events import PlannedTest
from harness.model.machine_spec import DiskFault
from harness.model.prepared import PreparedImage
from harness.persistence.unit_delays import orders
from harness.plugin.options import RunOptions
from harness.plugin.state import RunState
from harness.verdict.coverage import THOROUGH, without_repeat

_LISTS = {
    "service": "services",
    "socket_unit": "sockets",
    "waiting_unit": "waiting",
    "persistent_path": "persistent_paths",
    "tolerated_network_fault": "tolerated_network_faults",
    "hardware_profile": "hardware",
}
"""A test that names one of these arguments runs once for each entry of that list of the definition."""

_BOOT_S = 75.0
"""A boot of nova-kvm on the reference machine."""


def generate(metafunc: pytest.Metafunc, options: RunOptions) -> None:
    """Run each test for each image, and for each entry of the definition's list that it names."""
    if "image" not in metafunc.fixturenames:
        return
    known = [*_LISTS, "other_boot_path", "cut_number", "disk_fault", "order"]
    if options.repeats > 1 and metafunc.definition.get_closest_marker("thorough") is None:
        known.insert(0, "repeat")
    names = ["image", *(name for name in known if name in metafunc.fixturenames)]
    rows: list[list[object]] = [[definition.name] for definition in options.definitions.values()]
    for name in names[1:]:
        rows = [[*row, value] for row in rows for value in _values(name, options, str(row[0]))]
    metafunc.parametrize(names, rows, indirect=[name for name in names if name in ("image", "repeat")], scope="session")


def _values(name: str, options: RunOptions, image: str) -> Sequence[object]:
    if name == "repeat":
        return [f"repeat~{number}" for number in range(1, options.repeats + 1)]
    if name == "cut_number":
        return range(options.cut_boots)
    if name == "disk_fault":
        return list(DiskFault)
    if name == "order":
        return orders(options.definitions[image], options.seed)
    if name == "other_boot_path":
        return [path.value for path in options.paths_of(image) if path is not options.default_path_of(image)]
    return list(getattr(options.definitions[image], _LISTS[name]))


def note_plan(found: list[pytest.Item | pytest.Collector], state: RunState) -> None:
    """Plan every test that a file contains: one that is deselected later is missing in the verdict."""
    if state.worker not in ("main", "gw0"):  # each worker collects the same
        return
    for item in found:
        image = image_of(item)
        if not isinstance(item, pytest.Item) or is_left_out(item, state.options) or _has_no_image(item):
            continue
        if image in state.runs:
            checks = tuple(str(mark.args[0]) for mark in item.iter_markers("check"))
            plan = PlannedTest(test=item.nodeid, file=str(item.path), checks=checks, group=_group(item, image))
            state.runs[image].add(plan)


def is_left_out(item: pytest.Item, options: RunOptions) -> bool:
    """Whether a long test was not asked for, or is about persistent data and the image has none."""
    if item.get_closest_marker("thorough") is None:
        return False
    definition = options.definitions.get(image_of(item) or "")
    is_about_data = any(mark.args[0] in THOROUGH for mark in item.iter_markers("check"))
    return not options.is_thorough or (definition is not None and is_about_data and not definition.persistent_paths)


def looks(item: pytest.Item) -> bool:
    """Whether the test only looks at a machine that it shares with others."""
    return "shared" in getattr(item, "fixturenames", ())


def arrange(items: list[pytest.Item], prepared: Mapping[str, PreparedImage]) -> None:
    """Before anything is deselected: drop tests without an image, group and sort the others, longest first.

    ``prepared`` has the durations of earlier runs.
    """
    items[:] = [item for item in items if not _has_no_image(item)]
    for item in items:
        if (image := image_of(item)) is not None:
            _note(item, image)
    took_s = dict[str, float]()
    for item in items:
        group = _group(item, image_of(item))
        took_s[group] = took_s.get(group, 0.0) + _expected_s(item, prepared.get(image_of(item) or ""))
    items.sort(key=lambda item: took_s[_group(item, image_of(item))], reverse=True)


def _has_no_image(item: pytest.Item) -> bool:
    """pytest's stand-in for a parameter set without rows."""
    return any(
        mark.kwargs.get("reason", "").startswith("got empty parameter set") for mark in item.iter_markers("skip")
    )


def _note(item: pytest.Item, image: str) -> None:
    names = set(getattr(item, "fixturenames", ()))
    if "shared" in names and {"machine", "cold_machine"} & names:
        raise pytest.UsageError(f"{item.nodeid}: use host (shared, read-only) or machine (own, to change), not both")
    for mark in item.iter_markers("state"):
        if len(mark.args) != 1:
            raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.state takes the name of one state")
        try:
            path_to(mark.args[0])
        except UsageError as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from None
    if "host" in names and hasattr(getattr(item, "module", None), "testinfra_hosts"):
        raise pytest.UsageError(
            f"{item.nodeid}: --image tests an image, but testinfra_hosts in its module names a host"
        )
    item.user_properties.append(("image", image))
    item.user_properties.append(("test", item.nodeid))


def _group(item: pytest.Item, image: str | None) -> str:
    """One worker runs all tests of a group: those of one file that share a machine."""
    return f"{image} {item.path.name} {without_repeat(item.nodeid)[1]}".rstrip() if looks(item) else item.nodeid


def _expected_s(item: pytest.Item, prepared: PreparedImage | None) -> float:
    """The duration in earlier runs on this host, which the controller read for all workers; else by its boots."""
    known = prepared.durations.tests_s if prepared else {}
    for name in (item.nodeid, without_repeat(item.nodeid)[0]):
        if name in known:
            return known[name]
    mark = item.get_closest_marker("boots")
    return _BOOT_S * int(mark.args[0]) if mark else 1.0


def image_of(item: pytest.Item | pytest.Collector) -> str | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("image") if callspec else None
