"""Which worker runs which test; imported only in runs with xdist."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from xdist.scheduler import LoadScopeScheduling

from harness.model.events import PlannedTest
from harness.runs.folder import Run


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """One worker runs all tests that share a machine; any free worker runs each other test.

    xdist's own ``loadgroup`` changes node ids in a way that pytest 9.2 no longer supports.

    Unlike xdist's (3.8), this scheduler continues when a worker is lost: the test during which the worker ended is not
    run again, and the replacement worker gets enough tests to start.
    """

    def __init__(self, config: Any, log: Any, runs: Collection[Run]) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # ours are in order: the longest first
        self._runs = runs
        self._groups: dict[str, str] = {}
        self._closed = set[Any]()

    def _split_scope(self, nodeid: str) -> str:
        """By node id, as the workers planned it during collection."""
        if not self._groups:
            planned = [test for run in self._runs for test in run.of_kind(PlannedTest)]
            self._groups = {test.test: test.group for test in planned}
        return self._groups.get(nodeid, nodeid)

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
            super()._reschedule(node)
