"""What a checkpoint holds: all that a resumed run needs to end in the same bits."""

from __future__ import annotations

from typing import Any

import torch

from dainv.errors import UserError
from dainv.training.optimizer import load_optimizer_state, optimizer_state
from dainv.training.trainer import Trainer


def state_of(trainer: Trainer, seconds: float) -> dict[str, Any]:
    """The state of a run; which images come next follows from the step and the seed.

    Args:
        trainer: the run. Its tensors are not copied.
        seconds: spent on this epoch so far.
    """
    state = {
        "step": trainer.step,
        "model": trainer.model.state_dict(),
        "optimizer": optimizer_state(trainer.optimizer),
        "augmentation_generator": trainer.draws.get_state(),
        "torch_generator": torch.get_rng_state(),
        "epoch_losses": trainer.losses,
        "epoch_seconds": seconds,
        "epoch_phase_seconds": dict(trainer.clock.seconds),
    }
    if trainer.device.type == "cuda":
        state["cuda_generator"] = torch.cuda.get_rng_state(trainer.device)
    return state


def restore(trainer: Trainer, state: dict[str, Any]) -> float:
    """Put a run into a state that :func:`state_of` gave.

    Args:
        trainer: a run with the same settings, perhaps on another device.
        state: on the trainer's device.

    Returns:
        Seconds spent on its epoch before.

    Raises:
        UserError: the state is of another network.
    """
    trainer.go_to(state["step"])
    try:
        trainer.model.load_state_dict(state["model"])
        load_optimizer_state(trainer.optimizer, state["optimizer"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split("\n")[:2])
        raise UserError(f"--resume: the checkpoint of step {trainer.step} is not of this run ({reason})") from None
    try:
        trainer.draws.set_state(state["augmentation_generator"].cpu())
    except RuntimeError:  # a GPU's generator has another kind of state
        trainer.draws.manual_seed(trainer.settings.seed + 1 + trainer.step)
        trainer.reporter.message("--resume: this kind of device draws other augmentations than the one before")
    torch.set_rng_state(state["torch_generator"].cpu())
    if trainer.device.type == "cuda" and "cuda_generator" in state:
        torch.cuda.set_rng_state(state["cuda_generator"].cpu(), trainer.device)
    trainer.losses.copy_(state["epoch_losses"])
    trainer.clock.restart(state.get("epoch_phase_seconds"))
    return float(state["epoch_seconds"])
