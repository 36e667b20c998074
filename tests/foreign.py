"""A run in which every text that comes from elsewhere holds markup, odd characters, and far too much."""

from __future__ import annotations

from pathlib import Path

from ami_fault_site.cli import verdicts
from ami_fault_site.faults import Effect
from tests.booked import Books
from tests.page_cases import Page, job_detail, page_of, shelve
from tests.report_cases import SETTINGS

MARKUP = (
    """<b data-foreign>bold</b> <a data-foreign href="javascript:ran=1">link</a> & &lt;i&gt; "double" 'single' """
    """`tick` {{ 7 * 7 }} ${7 * 7} {% raw %} <script data-foreign>ran = 1</script></script>"""
    """<img data-foreign src=x onerror="ran = 1">"""
    """<svg data-foreign onload="ran = 1"></svg></textarea></style><style data-foreign>* { display: none }</style>"""
    """<!-- <plaintext data-foreign> ]]> --> %3Cscript%3E \\u003cscript\\u003e </title></pre></dialog>"""
)
ODD = "odd\x00\x07\x1b[31m\u202egniht\u2066\u200f\ud800\udcff\u2028\u2029\x7f\x85end"
LONG = "long" * 2500


def foreign(place: str) -> str:
    """Return a text that says where it stands."""
    return f"{place} {MARKUP} {ODD} {LONG}"


def foreign_page(folder: Path) -> Page:
    """Write the page of such a run, with another one beside it whose name is no better."""
    books = Books()
    supervisor = books.supervisor()
    supervisor.book("began", 0.0, invocation=foreign("invocation"))
    supervisor.spawn(0.1, 1)
    first = books.process(11).start(0.5)
    first.book("armed", 0.6, version=foreign("version"), program=foreign("program"))
    first.fetch(1.0, 7, (1, 1), (2, 1), (3, 1))
    first.events[-1].data["leases"][0][-2:] = [foreign("image id"), foreign("image")]  # type: ignore[index]
    first.strike(1.1, Effect.IMAGE_404, 7, image=foreign("image id"), kind=foreign("kind"), site=foreign("site"))
    first.post(1.5, 7, (1, 1), failed=(1,))
    first.events[-1].data["errors"][0][1] = foreign("error")  # type: ignore[index]
    first.post(1.6, 7, (2, 1), outcome="unheard", error=foreign("no answer"), status=0)
    first.batch(1.7, 7, (3, 1), ends=0.1, error=foreign("batch"))
    supervisor.book(
        "exit", 3.0, incarnation=1, code=1, kind="organic", seconds=1.0, last_words=[foreign("last words"), ODD]
    )
    alone = books.process(90, 0, host="host<b data-foreign>")
    alone.book("note", 1.6, text=foreign("note"), ago=0.0)
    books.process(91, 0, host="host<b data-foreign>").start(1.0).fetch(2.0, 7, (4, 1))
    supervisor.book("outcome", 3.1, outcome=foreign("outcome"))
    detail = job_detail(7, foreign("status"), foreign("job error"), processed=2, remaining=1, failed=1)
    settings = SETTINGS._replace(profile=foreign("profile"), permanent_error_images=(foreign("bad image"),))
    path = shelve(books, folder / "run<img data-foreign src=x>", settings, detail)
    case = verdicts.case_of([path], verdicts.Asked())
    return page_of([path], folder / "page.html", {"compared" + MARKUP: case, "another": case})
