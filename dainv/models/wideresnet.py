"""Wide residual networks (Zagoruyko & Komodakis 2016) for small images, such as the published WRN-28-10.

Blocks are pre-activated: batch normalisation, ReLU, 3 x 3 convolution, twice, and a shortcut. Where the number of
channels changes the shortcut is a 1 x 1 convolution of the activated input, as in the authors' network of 36.5 M
parameters, and not average pooling with zero-padded channels, as in the code released with the invariance paper: so
parameter count, accuracy and weights can be compared with other people's. No dropout.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

_GROUPS = 3  # of blocks, at full, half and quarter resolution


class Block(nn.Module):
    """A residual block; its output is the sum, before the next block normalises and rectifies it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H / stride, W / stride)``."""
        activated = self.relu1(self.norm1(x))
        residual: Tensor = self.conv2(self.relu2(self.norm2(self.conv1(activated))))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """A wide residual network; its blocks, in three groups, are ``block1``, ``block2``, ...

    Args:
        depth: number of convolutions, 6 n + 4 for n blocks a group.
        width: factor on the 16, 32 and 64 channels of the groups.
        n_classes: number of outputs.
        in_channels: channels of the images.

    Attributes:
        layer_names: the blocks.

    Raises:
        ValueError: no whole number of blocks makes this depth.
    """

    def __init__(self, depth: int = 28, width: int = 10, n_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % (2 * _GROUPS) or width < 1:
            raise ValueError(
                f"depth {depth}, width {width}: expected a depth of 6 n + 4 from 10 on, and a width from 1"
            )
        blocks = (depth - 4) // (2 * _GROUPS)
        channels = 16
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        names: list[str] = []
        for group in range(_GROUPS):
            for place in range(blocks):
                outputs, stride = 16 * width * 2**group, 2 if group and place == 0 else 1
                names.append(f"block{len(names) + 1}")
                self.add_module(names[-1], Block(channels, outputs, stride))
                channels = outputs
        self.layer_names = tuple(names)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(channels, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` to logits ``(B, n_classes)``."""
        x = self.conv(images)
        for name in self.layer_names:
            x = self.get_submodule(name)(x)
        x = functional.adaptive_avg_pool2d(self.relu(self.norm(x)), 1)
        logits: Tensor = self.classifier(x.flatten(1))
        return logits
