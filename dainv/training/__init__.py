"""Training: batches of K images × M views, Eq. 4, SGD, a record an epoch, a state that survives anything."""

from dainv.training.start import train
from dainv.training.trainer import Trainer

__all__ = ["Trainer", "train"]
