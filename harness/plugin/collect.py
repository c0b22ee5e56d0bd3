"""Collection: from the definition alone, never from host or build, or workers would disagree."""

from __future__ import annotations

import pytest

from harness.plugin.state import Bootproof

_LISTS = {
    "service": "services",
    "socket_unit": "sockets",
    "waiting_unit": "waiting",
    "persistent_path": "persistent_paths",
}
"""A test that names one of these arguments runs once for each entry of that list of the definition."""


def generate(metafunc: pytest.Metafunc, state: Bootproof) -> None:
    """Run tests for each image, and for what the image's definition lists."""
    if "image" not in metafunc.fixturenames:
        return
    names = ["image", *(name for name in (*_LISTS, "other_boot_path") if name in metafunc.fixturenames)]
    rows = [[definition.name] for definition in state.definitions.values()]
    for name in names[1:]:
        rows = [[*row, value] for row in rows for value in _values(name, state, row[0])]
    metafunc.parametrize(names, rows, indirect=["image"], scope="session")


def _values(name: str, state: Bootproof, image: str) -> list[str]:
    if name == "other_boot_path":
        return [path.value for path in state.paths_of(image) if path is not state.favourite_path_of(image)]
    return list(getattr(state.definitions[image], _LISTS[name]))


def note_plan(found: list[pytest.Item | pytest.Collector], state: Bootproof) -> None:
    """What is planned is what a file holds, not what is asked for: what was left out is missing in the verdict."""
    if state.worker not in ("main", "gw0"):  # each worker collects the same
        return
    for item in found:
        image = _image_of(item)
        if isinstance(item, pytest.Item) and image in state.runs and not _has_no_image(item):
            checks = [mark.args[0] for mark in item.iter_markers("check")]
            group = f"{image} shared" if "shared_machine" in getattr(item, "fixturenames", ()) else item.nodeid
            plan = {"test": item.nodeid, "file": str(item.path), "checks": checks, "group": group}
            state.runs[image].add("planned", plan)


def arrange(items: list[pytest.Item]) -> None:
    """Before anything is deselected: drop what concerns no image, group and sort for the workers."""
    items[:] = [item for item in items if not _has_no_image(item)]
    for item in items:
        image = _image_of(item)
        if image is not None:
            _note(item, image)
    items.sort(key=_boots, reverse=True)


def _has_no_image(item: pytest.Item) -> bool:
    """pytest's stand-in for a parameter set without rows."""
    return any(
        mark.kwargs.get("reason", "").startswith("got empty parameter set") for mark in item.iter_markers("skip")
    )


def _note(item: pytest.Item, image: str) -> None:
    names = set(getattr(item, "fixturenames", ()))
    if {"host", "machine"} <= names:
        raise pytest.UsageError(f"{item.nodeid}: take host (shared, to look) or machine (own, to change), not both")
    if "host" in names and hasattr(getattr(item, "module", None), "testinfra_hosts"):
        raise pytest.UsageError(f"{item.nodeid}: --image tests an image, testinfra_hosts in its module names a host")
    item.user_properties.append(("image", image))
    item.user_properties.append(("test", item.nodeid))


def _boots(item: pytest.Item) -> int:
    mark = item.get_closest_marker("boots")
    return int(mark.args[0]) if mark else 0


def _image_of(item: pytest.Item | pytest.Collector) -> str | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("image") if callspec else None
