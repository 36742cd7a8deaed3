"""The records of a run as TensorBoard shows them."""

from __future__ import annotations

from typing import Any

from dainv.errors import UserError
from dainv.reporting import Reporter
from dainv.runs import RunDirectory


def scalars(record: dict[str, Any]) -> dict[str, float]:
    """The curves that a record of an epoch adds a point to; those of one kind share a chart's prefix."""
    found = {
        "train/loss": record["train"]["loss"],
        "train/task": record["train"]["task"],
        "train/accuracy": record["train"]["accuracy"],
        "test/loss": record["test"]["loss"],
        "test/accuracy": record["test"]["accuracy"],
        "schedule/learning_rate": record["learning_rate"],
        "schedule/alpha": record.get("alpha"),
        "time/images_per_second": record["images_per_second"],
        "time/seconds": record["seconds"],
    }
    found.update({f"device_memory/{kind}": size for kind, size in (record.get("device_memory") or {}).items()})
    for part in ("train", "control"):
        found.update({f"invariance_{part}/{layer}": loss for layer, loss in record[part]["invariance"].items()})
    return {name: value for name, value in found.items() if value is not None}


class TensorBoardReporter:
    """Passes everything on, and writes the epochs as TensorBoard events.

    metrics.jsonl is what counts. When its first epoch ends, a run writes all epochs that are in there, and says that
    they replace what earlier events there are. So nothing is missing or twice after a crash, and curves are whole where
    a run asked for them only when it was resumed.

    Args:
        reporter: whom to pass on to.
        run: the run directory; it need not exist yet.

    Raises:
        UserError: TensorBoard is not installed.
    """

    def __init__(self, reporter: Reporter, run: RunDirectory) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(f"--tensorboard: {error}; install it with: pip install 'dainv[tensorboard]'") from None
        self._reporter, self._run = reporter, run
        self._make_writer = SummaryWriter
        self._writer: SummaryWriter | None = None

    def epoch(self, record: dict[str, Any]) -> None:
        """After an epoch, whose record is in metrics.jsonl already."""
        self._reporter.epoch(record)
        self._write(self._run.metrics() if self._writer is None else [record])

    def step(self, step: int, total_steps: int, epoch: int, loss: float, images_per_second: float) -> None:
        """Passed on."""
        self._reporter.step(step, total_steps, epoch, loss, images_per_second)

    def message(self, text: str) -> None:
        """Passed on."""
        self._reporter.message(text)

    def close(self) -> None:
        """The run is done. One that was done before it was asked for curves gets them now."""
        if self._writer is None:
            self._write(self._run.metrics())
        if self._writer is not None:
            self._writer.close()

    def _write(self, records: list[dict[str, Any]]) -> None:
        try:
            if self._writer is None:
                # What was written before is purged from step 0 on, an epoch being TensorBoard's step.
                self._writer = self._make_writer(str(self._run.tensorboard_path), purge_step=0)
            for record in records:
                for name, value in scalars(record).items():
                    self._writer.add_scalar(name, value, record["epoch"])
            self._writer.flush()
        except OSError as error:
            raise UserError(f"{self._run.tensorboard_path}: cannot be written ({error})") from None
