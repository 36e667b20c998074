"""Post answers in the background, a few at a time and each only once."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType

from ami_fault_site.sandbox.worker.answers import Answer
from ami_fault_site.sandbox.worker.client import post_results
from ami_fault_site.sandbox.worker.settings import Settings

MAX_PENDING = 5
"""Posts that may wait or run at a time; one more blocks the loop."""

_THREADS = 2

logger = logging.getLogger(__name__)


class ResultPoster:
    """The posting threads of one job. They end with the context, so that none is alive at the next job's forks."""

    def __init__(self, settings: Settings, job_id: int) -> None:
        """Start no thread yet: the first post does."""
        self._settings = settings
        self._job_id = job_id
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="result_poster")
        self._pending: set[Future[bool]] = set()
        self.posted = 0
        self.failed = 0

    def post(self, answers: Sequence[Answer]) -> None:
        """Hand a batch over; blocks while too many are pending."""
        while len(self._pending) >= MAX_PENDING:
            self._count(*wait(self._pending, return_when=FIRST_COMPLETED))
        self._pending.add(self._executor.submit(self._post, answers))

    def wait_for_all(self) -> None:
        """Return when every post has been taken, refused or given up; each has its time-out."""
        self._count(*wait(self._pending))

    def _count(self, done: set[Future[bool]], pending: set[Future[bool]]) -> None:
        for future in done:
            if future.exception() is None and future.result():
                self.posted += 1
            else:
                self.failed += 1
        self._pending = pending

    def _post(self, answers: Sequence[Answer]) -> bool:
        began = time.monotonic()
        try:
            accepted = post_results(self._settings, self._job_id, answers)
        except Exception as error:  # nobody waits in this thread to catch it
            logger.error("Exception during result post for job %d: %s", self._job_id, error)
            return False
        if not accepted:
            logger.warning("Result post failed for job %d after %.2fs", self._job_id, time.monotonic() - began)
        return accepted

    def __enter__(self) -> ResultPoster:
        """Return the poster itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Finish what is pending; who interrupts the worker waits only for the posts under way."""
        interrupted = kind is not None and not issubclass(kind, Exception)
        self._executor.shutdown(wait=True, cancel_futures=interrupted)
