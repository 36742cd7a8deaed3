"""SGD as training needs it: its learning rate can change between replays of a recorded step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def capturable_sgd(
    module: nn.Module, learning_rate: float, momentum: float, weight_decay: float = 0.0
) -> torch.optim.SGD:
    """SGD, with Nesterov's momentum if any; on a GPU its learning rate is a tensor there, to be changed in place.

    Args:
        module: whose parameters it changes.
        learning_rate: at first; see :func:`set_learning_rate`.
        momentum: 0 for none.
        weight_decay: L2 penalty.
    """
    device = next(module.parameters()).device
    on_gpu = device.type == "cuda"
    return torch.optim.SGD(
        module.parameters(),
        # Only the fused form reads a learning rate on the device; the others would bring it to the host.
        lr=torch.tensor(learning_rate, device=device) if on_gpu else learning_rate,
        momentum=momentum,
        nesterov=momentum > 0,
        weight_decay=weight_decay,
        fused=True if on_gpu else None,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Change it where it is: a recorded step reads it there."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """For a checkpoint: the same kinds of values on every device."""
    state = optimizer.state_dict()
    groups = [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """What :func:`optimizer_state` gave. The options stay those of this optimizer: they depend on the device."""
    optimizer.load_state_dict({**state, "param_groups": optimizer.state_dict()["param_groups"]})
