"""Which worker runs which test. Only for runs with xdist: it is imported then."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

from harness.plugin.state import RunState


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Tests of one shared machine go to one worker, every other test wherever there is room.

    xdist's own ``loadgroup`` would do, but changes node ids in a way that pytest 9.2 does not have any more.

    Unlike xdist's (3.8), this one goes on when a worker is lost: the test that the worker did not survive is not given
    to the next one, and the worker in its place gets work enough to begin with.
    """

    def __init__(self, config: Any, log: Any, state: RunState) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # ours are in order: the longest first
        self._state = state
        self._groups: dict[str, str] = {}
        self._closed = set[Any]()

    def _split_scope(self, nodeid: str) -> str:
        """By node id, as the workers have noted it while they collected."""
        if not self._groups:
            events = [event for run in self._state.runs.values() for event in run.events() if event.kind == "planned"]
            self._groups = {event.data["test"]: event.data["group"] for event in events}
        return self._groups.get(nodeid, nodeid)

    def remove_node(self, node: Any) -> str | None:
        """The test in whose middle ``node`` ended, if it did; what it had before it is for others."""
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
        """What does not reach a worker any more, whose end is only about to be known, is for others."""
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
        """A worker begins a test when it has the next one too, or knows that there is none."""
        if self.collection is None or node not in self.registered_collections:
            return
        super()._reschedule(node)
        while not self._is_lost(node) and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)

    def _is_lost(self, node: Any) -> bool:
        return node.shutting_down or node in self._closed
