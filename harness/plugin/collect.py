"""Collection: depends on definition and options only, so that all workers collect the same tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.fixtures.naming import private
from harness.guests.ground import keeps_guests
from harness.guests.routes import ROUTES
from harness.machine.states import BOOTED, PREVIOUS, State, path_to
from harness.model.events import PlannedTest
from harness.model.machine_spec import BootPath, DiskFault
from harness.model.prepared import PreparedImage
from harness.persistence.unit_delays import orders
from harness.plugin.options import RunOptions
from harness.plugin.state import RunState
from harness.verdict.coverage import ABOUT_DATA, SOAK, without_repeat

_LISTS = {
    "service": "services",
    "socket_unit": "sockets",
    "waiting_unit": "waiting",
    "persistent_path": "persistent_paths",
    "tolerated_network_fault": "tolerated_network_faults",
    "hardware_profile": "hardware",
    "own_check": "check_names",
    "goss_resource": "goss_names",
    "control_plane_image": "control_planes",
}
"""A test that uses one of these fixtures runs once for each entry of that list of the definition."""
_ENTRIES = (*_LISTS, "other_boot_path", "cut_number", "disk_fault", "order", "guest_route")
_IMAGE, _REPEAT, _SHARED, _OWN, _SECOND = map(private, ("image", "repeat", "shared", "machine", "second_machine"))
_FROM_BOOTED = frozenset(map(private, ("shared", "seeded_disk", "disk_with_guests", "power_cuts")))
"""What is made from a machine in the state ``booted``."""

IMAGE_PROPERTY, TEST_PROPERTY, CONSOLE_PROPERTY = "bootproof-image", "bootproof-test", "bootproof-console"
"""The properties of a test that Bootproof adds to pytest's report; ``record_property`` of a test adds others."""

REFERENCE_BOOT_S = 75.0
"""A boot of nova-kvm on the reference machine."""


def generate_images(metafunc: pytest.Metafunc, options: RunOptions) -> None:
    """Run each test that uses an image for each image, and repeat it."""
    if _IMAGE not in metafunc.fixturenames:
        return
    metafunc.parametrize(_IMAGE, list(options.definitions), indirect=True, scope="session")
    if options.repeats > 1 and metafunc.definition.get_closest_marker("thorough") is None:
        repeats = [f"repeat~{number}" for number in range(1, options.repeats + 1)]
        metafunc.parametrize(_REPEAT, repeats, indirect=True, scope="session")


def generate_entries(metafunc: pytest.Metafunc, options: RunOptions) -> None:
    """Run each test for each entry of the lists that it uses. Those of all images are joined: see `concerns`."""
    for name in _ENTRIES:
        if private(name) in metafunc.fixturenames:
            values = [value for image in options.definitions for value in _values(name, options, image)]
            metafunc.parametrize(private(name), list(dict.fromkeys(values)), indirect=True, scope="session")


def concerns(item: pytest.Item | pytest.Collector, options: RunOptions) -> bool:
    """Whether each entry that the test runs for is one of its image's."""
    image, params = image_of(item), _params(item)
    if image is None or _has_no_entry(item):
        return True
    given = [(name, params[private(name)]) for name in _ENTRIES if private(name) in params]
    return all(value in _values(name, options, image) for name, value in given)


def _values(name: str, options: RunOptions, image: str) -> Sequence[object]:
    if name == "cut_number":
        return range(options.cut_boots)
    if name == "disk_fault":
        return list(DiskFault)
    if name == "order":
        return orders(options.definitions[image], options.seed)
    if name == "guest_route":
        paths = options.definitions[image].persistent_paths
        return list(ROUTES) if keeps_guests(paths) else []
    if name == "other_boot_path":
        return [path.value for path in options.other_paths_of(image)]
    return list(getattr(options.definitions[image], _LISTS[name]))


def note_plan(found: list[pytest.Item | pytest.Collector], state: RunState) -> None:
    """Plan every test that a file contains: one that is deselected later is missing in the verdict."""
    if state.worker not in ("main", "gw0"):  # each worker collects the same
        return
    for item in found:
        image = image_of(item)
        if not isinstance(item, pytest.Item) or is_left_out(item, state.options) or _has_no_entry(item):
            continue
        if image in state.runs:
            state.runs[image].add(planned(item, state.options))


def planned(item: pytest.Item, options: RunOptions) -> PlannedTest:
    return PlannedTest(
        test=item.nodeid,
        file=str(item.path),
        checks=checks_of(item),
        group=_group(item, image_of(item)),
        boots=_boots(item, options),
        templates=tuple(_templates(item, options)),
    )


def is_left_out(item: pytest.Item, options: RunOptions) -> bool:
    """Whether a long test was not asked for, or is about persistent data and the image has none.

    In the second case its check is not applicable without a test: see `coverage.cover`.
    """
    if item.get_closest_marker("thorough") is None:
        return False
    definition = options.definitions.get(image_of(item) or "")
    is_about_data = not set(checks_of(item)).isdisjoint(ABOUT_DATA)
    return not options.is_thorough or (definition is not None and is_about_data and not definition.persistent_paths)


def looks(item: pytest.Item) -> bool:
    """Whether the test only looks at a machine that it shares with others."""
    return _SHARED in getattr(item, "fixturenames", ())


def arrange(items: list[pytest.Item], prepared: Mapping[str, PreparedImage], options: RunOptions) -> None:
    """Before anything is deselected: drop tests without an entry, group and sort the others, lint and then the longest.

    ``prepared`` has the durations of earlier runs.
    """
    items[:] = [item for item in items if not _has_no_entry(item)]
    for item in items:
        if (image := image_of(item)) is not None:
            _note(item, image)
    took_s = dict[str, float]()
    for item in items:
        group = _group(item, image_of(item))
        took_s[group] = took_s.get(group, 0.0) + expected_s(item, prepared.get(image_of(item) or ""), options)
    items.sort(key=lambda item: (_is_told_from_files(item), took_s[_group(item, image_of(item))]), reverse=True)


def _is_told_from_files(item: pytest.Item) -> bool:
    """Whether the test is of the check ``lint``, which comes before any boot."""
    mark = item.get_closest_marker("check")
    return mark is not None and "lint" in mark.args


def _boots(item: pytest.Item, options: RunOptions) -> int:
    """How many boots the test makes itself, without those of the templates that it needs."""
    mark, path = item.get_closest_marker("boots"), _other_path(item)
    boots = int(mark.args[0]) if mark and mark.args else 0
    if path is None:
        return boots
    goes_back = path in (BootPath.GRUB, BootPath.KEXEC)
    image = image_of(item) or ""
    is_cloned = path == options.second_path_of(image) or options.moves_to(image, path)
    return boots + goes_back - is_cloned


def _templates(item: pytest.Item, options: RunOptions) -> Iterator[str]:
    """A name for each boot of the templates that a test needs: see `PlannedTest.templates`."""
    names, path = set(getattr(item, "fixturenames", ())), _other_path(item)
    image, repeat = image_of(item) or "", _params(item).get(_REPEAT, "")
    states = [BOOTED] if names & _FROM_BOOTED else []
    if _OWN in names:
        mark = item.get_closest_marker("state")
        states.append(str(mark.args[0]) if mark and mark.args else BOOTED)
    if path is not None and options.moves_to(image, path):
        states.append(PREVIOUS)
    second = [BOOTED] if _SECOND in names else []
    if path is not None and path == options.second_path_of(image):
        second.append(PREVIOUS)
    for label, asked in (("", states), ("second", second)):
        for state in (state for name in asked for state in _known_path(name)):
            # Without --previous, the version before is the one under test, which is booted once for both states.
            name = BOOTED if state.name == PREVIOUS and not options.previous else state.name
            for number in range(state.boots):
                yield " ".join(filter(None, [image, name, label, repeat, str(number) if number else ""]))


def _other_path(item: pytest.Item) -> BootPath | None:
    path = _params(item).get(private("other_boot_path"))
    return BootPath(str(path)) if path else None


def _known_path(name: str) -> Sequence[State]:
    """`_note` reports an unknown state, of the tests that are not deselected."""
    try:
        return path_to(name)
    except UsageError:
        return ()


def _has_no_entry(item: pytest.Item | pytest.Collector) -> bool:
    """pytest's stand-in for a test that has no parameters, because no image has an entry in that list."""
    reasons = [str(mark.kwargs.get("reason", "")) for mark in item.iter_markers("skip")]
    return any(why.startswith("got empty parameter set") and private("") in why for why in reasons)


def checks_of(item: pytest.Item) -> tuple[str, ...]:
    """A marker ``check`` without a name is not Bootproof's."""
    return tuple(str(mark.args[0]) for mark in item.iter_markers("check") if mark.args)


def _note(item: pytest.Item, image: str) -> None:
    names = set(getattr(item, "fixturenames", ()))
    if _SHARED in names and {_OWN, _SECOND, private("cold_machine")} & names:
        raise pytest.UsageError(f"{item.nodeid}: use host (shared, read-only) or machine (own, to change), not both")
    for mark in item.iter_markers("state") if _OWN in names else ():
        if len(mark.args) != 1:
            raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.state takes the name of one state")
        try:
            path_to(mark.args[0])
        except UsageError as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from None
    if _SHARED in names and hasattr(getattr(item, "module", None), "testinfra_hosts"):
        raise pytest.UsageError(
            f"{item.nodeid}: --image tests an image, but testinfra_hosts in its module names a host"
        )
    item.user_properties.append((IMAGE_PROPERTY, image))
    item.user_properties.append((TEST_PROPERTY, item.nodeid))


def _group(item: pytest.Item, image: str | None) -> str:
    """One worker runs all tests of a group: those of one file that share a machine."""
    return f"{image} {item.path.name} {without_repeat(item.nodeid)[1]}".rstrip() if looks(item) else item.nodeid


def expected_s(item: pytest.Item, prepared: PreparedImage | None, options: RunOptions) -> float:
    """The duration in earlier runs on this host, which the controller read for all workers; else by its boots. A soak
    takes as long as ``options`` say, and some more."""
    mark = item.get_closest_marker("boots")
    return _expected_s(item.nodeid, checks_of(item), int(mark.args[0]) if mark and mark.args else 0, prepared, options)


def expected_of(test: PlannedTest, prepared: PreparedImage | None, options: RunOptions) -> float:
    """The same of a test that a worker planned."""
    return _expected_s(test.test, test.checks, test.boots, prepared, options)


def _expected_s(
    test: str, checks: Sequence[str], boots: int, prepared: PreparedImage | None, options: RunOptions
) -> float:
    if SOAK in checks:
        return 60.0 * (options.soak_minutes + 1)
    known = prepared.durations.tests_s if prepared else {}
    for name in (test, without_repeat(test)[0]):
        if name in known:
            return known[name]
    slowness = prepared.slowness if prepared else 1.0
    return REFERENCE_BOOT_S * slowness * boots if boots else 1.0


def image_of(item: pytest.Item | pytest.Collector) -> str | None:
    return _params(item).get(_IMAGE)


def _params(item: pytest.Item | pytest.Collector) -> Mapping[str, Any]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec else {}
