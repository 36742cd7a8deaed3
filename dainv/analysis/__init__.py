"""From a run directory to figures and a report."""

from dainv.analysis.analyze import AnalysisResult, analyze

__all__ = ["AnalysisResult", "analyze"]
