"""Any network with the invariance losses of its layers, each taken as soon as the layer is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dainv.errors import UserError
from dainv.models.allcnn import AllCNNC
from dainv.models.outputs import logits_of
from dainv.taps import OVERWRITTEN, match_layers, tensor_output
from dainv_kernels import Groups, invariance_loss, relu_invariance


class TappedNetwork(nn.Module):
    """A network and the layers whose invariance losses (Eq. 3) its training takes.

    The network is used as it is, under ``network``: its parameters, names and ``state_dict`` stay its own. Layers that
    run several times in a forward pass (a ReLU shared by a block) are known by their last output.

    Args:
        network: images ``(B, C, H, W)`` to logits ``(B, n_classes)``, or to an object with ``logits``. Listened to from
            then on: make one ``TappedNetwork`` of a network.
        layers: names or shell-style patterns of layers, see :func:`dainv.taps.match_layers`.

    Attributes:
        network: the network.
        layer_names: names of the tapped layers: in the order given, those of a pattern in that of
            ``network.named_modules()``.

    Raises:
        UserError: no layer matches.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.layer_names = tuple(dict.fromkeys(name for layer in layers for name in match_layers(network, layer)))
        self._losses = _Losses()
        # All-CNN-C takes the losses of its layers itself: with their ReLUs and, on a GPU, with their biases.
        self._itself = isinstance(network, AllCNNC) and set(self.layer_names) <= set(network.layer_names)
        if not self._itself:
            for name in self.layer_names:
                module = network.get_submodule(name)
                if type(module) is nn.ReLU:
                    vars(module)["forward"] = _TappedReLU(name, module.inplace, self._losses)
                else:
                    module.register_forward_hook(_LayerTap(name, self._losses))

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` to logits ``(B, n_classes)``.

        Raises:
            UserError: the network puts out something else.
        """
        return logits_of(self.network(images))

    def forward_losses(
        self,
        images: Tensor,
        groups: Groups,
        weights: Sequence[float],
        *,
        fused: bool = True,
        **options: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and the invariance loss of every tapped layer (Eq. 3).

        Args:
            images: ``(B, C, H, W)``.
            groups: which of them show the same image.
            weights: of the layers in Eq. 4; one of weight 0 is measured without gradient.
            fused: take the loss of a tapped ``nn.ReLU`` in one operation with it.
            options: of :func:`dainv_kernels.invariance_loss`.

        Raises:
            UserError: a layer did not run, ran without gradients or does not put out a tensor, its output was
                overwritten by what comes after it, or the network puts out no logits.
        """
        network = self.network
        if self._itself and isinstance(network, AllCNNC):
            return network.forward_losses(images, groups, weights, layers=self.layer_names, fused=fused, **options)
        self._losses.begin(groups, dict(zip(self.layer_names, weights, strict=True)), fused, options)
        try:
            logits = logits_of(network(images))
            return logits, self._losses.take()
        finally:
            self._losses.end()


class _Losses:
    """The losses of the forward pass in progress, if there is one that asked for them."""

    def __init__(self) -> None:
        self.active = False
        self.differentiable = False
        self.fused = False
        self.groups: Groups
        self.weights: dict[str, float] = {}
        self.options: dict[str, Any] = {}
        self.taken: dict[str, Tensor] = {}
        self.watched: dict[str, tuple[Tensor, int]] = {}

    def begin(self, groups: Groups, weights: dict[str, float], fused: bool, options: dict[str, Any]) -> None:
        self.active, self.fused, self.groups, self.weights, self.options = True, fused, groups, weights, options
        self.differentiable = torch.is_grad_enabled()

    def add(self, name: str, output: Tensor) -> None:
        """Take the loss of a layer's output."""
        weight = self.weights[name]
        if weight:
            self._refuse_without_gradients(name)
        self.taken[name] = invariance_loss(output if weight else output.detach(), self.groups, **self.options)
        if weight:
            self.watch(name, output)

    def add_relu(self, name: str, x: Tensor) -> Tensor:
        """Take the loss of a ReLU together with it."""
        self._refuse_without_gradients(name)
        output, self.taken[name] = relu_invariance(x, self.groups, **self.options)
        self.watch(name, output)
        return output

    def _refuse_without_gradients(self, name: str) -> None:
        if self.differentiable and not torch.is_grad_enabled():
            raise UserError(
                f"layer {name!r} runs without gradients (a reentrant torch.utils.checkpoint, torch.no_grad), "
                "so that its invariance loss would train nothing; choose others"
            )

    def watch(self, name: str, output: Tensor) -> None:
        """Remember that the backward pass will need this output as it is now; a compiler sees to that itself."""
        if output.requires_grad and not torch.compiler.is_compiling():
            self.watched[name] = output, output._version

    def take(self) -> dict[str, Tensor]:
        missing = [name for name in self.weights if name not in self.taken]
        if missing:
            raise UserError(f"layers that did not run in the forward pass: {', '.join(missing)}; choose others")
        for name, (output, version) in self.watched.items():
            if output._version != version:
                raise UserError(f"layer {name!r}: {OVERWRITTEN}")
        return {name: self.taken[name] for name in self.weights}

    def end(self) -> None:
        """Forget everything, so that no activation outlives its step."""
        self.active = False
        self.taken, self.watched = {}, {}


class _LayerTap:
    """The forward hook of a layer. An object, not a closure, so that copies of a network listen to themselves."""

    def __init__(self, name: str, losses: _Losses) -> None:
        self.name, self.losses = name, losses

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if self.losses.active:
            self.losses.add(self.name, tensor_output(self.name, output))


class _TappedReLU:
    """The forward method of a tapped ReLU: one operation with its loss where that is asked for."""

    def __init__(self, name: str, inplace: bool, losses: _Losses) -> None:
        self.name, self.inplace, self.losses = name, inplace, losses

    def __call__(self, x: Tensor) -> Tensor:
        losses = self.losses
        if losses.active and losses.fused and losses.weights[self.name]:
            return losses.add_relu(self.name, x)
        output = nn.functional.relu(x, self.inplace)
        if losses.active:
            losses.add(self.name, output)
        return output
