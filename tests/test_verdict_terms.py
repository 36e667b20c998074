from __future__ import annotations

import itertools

import pytest

from ami_fault_site.verdict.facts import LONGEST_ACK_WAIT, Facts, JobWitness, Parameters
from ami_fault_site.verdict.terms import (
    EXIT_CODES,
    Check,
    Finding,
    Gate,
    Group,
    Status,
    Verdict,
    Whose,
    with_known,
)
from tests.booked import witness

SAFE = Check("nothing-lost", Group.CRASHES, Whose.SERVICE, "Nothing is lost.", is_safety=True)
PLAIN = Check("in-time", Group.CRASHES, Whose.SERVICE, "All is in time.")


def finding(status: Status, check: Check = PLAIN, whose: Whose | None = None, known: str = "") -> Finding:
    return Finding(check, status, "so it was", whose or check.whose, known=known)


def verdict(*findings: Finding, nothing_fired: bool = False, nothing_handed_out: bool = False) -> Verdict:
    return Verdict(findings, nothing_fired, nothing_handed_out)


PASSED, FAILED = finding(Status.PASS), finding(Status.FAIL)
UNKNOWN, VACUOUS = finding(Status.UNKNOWN, SAFE), finding(Status.VACUOUS)
NOT_APPLICABLE = finding(Status.NOT_APPLICABLE)


def test_the_words_of_a_judgement_are_those_that_options_and_reports_use() -> None:
    assert [one.value for one in Status] == ["pass", "fail", "unknown", "vacuous", "not-applicable"]
    assert [one.value for one in Whose] == ["service", "worker", "budget", "setup"]
    assert [one.value for one in Gate] == ["all", "service", "worker"]
    assert [one.value for one in Group] == ["crashes", "network", "images", "stability"]


# --- merging


def test_a_verdict_of_nothing_passes() -> None:
    assert verdict().status() is Status.PASS
    assert Verdict((), nothing_fired=False).status() is Status.PASS


@pytest.mark.parametrize("status", [Status.PASS, Status.NOT_APPLICABLE, Status.VACUOUS])
def test_a_finding_that_passed_or_does_not_apply_or_whose_fault_never_fired_leaves_a_pass(status: Status) -> None:
    assert verdict(finding(status), finding(status, SAFE)).status() is Status.PASS


def test_a_failure_outranks_what_is_unknown_and_that_what_is_vacuous_and_that_a_pass() -> None:
    ranked = ((FAILED, Status.FAIL), (UNKNOWN, Status.UNKNOWN), (PASSED, Status.PASS))
    for first, others in ((ranked[0], ranked[1:]), (ranked[1], ranked[2:])):
        for order in itertools.permutations([first[0], *(one for one, _ in others)]):
            assert verdict(*order).status() is first[1]
            assert verdict(*order, nothing_fired=True).status() is first[1]
    assert verdict(PASSED, nothing_fired=True).status() is Status.VACUOUS


def test_a_run_is_vacuous_only_if_nothing_fired_in_all_of_it() -> None:
    assert verdict(VACUOUS, PASSED).status() is Status.PASS
    assert verdict(VACUOUS, PASSED, nothing_fired=True).status() is Status.VACUOUS
    assert verdict(nothing_fired=True).status() is Status.VACUOUS


def test_a_run_is_vacuous_if_no_worker_was_given_a_task() -> None:
    assert verdict(PASSED, nothing_handed_out=True).status() is Status.VACUOUS
    assert verdict(FAILED, nothing_handed_out=True).status() is Status.FAIL


def test_what_is_unknown_counts_from_safety_checks_only() -> None:
    assert verdict(finding(Status.UNKNOWN, PLAIN)).status() is Status.PASS
    assert verdict(finding(Status.UNKNOWN, SAFE)).status() is Status.UNKNOWN


# --- gates


@pytest.mark.parametrize(
    ("gate", "counting"),
    [(Gate.ALL, set(Whose)), (Gate.SERVICE, {Whose.SERVICE}), (Gate.WORKER, {Whose.WORKER})],
)
def test_a_gate_lets_only_the_failures_of_those_count_that_it_names(gate: Gate, counting: set[Whose]) -> None:
    assert {one for one in Whose if verdict(finding(Status.FAIL, SAFE, one)).status(gate) is Status.FAIL} == counting
    assert {one for one in Whose if verdict(finding(Status.FAIL, SAFE, one)).status(gate) is Status.PASS} == (
        set(Whose) - counting
    )


def test_whose_a_failure_is_says_its_finding_and_not_its_check() -> None:
    failed = verdict(finding(Status.FAIL, SAFE, Whose.SETUP))

    assert failed.status(Gate.SERVICE) is Status.PASS


@pytest.mark.parametrize("gate", list(Gate))
def test_no_gate_makes_what_is_unknown_or_vacuous_known(gate: Gate) -> None:
    assert verdict(finding(Status.UNKNOWN, SAFE, Whose.SETUP)).status(gate) is Status.UNKNOWN
    assert verdict(nothing_fired=True).status(gate) is Status.VACUOUS


def test_without_a_gate_every_failure_counts() -> None:
    assert verdict(finding(Status.FAIL, SAFE, Whose.BUDGET)).status() is Status.FAIL
    assert verdict(finding(Status.FAIL, SAFE, Whose.BUDGET)).exit_code() == 1


# --- exit codes


def test_every_status_of_a_whole_has_its_exit_code() -> None:
    assert EXIT_CODES == {Status.PASS: 0, Status.FAIL: 1, Status.UNKNOWN: 3, Status.VACUOUS: 4}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("judged", "code"),
    [
        (verdict(PASSED, NOT_APPLICABLE), 0),
        (verdict(FAILED, UNKNOWN), 1),
        (verdict(UNKNOWN), 3),
        (verdict(PASSED, nothing_fired=True), 4),
    ],
)
def test_the_exit_code_is_that_of_the_whole(judged: Verdict, code: int, strict: bool) -> None:
    assert judged.exit_code(strict=strict) == code


@pytest.mark.parametrize("open_one", [VACUOUS, finding(Status.UNKNOWN, PLAIN)])
def test_strictly_a_pass_of_which_a_part_could_not_be_judged_is_vacuous(open_one: Finding) -> None:
    assert verdict(PASSED, open_one).exit_code() == 0
    assert verdict(PASSED, open_one).exit_code(strict=True) == 4


def test_strictness_takes_nothing_from_a_failure_or_from_what_is_unknown() -> None:
    assert verdict(FAILED, VACUOUS).exit_code(strict=True) == 1
    assert verdict(UNKNOWN, VACUOUS).exit_code(strict=True) == 3


def test_the_exit_code_obeys_the_gate() -> None:
    failed = verdict(FAILED, VACUOUS)

    assert failed.exit_code(Gate.SERVICE) == 1
    assert failed.exit_code(Gate.WORKER) == 0
    assert failed.exit_code(Gate.WORKER, strict=True) == 4


# --- what is listed


def test_failures_are_listed_the_services_first_and_each_ones_in_their_order() -> None:
    failed = [finding(Status.FAIL, check, whose) for whose in reversed(Whose) for check in (PLAIN, SAFE)]
    listed = verdict(PASSED, *failed, UNKNOWN).failures

    assert [(one.whose, one.check) for one in listed] == [(whose, check) for whose in Whose for check in (PLAIN, SAFE)]


def test_what_was_not_judged_are_the_findings_that_are_vacuous_or_unknown() -> None:
    assert verdict(PASSED, VACUOUS, FAILED, UNKNOWN, NOT_APPLICABLE).not_judged == (VACUOUS, UNKNOWN)


def test_a_finding_is_found_by_the_slug_of_its_check() -> None:
    passed, failed = finding(Status.PASS, SAFE), finding(Status.FAIL, PLAIN)

    assert verdict(passed, failed).finding("in-time") is failed
    with pytest.raises(KeyError, match=r"^'no-such-check'$"):
        verdict(passed, failed).finding("no-such-check")


# --- known failures


def test_a_known_failure_is_reported_and_does_not_count() -> None:
    (marked,) = with_known([FAILED], {"in-time": "slow disks"})

    assert (marked.status, marked.known, marked.counts_as, marked.warnings) == (
        Status.FAIL, "slow disks", Status.PASS, ()
    )  # fmt: skip
    assert verdict(marked).status() is Status.PASS
    assert verdict(marked).failures == ()


def test_a_known_failure_hides_no_other() -> None:
    marked = with_known([FAILED, finding(Status.FAIL, SAFE)], {"in-time": "slow disks"})

    assert verdict(*marked).status() is Status.FAIL
    assert [one.check for one in verdict(*marked).failures] == [SAFE]


def test_one_that_was_known_to_fail_and_passes_says_so() -> None:
    before = Finding(PLAIN, Status.PASS, "so it was", Whose.SERVICE, warnings=("a warning",))
    (marked,) = with_known([before], {"in-time": "slow disks"})

    told = "known to fail (slow disks), and it passes now: take it off --known"
    assert (marked.status, marked.known, marked.warnings) == (Status.PASS, "slow disks", ("a warning", told))


@pytest.mark.parametrize("status", [Status.UNKNOWN, Status.VACUOUS, Status.NOT_APPLICABLE])
def test_one_that_was_known_to_fail_and_cannot_be_judged_counts_as_what_it_is(status: Status) -> None:
    (marked,) = with_known([finding(status, SAFE)], {"nothing-lost": "slow disks"})

    assert (marked.status, marked.counts_as, marked.known, marked.warnings) == (status, status, "slow disks", ())
    assert verdict(marked).status() is (Status.UNKNOWN if status is Status.UNKNOWN else Status.PASS)


def test_findings_that_nobody_knew_to_fail_are_left_as_they_are_and_in_their_order() -> None:
    findings = (FAILED, UNKNOWN, PASSED)

    assert with_known(findings, {}) == findings
    assert with_known(findings, {"another": "reason"}) == findings
    assert (FAILED.counts_as, UNKNOWN.counts_as) == (Status.FAIL, Status.UNKNOWN)
    assert (FAILED.judged, FAILED.known, FAILED.tasks) == (0, "", ())


# --- what is known of the service


def test_where_ack_wait_is_not_known_a_task_is_due_again_after_the_longest_in_use_and_two_seconds() -> None:
    parameters = Facts().parameters

    assert (parameters.longest, parameters.slack, parameters.haste) == (LONGEST_ACK_WAIT, 2.0, 0.1)
    assert LONGEST_ACK_WAIT == 300.0


def test_a_redelivery_may_be_late_by_half_its_ack_wait_and_two_seconds_and_early_by_a_twentieth() -> None:
    parameters = Parameters(8.0)

    assert (parameters.longest, parameters.slack, parameters.haste) == (8.0, 6.0, 0.4)
    assert (Parameters(1.0).haste, Parameters(0.0).longest) == (0.1, 0.0)


def test_a_job_is_as_large_as_what_was_processed_and_what_remains() -> None:
    def size(processed: int | None, remaining: int | None) -> int | None:
        told: JobWitness = witness(7, "STARTED", processed, remaining)
        return told.size

    assert (size(2, 3), size(None, 3), size(2, None), size(0, 0)) == (5, None, None, 0)
