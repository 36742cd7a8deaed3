"""A training step: augmentation, forward pass, objective, backward pass, optimizer. Eager, compiled or recorded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from dainv.errors import UserError
from dainv.training.algorithms import naming_what_is_not_deterministic
from dainv.training.captured import CapturedStep, CaptureError
from dainv.training.usage import PhaseClock
from dainv.training.views import Views


class TrainingStep:
    """One update as a function of the source images, all of it on the device.

    Args:
        views: makes the batch.
        losses: views and labels to the total loss and a row of the table of losses; a :class:`StepLosses`, perhaps
            compiled or wrapped for several processes.
        module: the network whose parameters and buffers change.
        optimizer: changes them.
        clip_gradients: largest norm of all gradients, or None.
        clock: told how long the parts take, where the host can know.
        capture: record the step as a CUDA graph and replay it.
        message: told where that does not work and the step runs eagerly instead.
    """

    def __init__(
        self,
        views: Views,
        losses: nn.Module | Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        *,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_gradients: float | None,
        clock: PhaseClock,
        capture: bool,
        message: Callable[[str], None],
    ) -> None:
        self.views, self.optimizer = views, optimizer
        self._losses, self._module, self._clip, self._clock = losses, module, clip_gradients, clock
        self._capture, self._message = capture, message
        self._captured: CapturedStep[Tensor] | None = None

    @property
    def captured(self) -> bool:
        """Whether the latest update ran on static inputs, as it does to be recorded."""
        return self._captured is not None

    @property
    def recorded(self) -> bool:
        """Whether the latest update was a replay of a CUDA graph."""
        return self._captured is not None and self._captured.recorded

    def forget(self) -> None:
        """Record anew at the next update: what the recorded step holds is no longer what is wanted."""
        self._captured = None

    @torch.no_grad()
    @naming_what_is_not_deterministic()
    def look(self, images: Tensor, labels: Tensor) -> Tensor:
        """The row of losses of a batch, without an update."""
        row: Tensor = self._losses(*self.views(images, labels))[1]
        return row

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Do an update.

        Args:
            images: ``(k, C, H, W)`` uint8 source images.
            labels: ``(k,)``.

        Returns:
            The row of the table of losses, from before the update. The next one may overwrite it.
        """
        if not self._capture:
            return self._update(images, labels)
        if self._captured is None and not self._record(images, labels):
            return self._update(images, labels)
        assert self._captured is not None
        return self._captured(images, labels)

    @naming_what_is_not_deterministic()
    def _update(self, images: Tensor, labels: Tensor) -> Tensor:
        with self._clock.step_phase("data"):
            views, labels = self.views(images, labels)
        with self._clock.step_phase("update"):
            total, row = self._losses(views, labels)
            self.optimizer.zero_grad(set_to_none=True)
            try:
                total.backward()
            except CheckpointError:  # its layers run a second time, now, when nobody asks for their losses
                raise UserError(
                    "a layer of the objective is inside a torch.utils.checkpoint; choose layers outside of it, or "
                    "train in a loop of your own with dainv.InvarianceObjective, which can do that"
                ) from None
            if self._clip is not None:
                torch.nn.utils.clip_grad_norm_(self._module.parameters(), self._clip)
            self.optimizer.step()
        return row

    def _record(self, images: Tensor, labels: Tensor) -> bool:
        """Whether the step could be recorded; if not, it is not tried again."""
        try:
            self._captured = CapturedStep(
                self._update,
                (images, labels),
                module=self._module,
                optimizer=self.optimizer,
                generators=[self.views.generator],
            )
        except CaptureError as error:
            self._message(f"--cuda-graph: the step cannot be recorded ({error}); it runs eagerly")
            self._capture = False
            return False
        return True
