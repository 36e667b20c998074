"""Why a report, or a part of one, cannot be given."""

from __future__ import annotations


class ReportError(Exception):
    """Something was asked of a report that it cannot give; the message says what, and what can be done."""


class NoSuchTaskError(ReportError):
    """Nothing is known of a task of this name, or several have it."""


class MissingLibraryError(ReportError):
    """A form of report needs a library that is not installed."""
