"""Who is timed: this toolkit's backends, what they replace, and what a user without them would write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dainv_bench.kernels.cases import Case, Workload
from dainv_bench.peers import PEERS, Peer
from dainv_kernels import backend_status, invariance_loss, relu_invariance
from dainv_kernels.backends import interpreted
from dainv_kernels.layout import sample_rows

# Features of each layer to everything a gradient comes back to: the losses, for some methods the activations too.
Operation = Callable[[Sequence[Tensor]], list[Tensor]]
OfLayer = Callable[[Tensor], tuple[Tensor, ...]]

LOSS, RELU_LOSS, RELU = "loss", "relu+loss", "relu"
# Passes over the features that each form cannot do without: (forward, backward). The loss reads them, and reads them
# and writes their gradient. With a ReLU the activation is written too, and its upstream gradient read.
_PASSES_OVER_MEMORY = {LOSS: (1, 2), RELU_LOSS: (2, 3), RELU: (2, 3)}
# B * B * D differences beyond which pairs are not a way to compute anything.
_MOST_DIFFERENCES = {"cuda": 1 << 30, "cpu": 1 << 24}


@dataclass(frozen=True)
class Method:
    """One way to compute Eq. 3, or what it is compared with.

    Attributes:
        name: what it is called on the command line and in results.
        description: what it does, in one line.
        form: ``"loss"`` of given activations; ``"relu+loss"``, one operation; ``"relu"``, without a loss.
        of_layer: made for the case of one layer, on a device; what is done here is not timed.
        why_not: None, or the reason why it cannot be timed.
        ours: whether it is this toolkit's.
        cancels: whether distances come out as small differences of large squares; sets the error it is allowed.
        compiled: whether torch.compile has the whole of it.
    """

    name: str
    description: str
    form: str
    of_layer: Callable[[Case, torch.device], OfLayer]
    why_not: Callable[[Workload, torch.device], str | None] = lambda _workload, _device: None
    ours: bool = False
    cancels: bool = False
    compiled: bool = False

    def prepare(self, workload: Workload, device: torch.device) -> Operation:
        """The operation on the features of all layers of a workload."""
        of_layers = [self.of_layer(case, device) for case in workload.cases]

        def operation(features: Sequence[Tensor]) -> list[Tensor]:
            return [out for of_layer, x in zip(of_layers, features, strict=True) for out in of_layer(x)]

        return torch.compile(operation, dynamic=False) if self.compiled else operation

    def nbytes(self, workload: Workload, direction: str) -> int:
        """Bytes that device memory has to move in a ``"forward"`` or ``"backward"`` pass, or in ``"both"``."""
        forward, backward = _PASSES_OVER_MEMORY[self.form]
        passes = {"forward": forward, "backward": backward, "both": forward + backward}
        return passes[direction] * workload.nbytes


def _own(backend: str, status: str, form: str) -> Method:
    """The operator by one of its backends, alone or in one with the ReLU."""
    with_relu = form == RELU_LOSS

    def of_layer(case: Case, device: torch.device) -> OfLayer:
        groups = case.groups(device)
        if with_relu:
            return lambda x: relu_invariance(x, groups, backend=backend)
        return lambda x: (invariance_loss(x, groups, backend=backend),)

    name, function = (f"relu+{backend}", "relu_invariance") if with_relu else (backend, "invariance_loss")
    return Method(name, f"{function}, backend {backend}", form, of_layer, _why_not_backend(backend, status), ours=True)


def _peer(name: str, peer: Peer) -> Method:
    def of_layer(case: Case, device: torch.device) -> OfLayer:
        loss = peer.layer_loss(case.ids(device))
        return lambda x: (loss(sample_rows(x)),)

    return Method(
        name,
        peer.description,
        LOSS,
        of_layer,
        lambda _workload, device: peer.why_not(device),
        cancels=peer.cancels,
        compiled=peer.compiled,
    )


def _why_not_backend(backend: str, status: str) -> Callable[[Workload, torch.device], str | None]:
    def why_not(workload: Workload, device: torch.device) -> str | None:
        if status != "works":
            return status
        if interpreted() and "triton" in backend:
            return "Triton's interpreter is on (TRITON_INTERPRET=1); its times mean nothing"
        if backend == "native" and device.type != "cpu":
            return "native kernels run on the CPU"
        if backend == "native" and any(case.dtype == torch.float16 for case in workload.cases):
            return "float16 is handed to backend torch"
        return _too_many_pairs(workload, device) if backend == "reference" else None

    return why_not


def _too_many_pairs(workload: Workload, device: torch.device) -> str | None:
    differences = sum(case.batch**2 * case.features for case in workload.cases)
    limit = _MOST_DIFFERENCES.get(device.type, _MOST_DIFFERENCES["cpu"])
    return f"more than {limit:.1e} differences of pairs take too long" if differences > limit else None


def methods() -> dict[str, Method]:
    """All of them, ours first; one entry for each backend that dainv_kernels has, working here or not."""
    backends = backend_status()
    found = [_own(backend, status, LOSS) for backend, status in backends.items()]
    # The truth by pairs gains nothing from a ReLU.
    found += [_own(backend, status, RELU_LOSS) for backend, status in backends.items() if backend != "reference"]
    found += [Method("relu", "ReLU alone: what relu+... replaces", RELU, lambda _case, _device: lambda x: (x.relu(),))]
    found += [_peer(name, peer) for name, peer in PEERS.items()]
    return {method.name: method for method in found}
