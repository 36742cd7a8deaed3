"""From a run directory to figures and a report."""

from dainv.analysis.analyze import analyze
from dainv.analysis.results import AnalysisResult

__all__ = ["AnalysisResult", "analyze"]
