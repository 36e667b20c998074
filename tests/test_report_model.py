"""Reports on whatever a random history may hold: they agree with the verdict, and none fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ami_fault_site import report
from ami_fault_site.history import History
from ami_fault_site.report.contents import Report
from ami_fault_site.report.wording import scores
from ami_fault_site.verdict import Case, judge
from ami_fault_site.verdict.terms import Gate, Verdict
from tests.model import Misbehaviour, Modelled, Sabotage, Scenario, healthy, misbehaving, play, sabotaged, wild
from tests.report_cases import shown


def judged(scenario: Scenario) -> tuple[Case, Verdict, Report]:
    modelled: Modelled = play(scenario)
    history = History()
    history.add(modelled.all_events())
    case = Case(history, modelled.facts)
    verdict = judge(case)
    runs = [Path("/runs") / name for name in modelled.runs]
    return case, verdict, report.build(case, verdict, runs, gate=Gate.ALL, strict=False, outcome=None)


SCENARIOS = [
    *(wild(seed) for seed in range(12)),
    *(healthy(seed) for seed in range(4)),
    *(sabotaged(one, 1) for one in (Sabotage.NEVER_REDELIVERS, Sabotage.RECORDS_HALF, Sabotage.STARVES_SECOND_JOB)),
    *(misbehaving(one, 1) for one in Misbehaviour),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: f"{one.sabotage or one.misbehaviour or ''}{one.seed}")
def test_whatever_happened_every_rendering_tells_of_it_and_agrees_with_the_verdict(scenario: Scenario) -> None:
    case, verdict, made = judged(scenario)

    assert made.code == verdict.exit_code()
    assert made.headline.startswith(f"{verdict.status().value.upper()} ")
    assert sum(sum(counts.values()) for _, counts in scores(made)) == len(verdict.findings)
    assert sum(made.tasks.fates.values()) - made.tasks.fates.get("never-delivered", 0) == len(case.history.tasks)
    text = shown(made, verbose=True)
    for finding in verdict.findings:
        assert finding.check.slug in text
        assert f"`{finding.check.slug}`" in report.to_markdown(made)
        assert f'name="{finding.check.slug}"' in report.junit(made)
    assert json.loads(report.as_json(made))["headline"] == made.headline
    assert len(made.next) >= 1


@pytest.mark.parametrize("scenario", SCENARIOS[:8], ids=lambda one: f"{one.seed}")
def test_every_task_has_a_story_that_ends_with_its_verdict(scenario: Scenario) -> None:
    case, _, _ = judged(scenario)

    for task in case.tasks():
        fate = case.fates.of(task).fate.value
        told = report.tell(case, task)
        assert told[-1].startswith(f"     verdict  {fate}")
        assert report.find(case, f"{task.job}/{task.key[1]}") == [task]
