"""The promises of the trials, and of how a verdict on one is weighed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ami_fault_site.profiles import available
from ami_fault_site.sandbox.worker.misbehaviour import MISBEHAVIOURS
from ami_fault_site.selftest import is_untold, weigh
from ami_fault_site.trials import HEALTHY_TRIALS, SETUP_TRIALS, TRIALS, WORKER_TRIALS, Trial
from ami_fault_site.verdict import SLUGS
from ami_fault_site.verdict.terms import Status, Verdict, Whose
from tests.report_cases import finding, verdict_of


def failing(slug: str, whose: Whose = Whose.WORKER) -> Verdict:
    return verdict_of(finding(slug, Status.FAIL, f"{slug} happened", whose))


def test_every_misbehaviour_of_the_sample_worker_has_its_trial() -> None:
    assert {trial.worker["AMI_SAMPLE_MISBEHAVE"] for trial in (*WORKER_TRIALS, *SETUP_TRIALS)} == set(MISBEHAVIOURS)


def test_every_trial_has_a_name_of_its_own_and_names_checks_that_there_are() -> None:
    named = {trial.check for trial in TRIALS if trial.check} | {slug for one in TRIALS for slug in one.allowed}

    assert len({trial.name for trial in TRIALS}) == len(TRIALS)
    assert named <= set(SLUGS)


@pytest.mark.parametrize("allowed", [(), ("transient-errors-requeued",)])
def test_a_healthy_trial_passes_with_what_is_allowed_to_fail_in_it_and_nothing_else(allowed: tuple[str, ...]) -> None:
    trial = replace(HEALTHY_TRIALS[0], allowed=allowed)
    problem = "" if allowed else "transient-errors-requeued says fail"

    assert weigh(trial, failing("transient-errors-requeued"))[0] == problem
    assert weigh(trial, failing("no-cascade", Whose.SERVICE))[0] == "no-cascade says fail"


def test_a_misbehaviour_is_caught_by_its_check_and_blamed_on_the_worker() -> None:
    trial = Trial("never-retries", "transient-errors-retried", Whose.WORKER)

    assert weigh(trial, failing("transient-errors-retried")) == ("", "transient-errors-retried happened")
    assert weigh(trial, failing("transient-errors-retried", Whose.SERVICE))[0] == (
        "transient-errors-retried blames the service"
    )


def test_a_healthy_trial_is_wrong_if_what_its_scenario_promises_never_struck() -> None:
    trial = next(one for one in HEALTHY_TRIALS if one.name == "healthy lost-leases")
    well = verdict_of(finding("no-task-lost", Status.PASS, "all are accounted for", Whose.SERVICE))

    assert weigh(trial, well, {("tasks", "reset", "after")})[0] == ""
    assert weigh(trial, well)[0] == "reset never struck at tasks, after"


def test_every_profile_but_those_of_rates_alone_has_a_trial_that_says_what_must_strike() -> None:
    rates_alone = {"light", "medium", "heavy", "crashes", "network", "images", "transient"}

    assert {one.settings["AMI_TEST_PROFILE"] for one in HEALTHY_TRIALS if one.strikes} == set(available()) - rates_alone


def test_a_trial_is_untold_if_nobody_is_accused_and_what_it_is_about_is_not_known() -> None:
    caught = Trial("never-ends", "job-reaches-its-end", Whose.SERVICE)
    unknown = finding("job-reaches-its-end", Status.UNKNOWN, "it was still at work", Whose.SERVICE)
    passed = finding("job-reaches-its-end", Status.PASS, "it ended", Whose.SERVICE)
    other = finding("no-task-lost", Status.FAIL, "one is lost", Whose.SERVICE)

    assert is_untold(caught, verdict_of(unknown))
    assert not is_untold(caught, verdict_of(unknown, other))
    assert not is_untold(caught, failing("job-reaches-its-end"))
    assert not is_untold(caught, verdict_of(passed))


@pytest.mark.parametrize("trial", [HEALTHY_TRIALS[0], Trial("never-ends", "job-reaches-its-end", Whose.SERVICE)])
def test_a_trial_whose_worker_was_given_nothing_does_not_pass_and_is_untold(trial: Trial) -> None:
    found = [finding(slug, Status.NOT_APPLICABLE, "nothing was") for slug in ("no-task-lost", "job-reaches-its-end")]
    idle = replace(verdict_of(*found), nothing_handed_out=True)

    assert weigh(trial, idle)[0] != ""
    assert is_untold(trial, idle)


def test_a_healthy_trial_is_untold_by_its_safety_alone_and_not_by_what_is_allowed_to_fail() -> None:
    lost = finding("no-task-lost", Status.UNKNOWN, "not all were seen", is_safety=True)
    allowed = finding("transient-errors-requeued", Status.FAIL, "an innocent one failed", Whose.WORKER)
    trial = replace(HEALTHY_TRIALS[0], allowed=("transient-errors-requeued",))

    assert is_untold(trial, verdict_of(lost, allowed))
    assert not is_untold(replace(trial, allowed=()), verdict_of(lost, allowed))
    assert not is_untold(trial, verdict_of(allowed))
