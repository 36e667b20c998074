"""Say which notes of the operator stand beside a finding or a task: those of the moments in which they may matter."""

from __future__ import annotations

from ami_fault_site.history import Note
from ami_fault_site.report.contents import NoteRow, ledger_line
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.terms import Finding

WITHOUT_ACK_WAIT = 60.0
"""Seconds for which a note may matter where ack_wait is not known."""


def matters_for(case: Case) -> float:
    """Return for how many seconds what the operator did may matter: by then, whatever it cost has come back."""
    ack_wait = case.facts.parameters.ack_wait
    return WITHOUT_ACK_WAIT if ack_wait is None else ack_wait


def within(case: Case, since: float, until: float) -> list[Note]:
    """Return the notes of a stretch of time, in seconds since 1970 by whichever host's clock, in their order."""
    return sorted((one for one in case.history.notes if since <= one.wall <= until), key=lambda one: one.wall)


def beside(case: Case, finding: Finding) -> list[Note]:
    """Return the notes that lie up to ack_wait, or 60 s, before a line that proves a finding, by wall clock.

    When a line was written is known to the second, so a note may lie a second after it.
    """
    if not case.history.notes:
        return []
    by_file = {(one.run, one.file): one for one in case.history.processes}
    writers = [(by_file[place.run, place.file], place.line) for place in finding.evidence]
    moments = [case.wall(process.number, process.moment(line)) for process, line in writers]
    reach = matters_for(case)
    found = {note.ref: note for at in moments for note in within(case, at - reach, at + 1.0)}
    return sorted(found.values(), key=lambda one: one.wall)


def row(case: Case, note: Note) -> NoteRow:
    """Return a note as a report shows it."""
    return NoteRow(note.wall, note.text, note.run, ledger_line(case.history.place(note.ref)))
