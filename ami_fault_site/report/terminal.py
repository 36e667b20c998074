"""Show a report on a terminal: one sentence, the checks by whose they are, then what happened, then what to do."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from ami_fault_site.report import wording
from ami_fault_site.report.contents import FaultRow, Report, ToldFinding

_LABEL = 12  # columns
_STATUS, _OWNER = 9, 9
_FIRST_TASKS, _FIRST_LINES, _FIRST_PROBLEMS = 3, 3, 10
_STYLES = {"pass": "green", "fail": "bold red", "unknown": "yellow", "vacuous": "yellow", "known": "magenta"}


def to_terminal(report: Report, console: Console, *, verbose: bool = False) -> None:
    """Print a report in plain words, the passed checks only with `verbose`; no line is broken by us.

    Raises OSError if it cannot be written: a console by itself would end the process where nobody reads on.
    """
    with console.capture() as captured:
        for line in lines(report, verbose):
            console.print(line, soft_wrap=True, highlight=False)
    console.file.write(captured.get())
    console.file.flush()


def lines(report: Report, verbose: bool = False) -> Iterator[Text]:
    """Yield a report line by line."""
    word, _, rest = report.headline.partition(" ")
    yield Text.assemble((word, f"bold {_STYLES[report.status]}"), (f" {_shown(rest)}", "bold"))
    yield Text("")
    yield from _scores(report)
    findings = wording.worth_a_line(report, verbose)
    idle = wording.not_applicable(report)
    if findings or idle:
        yield Text("")
    for finding in findings:
        yield from _finding(finding)
    for reason, checks in idle.items():
        yield Text(f"{'n/a':<{_STATUS}}{_shown(reason)}: {', '.join(checks)}", "dim")
    yield Text("")
    yield from _what_happened(report)
    yield Text("")
    for run in report.runs:
        yield _labelled("run", wording.run_line(run))
        yield _labelled("again", run.again)
    for line in report.next:
        yield Text.assemble(("next:", "bold"), f" {_shown(line)}")


def _scores(report: Report) -> Iterator[Text]:
    for row, counts in wording.scores(report):
        told = Text(row.ljust(_LABEL))
        for number, (status, times) in enumerate(counts.items()):
            style = _STYLES.get(status, "dim")
            told.append(", " if number else "").append(f"{times:>2} {wording.plainly(status)}", style)
        yield told


def _finding(finding: ToldFinding) -> Iterator[Text]:
    status = wording.state(finding)
    style = _STYLES.get(status, "dim")
    if status != "pass" or not finding.warnings:
        yield _told("FAIL" if status == "fail" else status, style, finding.whose, wording.saying(finding))
    for warning in finding.warnings:
        yield _told("warning", "yellow", finding.whose, f"{finding.check}: {warning}")
    if status != "pass":
        tasks = wording.first_tasks(finding.tasks, _FIRST_TASKS)
        for line in [*([tasks] if tasks else []), *finding.evidence[:_FIRST_LINES], *map(str, finding.notes)]:
            yield Text(" " * (_STATUS + _OWNER)).append(_shown(line), "dim")


def _told(status: str, style: str, whose: str, text: str) -> Text:
    return Text.assemble((status.ljust(_STATUS), style), f"{whose:<{_OWNER}}{_shown(text)}")


def _what_happened(report: Report) -> Iterator[Text]:
    yield _labelled("worker", wording.worker_line(report))
    for exit_ in report.worker.organic_exits:
        run = f" of {exit_.run}" if exit_.run else ""
        after = f", {wording.AFTER_LOADER}" if exit_.is_after_loader else ""
        yield _labelled("", f"incarnation {exit_.incarnation}{run}: {exit_.exit}{after}; its last words:")
        for line in exit_.last_words:
            yield _labelled("", f"| {line}")
    yield from _faults(report.faults)
    for line in wording.fault_lines(report):
        yield _labelled("", line)
    yield _labelled("tasks", wording.task_line(report))
    for line in wording.more_of_tasks(report):
        yield _labelled("", line)
    for row in report.jobs:
        yield _labelled(f"job {row.job}", f"ours {wording.ours(row)}; service {wording.theirs(row)}")
    yield _labelled("queue", ", ".join(str(row) for row in report.parameters))
    for number, note in enumerate(report.notes):
        yield _labelled("" if number else "notes", str(note))
    for problem in report.ledger_problems[:_FIRST_PROBLEMS]:
        yield _labelled("ledger", problem)
    if len(report.ledger_problems) > _FIRST_PROBLEMS:
        yield _labelled("", f"and {len(report.ledger_problems) - _FIRST_PROBLEMS} more problems")


def _faults(rows: tuple[FaultRow, ...]) -> Iterator[Text]:
    if not rows:
        yield _labelled("faults", "none were set")
        return
    table = [("", "set", "observed", "injected", "of")]
    for row in rows:
        rates = wording.rates(row)
        observed = "-" if row.observed_rate is None else f"{row.observed_rate:.3f}"
        table.append((row.effect, rates, observed, str(row.injected), str(row.eligible)))
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    for number, (name, *cells) in enumerate(table):
        shown = "  ".join([name.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(cells, widths[1:], strict=True))])
        yield _labelled("" if number else "faults", shown)


def _labelled(label: str, text: str) -> Text:
    return Text(f"{label:<{_LABEL}}{_shown(text)}".rstrip() if text else label)


def _shown(text: str) -> str:
    """Return foreign text without what would move the cursor or colour what follows."""
    return "".join(character if character.isprintable() else " " for character in text)
