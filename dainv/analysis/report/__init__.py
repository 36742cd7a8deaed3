"""The report: one page of HTML that needs nothing but itself."""

from dainv.analysis.report.html import Drawing
from dainv.analysis.report.page import report_html

__all__ = ["Drawing", "report_html"]
