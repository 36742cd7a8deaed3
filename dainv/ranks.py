"""One run in several processes, each with a device of its own, as ``torchrun`` starts them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed

from dainv.errors import UserError

if TYPE_CHECKING:  # not every build of torch has it
    from torch.distributed import ProcessGroup

_TORCHRUN = "`torchrun --nproc-per-node N -m dainv ...` sets them all"
# Longer than anything that one process does while the others wait: evaluating, scoring, writing to a slow disk.
_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; one of its own where ``torchrun`` started none. To be used with ``with``.

    Every method but :meth:`share` and :meth:`close` is to be called by all processes, in the same order.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
        local_rank: the number of this process on its machine.
        device: what its tensors have to be on for the methods below, and the device to compute on.
        group: for ``process_group`` of the objective; None for a single process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: ProcessGroup | None = None

    @classmethod
    def from_environment(cls, device_type: str, *, timeout: timedelta = _TIMEOUT, init_method: str = "env://") -> Ranks:
        """Join the processes that ``torchrun`` has started; without it, or with one process, nothing is joined.

        Args:
            device_type: ``"cuda"``, a GPU a process, joined by nccl; or ``"cpu"``, joined by gloo.
            timeout: after this long without an answer the other processes are taken for dead.
            init_method: where they meet, as ``torch.distributed.init_process_group`` takes it.

        Raises:
            UserError: variables that do not fit together, no GPU for this process, or processes that do not come.
        """
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return cls(device=torch.device(device_type))
        rank, size = _number("RANK"), _number("WORLD_SIZE")
        local_rank = _number("LOCAL_RANK")
        if not rank < size:
            raise UserError(f"RANK={rank}, WORLD_SIZE={size}: expected ranks from 0 to {size - 1}; {_TORCHRUN}")
        backend, device = "gloo", torch.device("cpu")
        if device_type == "cuda":
            if local_rank >= torch.cuda.device_count():
                raise UserError(
                    f"rank {rank} has no GPU: it is number {local_rank} (from 0) of a machine with "
                    f"{torch.cuda.device_count()}; start as many processes as there are GPUs, or use --device cpu"
                )
            backend, device = "nccl", torch.device("cuda", local_rank)
            torch.cuda.set_device(device)
        try:
            distributed.init_process_group(
                backend, init_method=init_method, rank=rank, world_size=size, timeout=timeout
            )
        except (ValueError, RuntimeError, AttributeError) as error:
            raise UserError(f"rank {rank} of {size} cannot join the others by {backend}: {_line(error)}") from None
        return cls(rank, size, local_rank, device, distributed.group.WORLD)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def share(self, k: int) -> slice:
        """This process' part of k source images (or anything else); parts differ in length by one at most.

        Raises:
            UserError: fewer of them than processes.
        """
        if k < self.size:
            raise UserError(
                f"{k} source images cannot be dealt to {self.size} processes, each needs one at least: "
                "start fewer processes or take more images"
            )
        least, larger = divmod(k, self.size)
        start = self.rank * least + min(self.rank, larger)
        return slice(start, start + least + (self.rank < larger))

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add the tensors of all processes, in place and on all of them; the same bits everywhere."""
        if self.group is not None:
            distributed.all_reduce(tensor, group=self.group)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether any process says so; waits for the device."""
        return bool(self.sum_(torch.tensor(int(flag), device=self.device)))

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.any(False)

    def close(self) -> None:
        """Leave the others."""
        if self.group is not None and distributed.is_initialized():
            distributed.destroy_process_group()

    def __enter__(self) -> Ranks:
        """Itself."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Leave the others, whom an error here then ends too.

        Raises:
            UserError: another process is gone, or has not answered in time.
        """
        # nccl takes its leave together: who fails alone would wait there for the others, and never say why.
        if error is None or self.device.type == "cpu":
            self.close()
        if self.group is not None and isinstance(error, RuntimeError) and _is_lost(error):
            raise UserError(
                f"rank {self.rank} of {self.size} stops: another process has ended or does not answer; "
                f"its own message says why ({_line(error)})"
            ) from error


def _number(variable: str) -> int:
    value = os.environ.get(variable)
    if value is None or not value.isdecimal():
        found = "is not set" if value is None else f"is {value!r}"
        raise UserError(f"WORLD_SIZE is set, so {variable} should be a number from 0, but it {found}; {_TORCHRUN}")
    return int(value)


def _line(error: BaseException) -> str:
    """The first sentence, without the places in its own source that gloo names."""
    text = re.sub(r"\[\S*/\S*\] *", "", str(error).strip()) or type(error).__name__
    return text.splitlines()[0].split(". ")[0]


def _is_lost(error: RuntimeError) -> bool:
    """Whether it says that another process is lost; gloo's errors have no type of their own."""
    text = str(error)
    return isinstance(error, distributed.DistError) or "gloo" in text or "NCCL" in text
