"""Say how a run went, around the verdict: terminal, JSON, Markdown, JUnit, HTML, and one task's whole story."""

from __future__ import annotations

from ami_fault_site.report.contents import Report
from ami_fault_site.report.ending import NOT_ARMED_CURE, exit_code
from ami_fault_site.report.junit import junit
from ami_fault_site.report.machine import as_json
from ami_fault_site.report.making import build
from ami_fault_site.report.markdown import to_markdown
from ami_fault_site.report.page import to_html
from ami_fault_site.report.refusals import MissingLibraryError, NoSuchTaskError, ReportError
from ami_fault_site.report.search import find
from ami_fault_site.report.story import tell
from ami_fault_site.report.terminal import to_terminal

__all__ = [
    "NOT_ARMED_CURE",
    "MissingLibraryError",
    "NoSuchTaskError",
    "Report",
    "ReportError",
    "as_json",
    "build",
    "exit_code",
    "find",
    "junit",
    "tell",
    "to_html",
    "to_markdown",
    "to_terminal",
]
