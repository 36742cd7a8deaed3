"""Training: batches of K images × M views, Eq. 4, SGD, a record an epoch, a state that survives anything.

The path of the data: `dainv.sources` brings the source images of a step to the device, `views` augments them, `losses`
takes them through the network to Eq. 4, `step` differentiates that and updates the weights (`captured`: as one CUDA
graph), `trainer` does so epoch by epoch, with `checks`, an evaluation (`control`, `dainv.evaluation`) and a checkpoint
after each. `start` begins or continues a run directory, as `config` and `resume` say.
"""

from dainv.training.start import train
from dainv.training.trainer import Trainer

__all__ = ["Trainer", "train"]
