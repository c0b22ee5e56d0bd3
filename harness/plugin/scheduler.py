"""Which worker runs which test; imported only in runs with xdist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xdist.scheduler import LoadScopeScheduling

from harness.core.deadline import usable_cores
from harness.model.events import PlannedTest
from harness.plugin.lookers import Group, Others, groups_of, needed_lookers, next_group

Planned = Sequence[tuple[PlannedTest, float]]
"""Tests as the workers planned them, each with the seconds that it is expected to take."""


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """One worker runs all tests of a file that share a machine; any free worker runs each other test. Few
    workers look (`needed_lookers`): one that may not look now, and has nothing else to do, waits.

    xdist's own ``loadgroup`` changes node ids in a way that pytest 9.2 no longer supports.

    Unlike xdist's (3.8), this scheduler continues when a worker is lost: the test during which the worker ended is not
    run again, and the replacement worker gets enough tests to start.
    """

    def __init__(self, config: Any, log: Any, planned: Callable[[], Planned], cores: int | None = None) -> None:
        """``planned`` is called once all workers have collected; ``cores`` of this host, by default all."""
        super().__init__(config, log)
        config.option.loadscopereorder = False  # ours are in order: the longest first
        self._read_plan, self._cores = planned, cores or usable_cores()
        self._planned: dict[str, tuple[PlannedTest, float]] = {}
        self._groups: dict[str, Group] = {}
        self._lookers = 1
        self._closed = set[Any]()

    def schedule(self) -> None:
        """Read the plan of the tests that were collected, before the first distribution."""
        if self.collection is None:
            self._planned = {test.test: (test, expected_s) for test, expected_s in self._read_plan()}
            collected = next(iter(self.registered_collections.values()))
            self._groups = groups_of(self._planned[test] for test in collected if test in self._planned)
            self._lookers = needed_lookers(self._groups.values(), len(self.nodes), self._cores)
        super().schedule()

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """A worker that waits may have its turn now."""
        super().mark_test_complete(node, item_index, duration)
        for other in self.assigned_work:
            if other is not node and not self._pending_of(self.assigned_work[other]):
                self._reschedule(other)

    def _split_scope(self, nodeid: str) -> str:
        """By node id, as the workers planned it during collection."""
        return self._planned[nodeid][0].group if nodeid in self._planned else nodeid

    def _next(self, node: Any) -> Group | None:
        """The group that ``node`` gets next; None if there is none for it now."""
        left = {other: self._groups_left(other) for other in self.assigned_work}
        own, others = left.pop(node, []), left.values()
        counted = Others(
            count=len(others),
            looking=sum(any(group.machine for group in groups) for groups in others),
            booting=sum(any(not group.machine for group in groups) for groups in others),
        )
        looks_at = next((group.machine for group in reversed(own) if group.machine), "")
        queued = [self._group(scope) for scope in self.workqueue]
        return next_group(queued, looks_at, counted, lookers=self._lookers, cores=self._cores)

    def _groups_left(self, node: Any) -> list[Group]:
        units = self.assigned_work[node].items()
        return [self._group(scope) for scope, unit in units if not all(unit.values())]

    def _group(self, scope: str) -> Group:
        return self._groups.get(scope) or Group(name=scope)

    def remove_node(self, node: Any) -> str | None:
        """The test during which ``node`` ended, if any; other workers get the rest of its tests."""
        units: dict[str, dict[str, bool]] = self.assigned_work.pop(node)
        pending = [(unit, test) for unit in units.values() for test, is_done in unit.items() if not is_done]
        if not pending:
            return None
        unit, lost = pending[0]
        unit[lost] = True
        self.workqueue.update({scope: unit for scope, unit in units.items() if not all(unit.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return lost

    def _assign_work_unit(self, node: Any) -> None:
        """Give tests that no longer reach a worker, because it has just ended, to other workers."""
        group = self._next(node)
        if group is None:
            return
        self.workqueue.move_to_end(group.name, last=False)
        known = set(self.assigned_work.get(node, ()))
        try:
            super()._assign_work_unit(node)
        except OSError:
            self._closed.add(node)
            units = self.assigned_work[node]
            for scope in [scope for scope in units if scope not in known]:
                self.workqueue[scope] = units.pop(scope)
                self.workqueue.move_to_end(scope, last=False)

    def _reschedule(self, node: Any) -> None:
        """xdist's worker starts a test only when it has the next one too, or knows that there is none."""
        if self.collection is None or node not in self.registered_collections:
            return
        super()._reschedule(node)
        while not (node.shutting_down or node in self._closed) and self._pending_of(self.assigned_work[node]) < 2:
            if self.workqueue and self._next(node) is None:
                if self._pending_of(self.assigned_work[node]):
                    node.shutdown()  # its last test would wait for a next one
                return
            super()._reschedule(node)
