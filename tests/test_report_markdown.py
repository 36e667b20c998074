from __future__ import annotations

from dataclasses import replace

import pytest

from ami_fault_site import report
from ami_fault_site.report.markdown import escaped, fenced
from ami_fault_site.verdict.terms import Status, Whose
from tests.report_cases import ENDED, LOST, NOT_STARVED, facts, finding, report_of, short_case, short_run

TEXT = """\
### FAIL service: no-task-lost: 2 lost (why)

service: 1 passed, 1 failed · worker: 1 passed · not judged: 1 not applicable

|  | whose | check | what |
| --- | --- | --- | --- |
| **FAIL** | service | `no-task-lost` | 2 lost (why) |

|  | ours | the service's |
| --- | --- | --- |
| job 7 | 4 answered, 1 with an error | 4 processed, 1 failed, 0 remaining, SUCCESS |

<details><summary>no-task-lost: tasks and evidence</summary>

What no-task-lost means.

7/3 (3.jpg)

```
ledger/h-0001-11-1.jsonl:5
```

</details>

<details><summary>what happened</summary>

- worker: 2 incarnations: 1 injected crash, 0 exits of its own
- crash: set to 0.05, struck 1 of 1 times
- image-404: set to 0.02, struck 1 of 0 times
- tasks: 4 handed out, 4 answered (1 of them with an error), 2 came back, 0 still out
- 1 done, 2 recovered, 1 failed-expected
- 2 redeliveries: half within 8.3 s, the slowest after 8.3 s, from receipt to receipt
- queue: ack\\_wait 8 s (AMI\\_TEST\\_ACK\\_WAIT), max\\_deliver 2 (the log of job 7)
- run: /runs/20261123T083731Z-26, seed 26; drained: every job has ended

</details>

<details><summary>the other checks</summary>

|  | whose | check | what |
| --- | --- | --- | --- |
| pass | service | `requeued-in-time` | 2 redeliveries, the slowest after 8.3 s |
| pass | worker | `held-tasks-are-answered` | 6 leases |
| n/a | service | `no-starvation` | there were not two jobs to serve |

</details>

To run it again:

```
ami-fault run --sandbox --profile medium --seed 26 --images 4
```

Next: ami-fault explain /runs/20261123T083731Z-26 7/3
"""


def test_the_summary_of_a_ci_job_reads_so() -> None:
    assert report.to_markdown(report_of(LOST, NOT_STARVED)) == TEXT


def test_a_pass_has_no_table_of_findings_but_its_warnings_and_known_failures() -> None:
    warned = finding("leases-outlive-their-work", whose=Whose.SETUP, warnings=("ack_wait is short", "very"))
    known = finding("no-cascade", Status.FAIL, "3 failed", known="being | mended")
    table = "|  | whose | check | what |\n| --- | --- | --- | --- |\n"

    assert report.to_markdown(report_of()).count(table) == 1  # the folded one
    assert (
        table
        + "| known | service | `no-cascade` | 3 failed (expected: being \\| mended) |\n"
        + "| pass | setup | `leases-outlive-their-work` | "
        + "all is well<br>warning: ack\\_wait is short<br>warning: very |\n"
    ) in report.to_markdown(report_of(warned, known))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b", r"a \| b"),
        ("`code` and *more* _of_ it", r"\`code\` and \*more\* \_of\_ it"),
        ("<img src=x> & [link](y)", r"\<img src=x\> \& \[link\](y)"),
        ("back\\slash ~gone~ $math$", r"back\\slash \~gone\~ \$math\$"),
        ("two\nlines\tand  more", "two lines and more"),
    ],
)
def test_foreign_text_is_never_taken_for_markdown(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_fence_is_longer_than_any_in_what_it_holds() -> None:
    assert fenced("a") == "```\na\n```"
    assert fenced("```\n````") == "`````\n```\n````\n`````"


def test_what_a_worker_said_last_is_folded_and_cannot_break_out() -> None:
    run = short_run()
    words = ["</details>", "```", "Killed"]
    run.supervisor.book("exit", 13.0, incarnation=3, code=-9, kind="organic", last_words=words)

    assert (
        "<details><summary>last words of incarnation 3: killed by SIGKILL</summary>\n\n"
        "````\n</details>\n```\nKilled\n````\n\n</details>\n"
    ) in report.to_markdown(report_of(case=run.books.case(facts(ENDED))))


def test_withheld_faults_and_the_problems_of_the_ledger_are_told() -> None:
    known = facts(ENDED, damage=("h.jsonl:3: cannot be read",))
    run = short_run()
    run.second.book("withheld", 9.8, effect="crash", why="AMI_TEST_MAX_FAULTS=3 is reached")
    text = report.to_markdown(report_of(case=run.books.case(known)))

    assert "- 1 withheld: AMI\\_TEST\\_MAX\\_FAULTS=3 is reached\n" in text
    assert "- ledger: h.jsonl:3: cannot be read\n" in text


def test_what_is_proved_by_lines_alone_is_folded_too_and_what_has_no_proof_is_not() -> None:
    lines, nothing = (finding(f"check-{n}", Status.FAIL, lines=some) for n, some in ((1, (3,)), (2, ())))
    text = report.to_markdown(report_of(lines, nothing))

    assert "<summary>check-1: tasks and evidence</summary>\n\nWhat check-1 means.\n\n```\nledger/" in text
    assert "<summary>check-2" not in text


def test_without_jobs_or_folders_there_are_no_empty_tables() -> None:
    made = replace(report_of(runs=()), jobs=())

    assert "ours" not in report.to_markdown(made)
    assert "To run it again" not in report.to_markdown(made)
    assert report.to_markdown(report_of(case=short_case())).endswith("(--profile heavy)\n")
