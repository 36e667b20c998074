"""Say what really became of every task, and what an honest judge may say who has only ledgers and the job's detail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ami_fault_site.history import TaskKey
from ami_fault_site.verdict.facts import Parameters
from tests.model.queue import Answer, Handed, Job, Task
from tests.model.scenario import Sabotage, Scenario

_EXACT = 1e-6
_EMPTY_FETCH = 0.6  # seconds that an empty fetch may take


@dataclass(frozen=True)
class TaskTruth:
    """What became of one task.

    `honest` are the fates that a judge may say without being wrong or unfair; `fate` is one of them. `marks` are those
    that a judge may make, `provable` those that he must.
    """

    key: TaskKey
    job: int
    fate: str
    honest: frozenset[str]
    marks: frozenset[str]
    provable: frozenset[str]
    is_seen: bool  # whether our ledgers tell of it at all


@dataclass(frozen=True)
class JobTruth:
    """What became of one job by the service's own state, right or wrong."""

    number: int
    status: str
    size: int
    processed: int | None
    failed: int | None
    given_up: int
    delivered: int
    delivered_to_others: int


@dataclass(frozen=True)
class Truth:
    """Everything that the model knows.

    `outcomes` are those of the supervised runs, `exits` their (run, code, kind); `injected` counts the faults of all
    runs by effect; `bitten` is how often the sabotage or misbehaviour has acted. `ended` is the moment at which the
    last run was over.
    """

    tasks: Mapping[TaskKey, TaskTruth]
    jobs: Mapping[int, JobTruth]
    outcomes: Mapping[str, str]
    exits: tuple[tuple[str, int, str], ...]
    injected: Mapping[str, int]
    bitten: int
    ended: float

    def fates(self) -> Counter[str]:
        """Count the tasks by fate."""
        return Counter(task.fate for task in self.tasks.values())


class Omniscience:
    """Decides the fates of one model's tasks at the end of all its runs."""

    def __init__(
        self,
        scenario: Scenario,
        parameters: Parameters,
        ended: float,
        hung: frozenset[Handed],
        struck_images: frozenset[str],
    ) -> None:
        self._scenario = scenario
        self._parameters = parameters
        self._ended = ended
        self._hung = hung
        self._struck_images = struck_images
        self._has_others = scenario.others > 0
        self._is_known = parameters.max_deliver is not None and parameters.ack_wait is not None and scenario.token

    def of(self, job: Job, task: Task) -> TaskTruth:
        ours = [one for one in task.handed if one.is_ours]
        answers = [answer for one in ours for answer in one.answers]
        arrived = [answer for answer in answers if answer.post.arrived]
        honest: set[str] = set()
        if arrived:
            fate = self._answered(job, task, arrived)
            if fate.startswith("failed-"):  # it may have failed for several reasons
                honest |= {_by_answers([answer]) for answer in arrived}
                honest |= {"failed-expected"} if task.image_id in self._struck_images else set()
        else:
            fate, also = self._unanswered(job, task)
            honest |= also
        honest |= self._if_unheard(job, task, answers)
        if fate == "unrecorded" and not any(answer.post.is_heard for answer in arrived):
            honest |= {"lost", "exhausted"}  # who does not know that it was answered
        elif fate == "unrecorded" and not self._scenario.knows_log:
            honest.add(_by_answers([answer for answer in arrived if answer.post.is_heard]) or "pending")
        elif arrived and task.is_given_up:  # the answer came when it had been given up
            honest |= {"unrecorded", "pending"}
        marks, provable = self._marks(task)
        is_seen = any(one.is_seen or one.is_lost for one in ours)
        return TaskTruth(task.key, job.number, fate, frozenset(honest | {fate}), marks, provable, is_seen)

    def _if_unheard(self, job: Job, task: Task, answers: list[Answer]) -> set[str]:
        """Return what may be said because of answers of which nobody heard whether they arrived."""
        unheard = [answer for answer in answers if answer.post.is_open]
        if not unheard:
            return set()
        heard = [answer for answer in answers if answer.post.is_heard]
        if heard:
            return {self._answered(job, task, heard)}
        # If the counts say that it is processed, they do not say through which answer.
        return {"pending", *((_by_answers([one]) for one in unheard) if task.is_counted else ())}

    # --- answered

    def _answered(self, job: Job, task: Task, arrived: list[Answer]) -> str:
        fate = _by_answers(arrived)
        if fate == "conflict":
            return fate
        if task.is_invented:
            return "unexpected"
        return fate if task.is_counted else "unrecorded"

    # --- unanswered

    def _unanswered(self, job: Job, task: Task) -> tuple[str, set[str]]:
        """Return the fate of a task of which no answer of ours was accepted, and what may be said besides."""
        if task.is_invented:
            return ("unexpected", set()) if task.handed else ("never-delivered", {"pending"})
        if not task.handed:
            return self._never_handed(job)
        if any(not one.is_ours for one in task.handed):
            is_over = len(task.handed) >= self._scenario.max_deliver and not task.is_counted
            return "taken-elsewhere", {"pending", *({"exhausted"} if job.has_lost_fetch or is_over else ())}
        unseen = any(not one.is_seen for one in task.handed)
        also = {"pending", "taken-elsewhere"} if unseen else set[str]()
        if self._has_others or job.has_lost_fetch:
            also |= {"taken-elsewhere"} if not self._is_known else set()
        fate, more = self._held_by_ours(job, task)
        return fate, also | more

    def _never_handed(self, job: Job) -> tuple[str, set[str]]:
        if job.is_final and not job.given_up:
            return "never-delivered", {"pending"}
        asked = any(at < self._ended for at, _ in job.vain)
        if asked and self._scenario.sabotage in (Sabotage.STRANDS_LAST_BATCH, Sabotage.STARVES_SECOND_JOB):
            return "never-delivered", {"pending"}
        return "pending", set()

    def _held_by_ours(self, job: Job, task: Task) -> tuple[str, set[str]]:
        """Decide about a task that only workers of ours were handed, in vain."""
        last = task.handed[-1]
        is_used_up = len(task.handed) >= self._scenario.max_deliver
        if last in self._hung:
            long = self._ended - last.at > self._parameters.longest + 2
            return "stuck", {"exhausted"} if long and is_used_up else set() if long else {"pending"}
        if is_used_up and self._scenario.sabotage is not Sabotage.REDELIVERS_FOREVER:
            return self._used_up(last)
        if job.is_final and not job.given_up:
            return "lost", set() if self._is_known and not self._has_others else {"pending", "taken-elsewhere"}
        return self._not_back(job, last)

    def _used_up(self, last: Handed) -> tuple[str, set[str]]:
        expired = last.at + self._scenario.ack_wait
        held_to_the_end = last.how in ("", "stopped", "ended")
        if held_to_the_end and (last.freed or self._ended) < expired:
            return "pending", {"exhausted"}
        sure = self._ended > expired + self._parameters.slack + _EMPTY_FETCH and self._is_known
        also = set[str]() if sure and not held_to_the_end else {"pending"}
        if held_to_the_end or last.how == "silently":
            also |= {"stuck", "pending"}
        return "exhausted", also

    def _not_back(self, job: Job, last: Handed) -> tuple[str, set[str]]:
        """Decide about a task that has deliveries left and did not come back."""
        due = last.at + self._scenario.ack_wait
        healthy = self._scenario.sabotage not in (Sabotage.NEVER_REDELIVERS, Sabotage.REDELIVERS_LATE)
        if healthy or not any(at >= due for at, _ in job.vain):
            return "pending", set()
        since = (last.received or last.at) + self._parameters.longest + self._parameters.slack
        sure = any(at >= since and host == last.host for at, host in job.vain)
        also = set[str]() if sure and self._is_known and not self._has_others else {"pending"}
        if self._has_others or job.has_lost_fetch:
            also |= {"taken-elsewhere"}
        return "lost", also

    # --- marks

    def _marks(self, task: Task) -> tuple[frozenset[str], frozenset[str]]:
        marks: set[str] = set()
        provable: set[str] = set()
        good = [one for h in task.handed if h.is_ours for one in h.answers if one.error is None and one.post.arrived]
        if len(good) > 1:
            marks.add("duplicated")
        if sum(one.post.is_heard for one in good) > 1:
            provable.add("duplicated")
        for first, second in zip(task.handed, task.handed[1:], strict=False):
            if not first.is_ours:
                continue
            self._mark_early(first, second, marks, provable)
            self._mark_held(first, second, marks, provable)
        if "delivered-early" in marks:
            provable.discard("expired-while-held")
        return frozenset(marks), frozenset(provable)

    def _mark_early(self, first: Handed, second: Handed, marks: set[str], provable: set[str]) -> None:
        if second.at - first.at >= self._scenario.ack_wait - _EXACT:
            return
        marks.add("delivered-early")
        wait = self._parameters.ack_wait
        if wait is None or not _on_one_clock(first, second):
            return
        if (second.received or 0.0) - first.sent < wait - self._parameters.haste:
            provable.add("delivered-early")

    def _mark_held(self, first: Handed, second: Handed, marks: set[str], provable: set[str]) -> None:
        """Mark a task that was handed out again while somebody still held it."""
        if first.freed is not None and first.freed <= second.at and first.how != "silently":
            return
        marks.add("expired-while-held")
        if not _on_one_clock(first, second):
            return
        received = second.received or 0.0
        sent = [answer.post.sent for answer in first.answers]
        if sent:
            if max(sent) > received + _EXACT:
                provable.add("expired-while-held")
        elif self._scenario.organic_crash:
            return  # of a process that died by itself only the last event is known
        elif first.how == "dropped" and (first.freed or 0.0) > received + _EXACT:
            provable.add("expired-while-held")


def _on_one_clock(first: Handed, second: Handed) -> bool:
    return first.is_seen and second.is_seen and first.host == second.host


def _by_answers(answers: list[Answer]) -> str:
    """Say what accepted answers make of a task, "" if there are none."""
    good = [answer for answer in answers if answer.error is None]
    bad = [answer for answer in answers if answer.error is not None]
    if good and bad:
        return "conflict"
    if good:
        return "done" if any(answer.handed.number == 1 for answer in good) else "recovered"
    if not bad:
        return ""
    causes = {answer.cause for answer in bad}
    order = (("transient", "failed-transient"), ("organic", "failed-organic"), ("expected", "failed-expected"))
    return next(fate for cause, fate in order if cause in causes)
