"""The records of a run as TensorBoard shows them."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
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


def events(records: Sequence[dict[str, Any]], *, anew: bool) -> bytes:
    """What a file of events has of some epochs, one event each.

    TensorBoard's own writer does this in a thread, which prints a trace where the disk is full.

    Args:
        records: of the epochs.
        anew: a file begins with them, whose epochs replace those that earlier files have.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    start = SessionLog(status=SessionLog.START)
    found = [Event(file_version="brain.Event:2"), Event(session_log=start)] if anew else []
    for record in records:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars(record).items()]
        found.append(Event(step=record["epoch"], summary=Summary(value=values)))
    content = io.BytesIO()
    for event in found:
        event.wall_time = time.time()
        RecordWriter(content).write(event.SerializeToString())
    return content.getvalue()


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
            events([], anew=True)
        except ImportError as error:
            raise UserError(f"--tensorboard: {error}; install it with: pip install 'dainv[tensorboard]'") from None
        self._reporter, self._run = reporter, run
        self._path = run.tensorboard_path / f"events.out.tfevents.{time.time_ns()}"
        self._begun = False

    def epoch(self, record: dict[str, Any]) -> None:
        """After an epoch, whose record is in metrics.jsonl already."""
        self._reporter.epoch(record)
        self._write([record] if self._begun else self._run.metrics())

    def step(self, step: int, total_steps: int, epoch: int, loss: float, images_per_second: float) -> None:
        """Passed on."""
        self._reporter.step(step, total_steps, epoch, loss, images_per_second)

    def message(self, text: str) -> None:
        """Passed on."""
        self._reporter.message(text)

    def close(self) -> None:
        """The run is done. One that was done before it was asked for curves gets them now."""
        if not self._begun:
            self._write(self._run.metrics())

    def _write(self, records: Sequence[dict[str, Any]]) -> None:
        try:
            self._path.parent.mkdir(exist_ok=True)
            with open(self._path, "ab") as file:
                file.write(events(records, anew=not self._begun))
        except OSError as error:
            raise UserError(f"{self._path.parent}: cannot be written ({error})") from None
        self._begun = True
