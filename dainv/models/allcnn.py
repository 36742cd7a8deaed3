"""All-CNN-C (Springenberg et al. 2014), as Section 2.1 uses it: no dropout, no weight decay.

Where the paper is silent the released configuration decides: ReLU after all nine convolutions (so logits are means of
non-negative maps), the seventh padded, glorot-uniform kernels and zero biases. Strided convolutions pad one pixel on
each side, as PyTorch does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from dainv_kernels import Groups, invariance_loss, relu_invariance

# (output channels, kernel size, stride); the last layer's channels are the classes
_LAYERS = [(96, 3, 1), (96, 3, 1), (96, 3, 2), (192, 3, 1), (192, 3, 1), (192, 3, 2), (192, 3, 1), (192, 1, 1)]


class ConvLayer(nn.Module):
    """Convolution, optional batch normalisation, ReLU: one layer of the paper's Figures 1 and 2."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
        nn.init.xavier_uniform_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        # Keras' defaults of the time: a slow running average
        self.norm = nn.BatchNorm2d(outputs, eps=1.001e-5, momentum=0.01) if batch_norm else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H / stride, W / stride)``."""
        x = self.norm(self.conv(x))
        # Neither a convolution nor a normalisation looks back at its output, but a hook may.
        activation: Tensor = x.relu_() if inplace else self.relu(x)
        return activation

    def before_relu(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the ReLU is to be taken of, and a bias to be added first.

        On a CPU a convolution adds its bias at no cost; on a GPU that is a pass over memory, better spent in the ReLU.
        """
        if x.is_cuda and isinstance(self.norm, nn.Identity):
            conv = self.conv
            return functional.conv2d(x, conv.weight, None, conv.stride, conv.padding), conv.bias
        return self.norm(self.conv(x)), None


class AllCNNC(nn.Module):
    """Nine convolutional layers, ``layer1`` to ``layer9``, and global average pooling.

    Args:
        n_classes: number of outputs.
        in_channels: channels of the images.
        batch_norm: normalise after every convolution, as the released configuration does and the paper does not say.
        width: factor on the number of channels of the first eight layers, for quick experiments; 1 is the paper's.

    Raises:
        ValueError: an argument that is not positive.
    """

    def __init__(self, n_classes: int = 10, in_channels: int = 3, batch_norm: bool = False, width: float = 1.0) -> None:
        super().__init__()
        for name, value in (("n_classes", n_classes), ("in_channels", in_channels), ("width", width)):
            if value <= 0:
                raise ValueError(f"{name}: expected a positive number, got {value}")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for number, (outputs, kernel, stride) in enumerate(_LAYERS, start=1):
            outputs = max(1, round(outputs * width))
            layers[f"layer{number}"] = ConvLayer(channels, outputs, kernel, stride, batch_norm)
            channels = outputs
        layers["layer9"] = ConvLayer(channels, n_classes, 1, 1, batch_norm)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.layer_names = tuple(layers)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [0, 1] to logits ``(B, n_classes)``."""
        return self.forward_taps(images)[0]

    def forward_taps(self, images: Tensor, inplace: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and the activations of every layer after its ReLU, without hooks: this form compiles.

        Args:
            images: ``(B, C, H, W)`` in [0, 1].
            inplace: let ReLUs write over their input: faster, but whoever keeps it finds the activation there.
        """
        activations = {}
        x = images
        for name in self.layer_names:
            x = self.get_submodule(name)(x, inplace)
            activations[name] = x
        return x.mean(dim=(2, 3)), activations

    def forward_losses(
        self,
        images: Tensor,
        groups: Groups,
        weights: Sequence[float],
        *,
        layers: Sequence[str] | None = None,
        fused: bool = True,
        **options: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and the invariance loss of every layer (Eq. 3), taken as soon as the layer is done.

        So early, because the backward pass then comes to the loss last, when the gradient of the next layer is there
        to be added to.

        Args:
            images: ``(B, C, H, W)`` in [0, 1].
            groups: which of them show the same image.
            weights: of the layers in Eq. 4; one of weight 0 is measured without gradient.
            layers: names of those layers; all nine if not given.
            fused: take each loss in one operation with the layer's ReLU, on a GPU with its bias too.
            options: of :func:`dainv_kernels.invariance_loss`.
        """
        weight_of = dict(zip(self.layer_names if layers is None else layers, weights, strict=True))
        losses = {}
        x = images
        for name in self.layer_names:
            layer: ConvLayer = self.get_submodule(name)  # type: ignore[assignment]
            weight = weight_of.get(name)
            if weight and fused:
                x, bias = layer.before_relu(x)
                x, losses[name] = relu_invariance(x, groups, bias=bias, inplace=True, **options)
            else:
                x = layer(x, inplace=True)
                if weight is not None:
                    losses[name] = invariance_loss(x if weight else x.detach(), groups, **options)
        return x.mean(dim=(2, 3)), losses
