"""What is compared: ways to add Eq. 3 to the loss of a training step, each in its own plain form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dainv.models.allcnn import AllCNNC
from dainv.objective import Objective, combine, layer_weights, weigh
from dainv.settings import TrainSettings
from dainv_bench.peers import PEERS, LayerLoss, Peer
from dainv_kernels import Groups
from dainv_kernels.backends import choose_backend, interpreted
from dainv_kernels.layout import sample_rows


@dataclass(frozen=True)
class Problem:
    """What an arm has to know beforehand about the batches it will see.

    Attributes:
        n_images: K, source images in a batch.
        views: M, views of each, one after the other.
        weights: alpha^(l) of Eq. 4, first layer first.
        device: where the activations are.
    """

    n_images: int
    views: int
    weights: tuple[float, ...]
    device: torch.device

    @property
    def ids(self) -> Tensor:
        """``(B,)`` source image of each sample."""
        return torch.arange(self.n_images, device=self.device).repeat_interleave(self.views)


def published_problem(network: AllCNNC, n_images: int, views: int, device: torch.device) -> Problem:
    """With the weights of the published run."""
    published = TrainSettings()
    weights = layer_weights(len(network.layer_names), published.alpha, published.spread, published.scheme)
    return Problem(n_images, views, weights, device)


# Task loss and activations (layer name -> (B, ...), first layer first) to what is differentiated.
OnActivations = Callable[[Tensor, Mapping[str, Tensor]], Objective]


@dataclass(frozen=True)
class InForward:
    """A criterion whose losses are taken during the forward pass, as ``dainv train`` does.

    Attributes:
        groups: of the batch.
        weights: alpha^(l) of Eq. 4.
        backend: of the operator.
        fused: whether each is one operation with the layer's ReLU.
    """

    groups: Groups
    weights: tuple[float, ...]
    backend: str
    fused: bool


Criterion = OnActivations | InForward


def objective_of(criterion: Criterion, network: AllCNNC, views: Tensor, labels: Tensor) -> Objective:
    """Forward pass and objective of an arm for one batch."""
    if isinstance(criterion, InForward):
        logits, losses = network.forward_losses(
            views, criterion.groups, criterion.weights, fused=criterion.fused, backend=criterion.backend
        )
        return weigh(functional.cross_entropy(logits, labels), losses, criterion.weights)
    logits, activations = network.forward_taps(views, inplace=True)  # the baseline is no slower than it has to be
    return criterion(functional.cross_entropy(logits, labels), activations)


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: what it is called on the command line and in results.
        description: what it does, in one line.
        prepare: makes its criterion; what depends on the problem alone is done here and not timed.
        why_not: None, or the reason why it cannot be timed on a device.
        taps: whether it adds the invariance losses; the baseline does not.
        cancels: whether distances come out as small differences of large squares; sets the error it is allowed.
        ours: whether it is this toolkit's, which the verdict is about.
    """

    name: str
    description: str
    prepare: Callable[[Problem], Criterion]
    why_not: Callable[[torch.device], str | None] = lambda _device: None
    taps: bool = True
    cancels: bool = False
    ours: bool = False


def _baseline(_problem: Problem) -> OnActivations:
    return lambda task, _activations: Objective(task, task, {})


def eq4(layer_loss: LayerLoss, weights: tuple[float, ...]) -> OnActivations:
    """Eq. 4 around any loss of one layer's ``(B, D)`` activations."""

    def criterion(task: Tensor, activations: Mapping[str, Tensor]) -> Objective:
        # Rows in the order of storage: flatten(1) would copy channels_last activations, which the published code,
        # in a framework whose activations are stored that way, did not have to do.
        losses = {name: layer_loss(sample_rows(features)) for name, features in activations.items()}
        return weigh(task, losses, weights)

    return criterion


def _peer(name: str, peer: Peer) -> Arm:
    def prepare(problem: Problem) -> OnActivations:
        criterion = eq4(peer.layer_loss(problem.ids), problem.weights)
        return torch.compile(criterion, dynamic=False) if peer.compiled else criterion

    return Arm(name, peer.description, prepare, peer.why_not, cancels=peer.cancels)


def _ours_after(problem: Problem) -> OnActivations:
    groups = Groups.consecutive(problem.n_images, problem.views, problem.device)
    return lambda task, activations: combine(task, activations, groups, problem.weights)


def _ours_in_forward(fused: bool, backend: str | None = None) -> Callable[[Problem], InForward]:
    """With a backend, or with the one that ``dainv train --no-fused`` takes on the device."""

    def prepare(problem: Problem) -> InForward:
        groups = Groups.consecutive(problem.n_images, problem.views, problem.device)
        return InForward(groups, problem.weights, backend or choose_backend("auto", groups.rows), fused)

    return prepare


def _why_not_triton(device: torch.device) -> str | None:
    if interpreted():
        return "Triton's interpreter is on (TRITON_INTERPRET=1); its times mean nothing"
    try:
        choose_backend("triton", torch.empty(1, device=device))
    except RuntimeError as error:
        return str(error)
    return None


BASELINE, CONTROL = "baseline", "control"
ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(BASELINE, "the same step with cross-entropy alone", _baseline, taps=False),
        Arm(CONTROL, "the baseline once more: what is found where there is no difference", _baseline, taps=False),
        *(_peer(name, peer) for name, peer in PEERS.items()),
        Arm("ours-after", "dainv's objective after the forward pass, as on any model", _ours_after, ours=True),
        Arm(
            "ours",
            "each loss when its layer is done, by the default backend of the device",
            _ours_in_forward(fused=False),
            ours=True,
        ),
        Arm(
            "ours-relu",
            "in one operation with each ReLU, by the default backend of the device",
            _ours_in_forward(fused=True),
            ours=True,
        ),
        Arm(
            "ours-fused",
            "in one operation with each ReLU, backend triton",
            _ours_in_forward(fused=True, backend="triton"),
            _why_not_triton,
            ours=True,
        ),
    )
}
