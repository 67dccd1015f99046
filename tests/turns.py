"""Who runs when, if the tests run in several processes (`make test`): what waits beside what works, measuring alone.

About half of the time of the tests is spent waiting: for windows to end, for pages to be hidden, for processes. So two
processes halve it, on two cores. Three rules keep the verdicts what they are in one process:

- A file is one piece, in its order, with the fixtures that its tests share. All that drive a browser are one piece too:
  no two browsers run at once.
- The browsers are begun first: they are the longest piece, and mostly wait.
- Tests that measure time by the clock, with little to spare, run last, after the other processes have ended.

The tables are here and not in marks, since whoever gives out the tests knows nothing of them but their ids.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

ALONE: tuple[str, ...] = (
    # long tasks of a page: a busy machine makes any task long
    "tests/acceptance/test_admin_browser.py::test_five_thousand_users_are_listed_searched_and_scrolled_without_a_long_task",
    # within a second
    "tests/acceptance/test_client_refused.py::test_a_port_where_nobody_listens_is_tried_until_the_time_is_over_and_named",
    "tests/acceptance/test_client_refused.py::test_a_wrong_token_is_refused_with_the_first_attempt",
)
"""Tests beside which nothing else may run."""

TOGETHER: tuple[str, ...] = (
    "tests/acceptance/test_admin_browser.py",
    "tests/acceptance/test_admin_live.py",
    "tests/acceptance/test_admin_settings.py",
    "tests/acceptance/test_browser.py",
    "tests/acceptance/test_example_react.py",
    "tests/acceptance/test_examples_browser.py",
    "tests/acceptance/test_screenshots.py",
    "tests/acceptance/test_sdk_browser.py",
    "tests/acceptance/test_sdk_firefox.py",
    "tests/acceptance/test_sdk_hidden.py",
    "tests/acceptance/test_sdk_pages.py",
)
"""Files that are one piece, and the first: those that drive a browser."""


class Turns(LoadScopeScheduling):  # type: ignore[misc]  # it has no type information
    """Gives out the pieces by the rules of the module."""

    alone = ALONE
    together = TOGETHER

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.split("[", 1)[0] in self.alone:
            return "alone"
        file = nodeid.split("::", 1)[0]
        return "together" if file in self.together else file

    def _assign_work_unit(self, node: WorkerController) -> None:
        # the sort is stable: files keep the order of the tests
        scope = min(self.workqueue, key=lambda scope: {"together": 0, "alone": 2}.get(scope, 1))
        if scope != "alone" or self.nodes == [node]:
            self.workqueue.move_to_end(scope, last=False)
            super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        others = [other for other in self.nodes if other is not node]
        if others and list(self.workqueue) == ["alone"]:
            # One process stays for them. It keeps its last test until it knows what comes next, which it is told when
            # the others have ended.
            if not node.shutting_down and not all(other.shutting_down for other in others):
                node.shutdown()
            return
        super()._reschedule(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Called when a process has ended: perhaps one is left that waited for this."""
        crashed: str | None = super().remove_node(node)
        for other in self.nodes:
            self._reschedule(other)
        return crashed
