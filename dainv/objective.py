"""The training objective: Eq. 4, the task loss and the invariance losses of the layers, weighted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from dainv.errors import UserError
from dainv.names import SCHEMES
from dainv.taps import Taps, match_layers, uncompiled
from dainv_kernels import Groups, invariance_loss
from dainv_kernels.backends import BACKENDS
from dainv_kernels.groups import NORMALIZATIONS

if TYPE_CHECKING:  # not every build of torch has it
    from torch.distributed import ProcessGroup


def layer_weights(
    n_layers: int, alpha: float = 0.1, spread: float = 10.0, scheme: str = "exponential"
) -> tuple[float, ...]:
    """The coefficients alpha^(l) of Eq. 4, first layer first.

    Args:
        n_layers: L, the number of layers.
        alpha: what the weights sum to, 0 to 1 (paper: 0.1).
        spread: last weight over first weight (paper: 10).
        scheme: how they grow with depth: ``"exponential"`` (paper), ``"linear"`` or ``"uniform"`` (spread ignored).

    Returns:
        L weights.

    Raises:
        ValueError: an argument outside its range.

    Example:
        >>> [round(weight, 4) for weight in layer_weights(3, alpha=0.1, spread=4)]
        [0.0143, 0.0286, 0.0571]
    """
    if n_layers < 1:
        raise ValueError(f"n_layers: expected at least 1, got {n_layers}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a share of the loss from 0 to 1, got {alpha}")
    if not 0 < spread < math.inf:
        raise ValueError(f"spread: expected a positive ratio, got {spread}")
    depth = [layer / max(1, n_layers - 1) for layer in range(n_layers)]
    if scheme == "exponential":
        shape = [spread**d for d in depth]
    elif scheme == "linear":
        shape = [1 + (spread - 1) * d for d in depth]
    elif scheme == "uniform":
        shape = [1.0] * n_layers
    else:
        raise ValueError(f"scheme: expected one of {SCHEMES}, got {scheme!r}")
    return tuple(alpha * value / sum(shape) for value in shape)


class Objective(NamedTuple):
    """What the objective is made of; ``total`` is what to call ``backward()`` on."""

    total: Tensor
    task: Tensor
    invariance: dict[str, Tensor]


def combine(
    task_loss: Tensor,
    activations: Mapping[str, Tensor],
    groups: Tensor | Groups,
    weights: Sequence[float],
    *,
    normalization: str = "pairs",
    backend: str = "auto",
    process_group: ProcessGroup | None = None,
) -> Objective:
    """Eq. 4: ``(1 - alpha) * task + sum_l alpha^(l) L_inv^(l)``.

    Args:
        task_loss: 0-d loss of the task, such as the cross-entropy over all views.
        activations: layer name -> activations ``(B, ...)``, first layer first.
        groups: ``(B,)`` ids or a :class:`dainv_kernels.Groups`.
        weights: alpha^(l) for each layer. A layer of weight 0 is measured without gradient.
        normalization: see :func:`dainv_kernels.invariance_loss`.
        backend: see :func:`dainv_kernels.invariance_loss`.
        process_group: see :func:`dainv_kernels.invariance_loss`; the task loss remains this process' own.

    Returns:
        Total, task loss and the unweighted loss of each layer.
    """
    losses = _losses(activations, groups, weights, normalization, backend, process_group)
    return weigh(task_loss, losses, weights)


def _losses(
    activations: Mapping[str, Tensor],
    groups: Tensor | Groups,
    weights: Sequence[float],
    normalization: str,
    backend: str,
    process_group: ProcessGroup | None,
) -> dict[str, Tensor]:
    if not isinstance(groups, Groups):
        groups = Groups.from_ids(groups)  # sorted once, not once a layer
    return {
        name: invariance_loss(
            features if weight else features.detach(),
            groups,
            normalization=normalization,
            backend=backend,
            process_group=process_group,
        )
        for (name, features), weight in zip(activations.items(), weights, strict=True)
    }


def weigh(task_loss: Tensor, losses: dict[str, Tensor], weights: Sequence[float]) -> Objective:
    """Eq. 4 from the losses of the layers.

    Args:
        task_loss: 0-d loss of the task.
        losses: layer name -> 0-d invariance loss, first layer first.
        weights: alpha^(l) for each layer.

    Raises:
        ValueError: the task loss is not a 0-d tensor.
    """
    if not isinstance(task_loss, Tensor) or task_loss.ndim:
        got = f"the shape {tuple(task_loss.shape)}" if isinstance(task_loss, Tensor) else f"{task_loss!r}"
        raise ValueError(f"task_loss: expected a tensor without dimensions, such as the mean over views, got {got}")
    measured = zip(losses.values(), weights, strict=True)
    used, shares = zip((task_loss, 1 - sum(weights)), *(pair for pair in measured if pair[1]), strict=True)
    if torch.compiler.is_compiling():  # makes one kernel of it, and warns of caches
        return Objective(sum(share * term for share, term in zip(shares, used, strict=True)), task_loss, losses)
    terms = torch.stack(used)
    # One product of vectors: on a GPU, nine multiplications and nine additions would cost as much as a layer's loss.
    total = torch.dot(terms, _vector(shares, terms.dtype, terms.device))
    return Objective(total, task_loss, losses)


@lru_cache(maxsize=64)
def _vector(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Made once: a CUDA graph cannot capture a copy from the host."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def _without_gradient(layers: list[str]) -> str:
    return (
        f"the invariance losses of {layers} have no gradient: the layers' latest forward pass ran without (an "
        "evaluation between the training forward pass and the objective, torch.no_grad, a reentrant checkpoint), or "
        "all that leads to them is frozen"
    )


class InvarianceObjective:
    """Adds data augmentation invariance to the training of any model.

    It listens to the named layers; after the model's forward pass call it with the task loss and the groups.

    Args:
        model: any module; it is not changed. One that ``torch.compile`` has made is listened to as the model that it
            was made of, if it has not run yet.
        layers: shell-style pattern or patterns of layer names, as ``model.named_modules()`` gives them.
        alpha: share of the invariance losses in the total (Eq. 4). 0 only measures.
        spread: weight of the last layer over that of the first.
        scheme: see :func:`layer_weights`.
        normalization: see :func:`dainv_kernels.invariance_loss`.
        backend: see :func:`dainv_kernels.invariance_loss`.
        groups: those of every training batch, where they are known beforehand, as :meth:`dainv.Groups.consecutive`
            makes them. Each loss is then taken as soon as its layer is done, which costs less: no activation is kept
            for it, and its gradient is added to that of the next layer instead of to be summed up afterwards.
        process_group: the processes among which ``DistributedDataParallel`` deals the batch, whole groups to each:
            the losses are then those of the joined batch, the same in all, and the average that it takes of the
            gradients is the joined batch's (its averages over samples, such as the task loss, are so only for parts
            of equal size). Every process has to call this for every batch. None: each takes the losses of its own part.

    Attributes:
        layers: names of the tapped layers, in the order in which they run; until the model has run for the first
            time, in that of ``model.named_modules()``.
        weights: their weights.

    Raises:
        UserError: a pattern matches no layer, or there is none.
        TypeError: the model is no module.
        ValueError: another argument outside its range.

    Example:
        >>> import torch, dainv
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> objective = dainv.InvarianceObjective(model, "1")
        >>> views, labels = torch.randn(6, 8), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> source_image = torch.tensor([0, 0, 1, 1, 2, 2])
        >>> loss = objective(torch.nn.functional.cross_entropy(model(views), labels), source_image)
        >>> loss.total.backward()
        >>> list(loss.invariance)
        ['1']
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Sequence[str],
        *,
        alpha: float = 0.1,
        spread: float = 10.0,
        scheme: str = "exponential",
        normalization: str = "pairs",
        backend: str = "auto",
        groups: Tensor | Groups | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization: expected one of {NORMALIZATIONS}, got {normalization!r}")
        if not layers:
            raise UserError("layers: expected at least one name or pattern, got none")
        if backend != "auto" and backend not in BACKENDS:
            raise ValueError(f"backend: expected one of {('auto', *BACKENDS)}, got {backend!r}")
        model = uncompiled(model)
        self.layers = match_layers(model, layers)
        self.weights = layer_weights(len(self.layers), alpha, spread, scheme)
        self.alpha = alpha
        self.normalization = normalization
        self.backend = backend
        self.process_group = process_group
        self.groups = groups if groups is None or isinstance(groups, Groups) else Groups.from_ids(groups)
        self._differentiable: dict[str, bool] = {}
        self._taps = Taps(model, self.layers, self._on_output)

    def _on_output(self, name: str, output: Tensor) -> Tensor:
        """The layer's loss, if it can be taken now; else its output, to take it of later."""
        if not output.is_floating_point() or output.ndim < 2:
            raise UserError(
                f"layer {name!r} puts out {output.dtype} {tuple(output.shape)}; expected floating-point activations "
                "(B, ...); choose others"
            )
        self._differentiable[name] = torch.is_grad_enabled()
        if self.groups is None or not torch.is_grad_enabled():
            return output
        return invariance_loss(
            output if self.alpha else output.detach(),
            self.groups,
            normalization=self.normalization,
            backend=self.backend,
            process_group=self.process_group,
        )

    def __call__(self, task_loss: Tensor, groups: Tensor | Groups | None = None) -> Objective:
        """Eq. 4 for the activations of the model's latest forward pass.

        Args:
            task_loss: 0-d loss of the task.
            groups: ``(B,)`` ids of the source images (the paper), class labels, or anything else; or a ``Groups``.
                Left out where the objective was made with them.

        Returns:
            ``(total, task, invariance)``.

        Raises:
            ValueError: groups given both here and before, or not at all.
            RuntimeError: a layer has not run since the last call, or the task loss has a gradient and a layer ran
                without, or all losses are without.
        """
        trains = bool(self.alpha) and isinstance(task_loss, Tensor) and task_loss.requires_grad
        if trains and (without := [name for name, had in self._differentiable.items() if not had]):
            raise RuntimeError(_without_gradient(without))
        losses = self._take(groups)
        if trains and not any(loss.requires_grad for loss in losses.values()):
            raise RuntimeError(_without_gradient(list(losses)))
        return weigh(task_loss, losses, self.weights)

    def _take(self, groups: Tensor | Groups | None) -> dict[str, Tensor]:
        """The losses of the model's latest forward pass, in the order in which the layers ran."""
        if (groups is None) == (self.groups is None):
            raise ValueError("groups: expected either here or when the objective is made, once and for all batches")
        kept = self._taps.take()
        self.layers = list(kept)
        known = self.groups if groups is None else groups
        assert known is not None
        # With groups known beforehand, what ran with gradients is a loss already.
        rest = {name: value for name, value in kept.items() if self.groups is None or value.ndim > 0}
        weights = [weight for name, weight in zip(kept, self.weights, strict=True) if name in rest]
        return kept | _losses(rest, known, weights, self.normalization, self.backend, self.process_group)

    @torch.no_grad()
    def measure(self, groups: Tensor | Groups | None = None) -> dict[str, Tensor]:
        """The layers' losses for the latest forward pass, without task and without gradient; see :meth:`__call__`."""
        return {name: loss.detach() for name, loss in self._take(groups).items()}

    def remove(self) -> None:
        """Stop listening to the model."""
        self._taps.remove()
