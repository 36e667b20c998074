"""Say whether a fault would take a task's last delivery, so that a red verdict is never our own doing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from ami_fault_site.antenna import ASSUMED_MAX_DELIVER, Delivery
from ami_fault_site.holdings import Holdings
from ami_fault_site.runfolder import RunFolder


class Budget:
    """How many deliveries a task has, as far as is known, and which of this worker's tasks are on their last.

    `setting` is AMI_TEST_MAX_DELIVER: 0 switches it off, None leaves it to what the supervisor reads in the job's log.
    What the tree holds is only kept account of if a fault can strike, which `faults` says: `is_kept`.
    """

    def __init__(
        self,
        setting: int | None,
        run: RunFolder,
        tree: str,
        main: Callable[[], int] = os.getpid,
        faults: bool = True,
    ) -> None:
        self._setting = setting
        self.is_kept = faults and setting != 0
        self._run = run
        self._found: int | None = None
        self._told = ""
        self.holdings = Holdings(run.held(tree), main=main)

    @property
    def is_on(self) -> bool:
        """Whether faults are withheld at all."""
        return self._setting != 0

    @property
    def most(self) -> int:
        """How often the service hands a task out; 0 if the budget is off."""
        if self._setting is not None:
            return self._setting
        if self._found is None:
            self._found = self._run.max_deliver()
        return ASSUMED_MAX_DELIVER if self._found is None else self._found

    @property
    def source(self) -> str:
        """How that is known: setting, job log, assumed; or off."""
        if self._setting is not None:
            return "setting" if self._setting else "off"
        return "assumed" if self._found is None else "job log"

    def __str__(self) -> str:
        if not self.is_on:
            return "faults may take a task's last delivery"
        most = self.most
        assumed = " (assumed: AMI_TEST_MAX_DELIVER tells)" if self.source == "assumed" else ""
        return f"max_deliver {most}{assumed}, no fault takes the last"

    def is_news(self) -> bool:
        """Say whether what is known has not been told yet, once for each source."""
        before, self._told = self._told, f"{self.most} {self.source}"
        return before != self._told

    def received(self, deliveries: Iterable[Delivery]) -> None:
        """Write down which of these are the last of their tasks, or may be."""
        if self.is_kept:
            most = self.most
            # While that is assumed, all are: the job's log may yet say that it is less.
            self.holdings.received(deliveries, 1 if self.source == "assumed" else most)

    def answered(self, deliveries: Iterable[Delivery]) -> None:
        """Forget the tasks whose answer was heard."""
        if self.is_kept:
            self.holdings.answered(deliveries)

    def forbids(self, loses: Iterable[Delivery] | None) -> str:
        """Return why these deliveries must not be lost, "" if they may; None are some that the tree holds."""
        if not self.is_on:
            return ""
        most = self.most
        if loses is None:
            held = self.holdings.last(most)
            return _forbidden(held[0], most) if held else ""
        last = next((one for one in loses if one.delivery >= most), None)
        return "" if last is None else _forbidden(f"{last.stream} task {last.sequence}", most)

    @contextmanager
    def closing(self) -> Iterator[str]:
        """Be about to lose all that the tree holds: yield why that must not be, or ""; nobody fetches meanwhile."""
        if not self.is_on:
            yield ""
            return
        with self.holdings.closing() as alone:
            most = self.most
            last = self.holdings.last(most)
            if last:
                yield _forbidden(last[0], most)
            else:
                yield "" if alone else "budget: a tasks call is still under way"

    def fetching(self) -> AbstractContextManager[None]:
        """Be about to fetch tasks, if it `is_kept`; who is about to die waits until what they are is written down."""
        return self.holdings.fetching()

    def doom(self, whole_tree: bool) -> None:
        """Mark that what the tree's loaders hold is given up, or all that the tree holds."""
        if self.is_on:
            self.holdings.doom(whole_tree)

    def begin_pass(self) -> None:
        """Note that this process has put behind it whatever job it was at: what it fetches from now on is not lost."""
        self.holdings.begin_pass()

    def forget(self) -> None:
        """Forget what this main process held: it asks for jobs, and so holds nothing any more."""
        if self.is_kept:
            self.holdings.forget()

    def is_doomed(self) -> bool:
        """Say whether what this process fetches now would be lost with what it holds."""
        return self.is_kept and self.holdings.is_doomed()


def _forbidden(task: str, most: int) -> str:
    return f"budget: {task} is out on its last delivery of {most}"
