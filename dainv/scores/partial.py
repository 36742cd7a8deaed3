"""Unfinished work: the partial sums and the distances so far, in one file that is written as a whole."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dainv.errors import UserError
from dainv.runs import write_atomically

_ABOUT = "about"  # the array that is a JSON text


@dataclass
class Partial:
    """How far the work on the images of a process is.

    Attributes:
        stage: ``"means"`` (first pass) or ``"distances"`` (second pass).
        done: images of the stage that are finished.
        tensors: sums and distances by name, all float.
    """

    stage: str = "means"
    done: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)


class PartialFile:
    """Where unfinished work is kept.

    Args:
        path: the file.
        about: what the work is, by name; work on something else is not continued.
        seconds: least time between two savings.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], seconds: float = 60.0) -> None:
        self.path = path
        self._about = json.loads(json.dumps(dict(about)))
        self._seconds = seconds
        self._saved = time.monotonic()

    def load(self, device: torch.device) -> Partial | None:
        """The work so far; None where there is none.

        Raises:
            UserError: it was made with other settings, which are named, or cannot be read.
        """
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                text = json.loads(str(archive[_ABOUT]))
                tensors = {name: torch.from_numpy(archive[name]) for name in archive.files if name != _ABOUT}
            about, partial = text["about"], Partial(text["stage"], text["done"])
        except FileNotFoundError:
            return None
        except Exception:  # a damaged zip file raises half a dozen kinds
            raise UserError(f"{self.path}: unfinished work that cannot be read; delete it to start over") from None
        if changed := sorted(k for k in {*about, *self._about} if about.get(k) != self._about.get(k)):
            raise UserError(
                f"{self.path}: unfinished work with another {', '.join(changed)}; give the same to continue it, "
                "delete it to start over, or choose another folder"
            )
        partial.tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        return partial

    def save(self, partial: Partial, *, now: bool = False) -> None:
        """Write the work so far, if it is time or ``now``.

        Raises:
            UserError: the file cannot be written.
        """
        if not now and time.monotonic() - self._saved < self._seconds:
            return
        text = json.dumps({"about": self._about, "stage": partial.stage, "done": partial.done})
        arrays: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in partial.tensors.items()}
        write_atomically(self.path, lambda file: np.savez(file, **{_ABOUT: np.array(text), **arrays}))
        self._saved = time.monotonic()

    def remove(self) -> None:
        """The work is finished."""
        self.path.unlink(missing_ok=True)
