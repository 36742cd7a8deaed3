"""Training: batches of K images × M views, Eq. 4, SGD, a record an epoch, a state that survives anything.

The path of the data: `dainv.sources` brings the source images of a step to the device, `views` augments them, `losses`
takes them through the network to Eq. 4, `step` differentiates that and updates the weights (`captured`: as one CUDA
graph). `trainer` holds all that together and does an update at a time. `loop` takes it through the epochs, with
`checks` and a `record` of each (`control`, `dainv.evaluation`); `saving` writes that and the `state`: nothing is lost.
`start` begins or continues a run directory, as `config` and `resume` say.
"""

from dainv.training.start import train
from dainv.training.trainer import Trainer

__all__ = ["Trainer", "train"]
