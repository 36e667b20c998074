"""Write a report as one HTML page that needs nothing else: neither network nor other files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import ami_fault_site
from ami_fault_site.report import wording
from ami_fault_site.report.contents import Report
from ami_fault_site.report.figures import seconds_to_come_back
from ami_fault_site.report.machine import as_json
from ami_fault_site.report.page import stories
from ami_fault_site.report.page.drawing import drawing
from ami_fault_site.report.page.matrix import Became
from ami_fault_site.report.page.settings_shown import settings_shown
from ami_fault_site.report.page.throughput import pace
from ami_fault_site.report.refusals import MissingLibraryError
from ami_fault_site.verdict.case import Case

if TYPE_CHECKING:
    import jinja2

_HERE = Path(__file__).parent
_NEEDED = "the HTML report needs jinja2 and plotly: pip install 'ami-fault-site[report]'"
_LONG = 400  # characters from which a text is folded


def to_html(case: Case, report: Report, compared: Mapping[str, Case] | None = None) -> bytes:
    """Return the page in UTF-8. `compared` are the runs, by name, whose throughput is set beside each other.

    Raises MissingLibraryError without the libraries that make it.
    """
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingLibraryError(_NEEDED) from error
    paces = [one for name, each in (compared or {}).items() if (one := pace(each, name)) is not None]
    laid = drawing(case, report, seconds_to_come_back(case), paces)
    environment = _environment(jinja2.FileSystemLoader(_HERE))
    text = environment.get_template("page.html.j2").render(
        report=report,
        told=json.loads(as_json(report)),
        laid=laid,
        data=laid.as_data(report.parameter("ack_wait")),
        stories=stories.packed(case, list(laid.tasks)),
        place_of={(one.job, one.key[1], one.key[2]): place for place, one in enumerate(laid.tasks)},
        became=[one for one in Became if any(one in row.became for row in laid.matrix)],
        settings=[settings_shown(one) for one in case.facts.settings],
        versions=sorted(case.history.versions),
        version=ami_fault_site.__version__,
        wording=wording,
        plotly=_narrow(get_plotlyjs()),
        css=(_HERE / "page.css").read_text("utf-8"),
        script=(_HERE / "page.js").read_text("utf-8"),
        long=_LONG,
    )
    return text.encode(errors="replace")


def _narrow(script: str) -> str:
    """Escape the few letters beyond ASCII as JavaScript does: else a browser keeps all of it in two bytes a letter."""
    return re.sub("[^\x00-\x7f]+", lambda found: json.dumps(found[0])[1:-1], script)


def _environment(loader: jinja2.BaseLoader) -> jinja2.Environment:
    import jinja2

    made = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )  # fmt: skip
    made.filters["seconds"] = _seconds
    return made


def _shown(value: object) -> object:
    """Return foreign text without what a page cannot hold or what would turn it around; markup of ours as it is."""
    if hasattr(value, "__html__"):
        return value
    return "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in str(value))


def _seconds(value: float | None) -> str:
    return "not known" if value is None else f"{value:,.1f} s"
