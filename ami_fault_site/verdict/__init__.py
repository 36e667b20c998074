"""Judge a history: every check says its finding, and together they are the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ami_fault_site.faults import Effect
from ami_fault_site.verdict import calm, counts, crashes, deliveries, images, jobs, losses, network, retries, work
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.facts import Facts
from ami_fault_site.verdict.terms import Check, Finding, Status, Verdict, with_known

CHECKS: Mapping[Check, Callable[[Case], Finding]] = {
    crashes.REQUEUED: crashes.crashed_tasks_requeued,
    crashes.IN_TIME: crashes.requeued_in_time,
    crashes.ANOTHER: crashes.picked_up_by_another,
    losses.NOT_LOST: losses.no_task_lost,
    deliveries.ONE_HOLDER: deliveries.one_holder_at_a_time,
    deliveries.REDELIVERY_ENDS: deliveries.redelivery_ends,
    network.RESUMED: network.failed_fetch_resumed,
    network.REDELIVERED: network.failed_post_redelivered,
    network.NOT_BLOCKED: network.persistent_errors_do_not_block,
    retries.RETRIED: retries.transient_errors_retried,
    retries.BACKOFF: retries.backoff_grows,
    retries.HONOURED: retries.retry_after_honoured,
    images.REPORTED: images.permanent_errors_reported,
    images.ONLY_BAD: images.only_bad_images_fail,
    images.SURVIVES: images.batch_survives_a_bad_image,
    images.PASSING: images.transient_errors_requeued,
    images.NAMED: images.answers_name_their_image,
    calm.CASCADE: calm.no_cascade,
    counts.ACCURATE: counts.failure_counts_accurate,
    jobs.ENDS: jobs.job_reaches_its_end,
    jobs.NOT_EARLY: jobs.no_early_success,
    jobs.NOTHING_AFTER: jobs.nothing_served_after_the_end,
    jobs.FED: jobs.no_starvation,
    jobs.INVENTED: jobs.no_invented_tasks,
    work.ANSWERED: work.held_tasks_are_answered,
    work.OUTLIVE: work.leases_outlive_their_work,
    calm.GRACEFUL: calm.degrades_gracefully,
}
"""Every check, in the order of the tester's list, and what carries it out."""

SLUGS = tuple(check.slug for check in CHECKS)


def judge(case: Case, known: Mapping[str, str] | None = None) -> Verdict:
    """Carry out every check. One that throws is unknown, never a pass. `known` maps slugs to reasons."""
    findings = [_carry_out(check, carry_out, case) for check, carry_out in CHECKS.items()]
    nothing_fired = case.is_set(*Effect) and not case.history.injections
    return Verdict(with_known(findings, known or {}), nothing_fired, not case.history.jobs and not case.facts.damage)


def _carry_out(check: Check, carry_out: Callable[[Case], Finding], case: Case) -> Finding:
    try:
        return carry_out(case)
    except Exception as error:
        text = f"the check itself failed, please report it: {type(error).__name__}: {error}"
        return Finding(replace(check, is_safety=True), Status.UNKNOWN, text, check.whose)


__all__ = ["CHECKS", "SLUGS", "Case", "Facts", "Verdict", "judge"]
