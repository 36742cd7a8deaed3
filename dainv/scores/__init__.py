"""The invariance score of Eq. 2 and its kin, by streaming sums: no matrix of all pairs, any number of images."""

from dainv.scores.fingerprint import weights_fingerprint
from dainv.scores.images import SplitImages
from dainv.scores.listening import INPUT
from dainv.scores.results import CONSTANT, NOT_FINITE, ClassInvariance, InvarianceScores, NetworkScores
from dainv.scores.scoring import invariance_scores, score_network
from dainv.scores.variance import VarianceRatio

__all__ = [
    "CONSTANT",
    "INPUT",
    "NOT_FINITE",
    "ClassInvariance",
    "InvarianceScores",
    "NetworkScores",
    "SplitImages",
    "VarianceRatio",
    "invariance_scores",
    "score_network",
    "weights_fingerprint",
]
