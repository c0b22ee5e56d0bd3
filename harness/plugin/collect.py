"""Collection: from the definition alone, never from host or build, or workers would disagree."""

from __future__ import annotations

from typing import Any

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


def arrange(items: list[pytest.Item], state: Bootproof) -> None:
    """Before anything is deselected: drop what concerns no image, note the plan, group and sort for the workers."""
    items[:] = [item for item in items if not _has_no_image(item)]
    for item in items:
        image = _image_of(item)
        if image is not None:
            _note(item, image, state)
    items.sort(key=_boots, reverse=True)


def _has_no_image(item: pytest.Item) -> bool:
    """pytest's stand-in for a parameter set without rows."""
    return any(
        mark.kwargs.get("reason", "").startswith("got empty parameter set") for mark in item.iter_markers("skip")
    )


def _note(item: pytest.Item, image: str, state: Bootproof) -> None:
    names = set(getattr(item, "fixturenames", ()))
    if {"host", "machine"} <= names:
        raise pytest.UsageError(f"{item.nodeid}: take host (shared, to look) or machine (own, to change), not both")
    if "host" in names and hasattr(getattr(item, "module", None), "testinfra_hosts"):
        raise pytest.UsageError(f"{item.nodeid}: --image tests an image, testinfra_hosts in its module names a host")
    item.user_properties.append(("image", image))
    item.user_properties.append(("test", item.nodeid))
    if image in state.runs and state.worker in ("main", "gw0"):  # each worker collects the same
        checks = [mark.args[0] for mark in item.iter_markers("check")]
        group = f"{image} shared" if "shared_machine" in names else item.nodeid
        plan = {"test": item.nodeid, "file": str(item.path), "checks": checks, "group": group}
        state.runs[image].add("planned", plan)


def make_scheduler(config: pytest.Config, log: Any, state: Bootproof) -> Any:
    """Tests of one shared machine go to one worker, every other test wherever there is room.

    xdist's own ``loadgroup`` would do, but changes node ids in a way that pytest 9.2 does not have any more.
    """
    from xdist.scheduler import LoadScopeScheduling

    groups: dict[str, str] = {}

    class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
        def _split_scope(self, nodeid: str) -> str:
            if not groups:
                groups.update(_groups(state))
            return groups.get(nodeid, nodeid)

    return Groups(config, log)


def _groups(state: Bootproof) -> dict[str, str]:
    """By node id, as the workers have noted it while they collected."""
    events = [event for run in state.runs.values() for event in run.events() if event.kind == "planned"]
    return {event.data["test"]: event.data["group"] for event in events}


def _boots(item: pytest.Item) -> int:
    mark = item.get_closest_marker("boots")
    return int(mark.args[0]) if mark else 0


def _image_of(item: pytest.Item) -> str | None:
    return _params(item).get("image")


def _params(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return dict(callspec.params) if callspec else {}
