"""The run directory: what training leaves and analysis reads. Only this file knows its file names.

Everything is written to a temporary file, synced and renamed, so that a run killed at any instant stays loadable.
docs/run-directory.md describes the format.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from dainv.errors import UserError

if sys.platform != "win32":  # there two processes in one run directory are not noticed
    import fcntl

_LOCK = ".lock"
_FORMAT = 1  # of config.json; a higher one is of a later version that this one cannot read
_CHECKPOINTS_KEPT = 2
_LEFTOVER = re.compile(r"\.(config\.json|environment\.json|metrics\.jsonl|step-\d+\.pt|best\.pt)\..+")

# Results of the analysis, in the run's analysis/ folder.
SCORES = "scores.npz"
SCORES_TABLE = "scores.csv"
DYNAMICS_TABLE = "dynamics.csv"
SCORES_FIGURE = "figure1"  # .png and .svg
DYNAMICS_FIGURE = "figure2"
REPORT = "report.html"
SUMMARY = "summary.json"


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Create or replace a file as a whole: readers see the old content or the new, never a part.

    Args:
        path: the file.
        write: called with a binary file to write to.

    Raises:
        UserError: the file cannot be written, for example because the disk is full; the old content is still there.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
        if hasattr(os, "O_DIRECTORY"):  # Windows opens no folder, and needs no such call
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        if isinstance(error.__context__, KeyboardInterrupt):  # torch's writer complains of what it left undone
            raise KeyboardInterrupt from None
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        raise UserError(f"{path}: cannot be written ({cause})") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _read_state(path: Path, device: torch.device | str) -> dict[str, Any]:
    """What a checkpoint holds.

    Raises:
        ValueError: the file is damaged; says how in one line.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
            if (bad := archive.testzip()) is not None:
                raise ValueError(f"wrong checksum of {bad}")
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        state["step"], state["model"]
        return state
    except Exception as error:  # whatever a damaged file makes torch.load raise
        raise ValueError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None


class RunDirectory:
    """A training run on disk.

    Attributes:
        path: the directory.
        name: its last component.
        checkpoint: which checkpoint is read from it, ``"newest"`` or ``"best"``.
    """

    def __init__(self, path: str | Path, checkpoint: str = "newest") -> None:
        self.path = Path(path)
        self.name = self.path.resolve().name
        self.checkpoint = checkpoint
        self._readable: dict[Path, bool] = {}  # of the checkpoints that were written or looked at

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any], environment: dict[str, Any]) -> RunDirectory:
        """Start a run directory.

        Raises:
            UserError: the path exists already and holds something, or cannot be written.
        """
        run = cls(path)
        run.check_free()
        write_atomically(run.path / "environment.json", lambda file: file.write(_json_bytes(environment)))
        write_atomically(run.path / "config.json", lambda file: file.write(_json_bytes({"format": _FORMAT, **config})))
        return run

    def check_free(self) -> None:
        """A run can begin here: nothing is there but what one left that was killed before it had a config.

        Raises:
            UserError: the path exists already and holds something else.
        """
        harmless = ("environment.json", _LOCK)
        if self.path.exists() and not (
            self.path.is_dir()
            and all(file.name in harmless or _LEFTOVER.fullmatch(file.name) for file in self.path.iterdir())
        ):
            raise UserError(f"{self.path}: exists already; continue it with --resume or choose another --run-dir")

    @contextmanager
    def locked(self, message: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Be the only process that trains here; the folder is made if needed.

        The kernel lets go of the lock when the process dies, however it does, so none is ever left behind. It is one
        that forked processes do not inherit: those that decode images may outlive a killed run by seconds.

        Args:
            message: told where the file system has no locks; the run then goes on without.

        Raises:
            UserError: another process has it, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / _LOCK, "ab")  # noqa: SIM115  # closed below
        except OSError as error:
            raise UserError(f"{self.path / _LOCK}: cannot be written ({error})") from None
        with file:
            if sys.platform != "win32":
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno in (errno.EACCES, errno.EAGAIN):
                        raise UserError(f"{self.path}: another process is training in this run directory") from None
                    message(
                        f"{self.path}: its file system has no locks ({error.strerror}); "
                        "see to it that no other process trains there"
                    )
            yield

    @classmethod
    def open(cls, path: str | Path, checkpoint: str = "newest") -> RunDirectory:
        """Open an existing run directory.

        Args:
            path: the directory.
            checkpoint: which checkpoint to read from it, ``"newest"`` or ``"best"``.

        Raises:
            UserError: there is none at this path.
        """
        run = cls(path, checkpoint)
        if not run.path.is_dir():
            raise UserError(f"{path}: no such run directory")
        if not (run.path / "config.json").is_file():
            raise UserError(f"{path}: not a run directory (no config.json); `dainv train --run-dir` makes one")
        return run

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads((self.path / name).read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path / name}: not readable ({error})") from None
        if not isinstance(value, dict):
            raise UserError(f"{self.path / name}: expected a JSON object")
        return value

    @property
    def config(self) -> dict[str, Any]:
        """Every setting of the run, resolved, and what the data and the model turned out to be."""
        config = self._read_json("config.json")
        if (written := config.get("format", _FORMAT)) != _FORMAT:
            raise UserError(f"{self.path}: config.json has format {written}, this version of dainv reads {_FORMAT}")
        return config

    @property
    def environment(self) -> dict[str, Any]:
        """Machine, library versions and commit that the run started with; nothing where the file is lost."""
        return self._read_json("environment.json") if (self.path / "environment.json").exists() else {}

    def metrics(self) -> list[dict[str, Any]]:
        """One record an epoch, the first before any update. A damaged one, torn by a crash, is left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        records = []
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # what a crash leaves need not even be text
                continue
            if isinstance(record, dict):
                records.append(record)
        return records

    def _expect_there(self) -> None:
        """Nothing is written where a run was: it would be begun anew, without its settings and its records."""
        if not (self.path / "config.json").is_file():
            raise UserError(f"{self.path}: moved or removed meanwhile; where it is now, it goes on with --resume")

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add the record of an epoch.

        Raises:
            UserError: it cannot be written, or the run directory is gone.
        """
        self._expect_there()
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        try:
            with open(self.path / "metrics.jsonl", "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"{self.path / 'metrics.jsonl'}: cannot be written ({error})") from None

    def keep_metrics_until(self, step: int) -> None:
        """Drop torn records and those of updates after ``step``, which a resumed run will make again."""
        kept = [record for record in self.metrics() if record["step"] <= step]
        lines = "".join(json.dumps(record) + "\n" for record in kept).encode()
        write_atomically(self.path / "metrics.jsonl", lambda file: file.write(lines))

    def remove_leftovers(self) -> None:
        """Remove what a run left that was killed while it wrote a file."""
        for file in (*self.path.glob(".*"), *(self.path / "checkpoints").glob(".*")):
            if _LEFTOVER.fullmatch(file.name):
                file.unlink(missing_ok=True)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Save a state, which holds its ``"step"``, and remove all but the newest two.

        A damaged one does not count: it goes once two that can be read are there, and not before.

        Raises:
            UserError: it cannot be written, or the run directory is gone.
        """
        self._expect_there()
        path = self.path / "checkpoints" / f"step-{state['step']:09d}.pt"
        write_atomically(path, lambda file: torch.save(state, file))
        self._readable[path] = True
        kept: list[Path] = []
        others: list[Path] = []
        for other in reversed(self.checkpoints()):
            (kept if len(kept) < _CHECKPOINTS_KEPT and self._can_read(other) else others).append(other)
        if len(kept) == _CHECKPOINTS_KEPT:
            for other in others:
                other.unlink(missing_ok=True)
                self._readable.pop(other, None)

    def _can_read(self, path: Path) -> bool:
        """Whether a checkpoint is whole; looked at once."""
        if path not in self._readable:
            try:
                _read_state(path, "cpu")
                self._readable[path] = True
            except ValueError:
                self._readable[path] = False
        return self._readable[path]

    def save_best(self, state: dict[str, Any]) -> None:
        """Save the state of the highest test accuracy so far, in place of the one before.

        Raises:
            UserError: it cannot be written, or the run directory is gone.
        """
        self._expect_there()
        write_atomically(self._best, lambda file: torch.save(state, file))

    @property
    def _best(self) -> Path:
        return self.path / "checkpoints" / "best.pt"

    def checkpoints(self) -> list[Path]:
        """Checkpoint files but the best, oldest first."""
        folder = self.path / "checkpoints"
        found = (p for p in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+\.pt", p.name))
        return sorted(found, key=lambda p: int(p.stem.removeprefix("step-")))

    def load_checkpoint(
        self, device: torch.device | str = "cpu", warn: Callable[[str], None] = lambda _: None
    ) -> dict[str, Any]:
        """Newest state that can be read, or the best.

        Args:
            device: where to put the tensors.
            warn: told about every checkpoint that is damaged and passed over.

        Raises:
            UserError: no checkpoint can be read, or not the best.
        """
        if self.checkpoint == "best":
            if not self._best.exists():
                raise UserError(f"{self._best}: there is none; --checkpoint newest takes the newest")
            try:
                return _read_state(self._best, device)
            except ValueError as reason:
                raise UserError(f"{self._best}: damaged ({reason}); --checkpoint newest takes the newest") from None
        for path in reversed(self.checkpoints()):
            try:
                state = _read_state(path, device)
                self._readable[path] = True
                return state
            except ValueError as reason:
                self._readable[path] = False
                warn(f"{path.name} is damaged ({reason}); using the one before it")
        raise UserError(f"{self.path}: no readable checkpoint")

    @property
    def tensorboard_path(self) -> Path:
        """Folder of TensorBoard's events."""
        return self.path / "tensorboard"

    def analysis_path(self, name: str) -> Path:
        """Path of a result of the analysis; the folder is made if needed."""
        folder = self.path / "analysis"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: no analysis folder can be made in it ({error.strerror})") from None
        return folder / name
