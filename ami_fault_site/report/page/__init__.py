"""Show a report as one HTML page: charts, tables, and every task's story, in a file that needs nothing else."""

from __future__ import annotations

from ami_fault_site.report.page.rendering import to_html

__all__ = ["to_html"]
