"""torch.compile and autocast: a model that returns its activations, and one graph for model and objective.

``InvarianceObjective`` listens by hooks. It works under ``torch.compile``, but its hooks can break the graph into
pieces; activations that the model itself returns cannot. Run it with ``python examples/compiled.py``; on a CPU the
compiler needs a C++ compiler and a minute.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import dainv
from dainv.data import load_data
from dainv.objective import Objective, combine

IMAGES, VIEWS = 16, 8


class Network(nn.Module):
    """Three convolutions and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs))
            for inputs, outputs in [(3, 16), (16, 32), (32, 64)]
        )
        self.readout = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and the activations after each ReLU."""
        activations = {}
        for number, convolution in enumerate(self.convolutions, start=1):
            activations[f"layer{number}"] = x = functional.relu(convolution(x))
        return self.readout(x.mean(dim=(2, 3))), activations


def main(steps: int = 60, alpha: float = 0.1, compiler: str = "inductor") -> dict[str, float]:
    """Train in bfloat16, and return the invariance loss of each layer on the last batch."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    digits = load_data("digits").train.to(device)
    augment = dainv.augmentation("heavier")
    model = Network().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    weights = dainv.layer_weights(3, alpha)
    groups = dainv.Groups.consecutive(IMAGES, VIEWS, device)

    @torch.compile(fullgraph=True, backend=compiler)
    def objective(views: Tensor, labels: Tensor) -> Objective:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits, activations = model(views)
        # The sums of Eq. 3 are taken in float32, whatever the activations are.
        return combine(functional.cross_entropy(logits.float(), labels), activations, groups, weights)

    for step in range(1, steps + 1):
        source = torch.randperm(len(digits), device=device)[:IMAGES].repeat_interleave(VIEWS)
        loss = objective(augment(digits.images[source] / 255), digits.labels[source])
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        if step % 20 == 0:
            layers = "  ".join(f"{name} {value:.3f}" for name, value in loss.invariance.items())
            print(f"step {step}  cross-entropy {loss.task:.3f}  invariance loss: {layers}")
    return {name: float(value.detach()) for name, value in loss.invariance.items()}


if __name__ == "__main__":
    main()
