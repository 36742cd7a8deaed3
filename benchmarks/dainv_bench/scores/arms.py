"""Who is timed: Eq. 2 by streaming sums and by all pairs, and the work that neither can do without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dainv.augment import Augmentation, augmentation
from dainv.models.allcnn import AllCNNC
from dainv.scores import INPUT, invariance_scores
from dainv.taps import evaluating
from dainv_bench.workload import make_batches, make_network

FORWARD, STREAMING, PUBLISHED, AUGMENTATION = "forward", "streaming", "published", "augmentation"
TRANSFORM = "half-extremes"  # G of Eq. 2

Sigma = Mapping[str, np.ndarray]  # layer -> (repeats, N), the pixels being layer "input"


@dataclass(frozen=True)
class Problem:
    """What every arm is given.

    Attributes:
        network: scored; its layers are all nine.
        images: ``(N, 3, 32, 32)`` in [0, 1], channels_last, on the network's device.
        transform: G.
        repeats: transformations of each image.
        batch_size: images at a time.
        seed: of the transformations.
    """

    network: AllCNNC
    images: Tensor
    transform: Augmentation
    repeats: int
    batch_size: int
    seed: int

    def slices(self) -> Iterator[slice]:
        """Batches, as positions of images."""
        for start in range(0, len(self.images), self.batch_size):
            yield slice(start, min(start + self.batch_size, len(self.images)))

    def draws(self) -> list[Tensor]:
        """The parameters of every repeat's transformations, the same that ``invariance_scores`` draws."""
        generator = torch.Generator().manual_seed(self.seed)
        return [self.transform.parameters(len(self.images), generator) for _ in range(self.repeats)]

    def transformed(self, part: slice, drawn: Tensor) -> Tensor:
        """G of some of the images."""
        return self.transform.apply(self.images[part], drawn[part].to(self.images.device))

    def features(self, batch: Tensor) -> dict[str, Tensor]:
        """Layer -> ``(n, D)``, channels innermost, as maps lie in memory."""
        layers = {INPUT: batch, **self.network.forward_taps(batch)[1]}
        return {name: maps.permute(0, 2, 3, 1).flatten(1) for name, maps in layers.items()}


def make_problem(
    n_images: int, *, width: float, batch_norm: bool, repeats: int, batch_size: int, seed: int, device: torch.device
) -> Problem:
    """All-CNN-C as initialised and smooth random colour images, the same on every device."""
    return Problem(
        network=make_network(width, batch_norm, seed, device),
        images=make_batches(1, n_images, 1, seed, device)[0].views,
        transform=augmentation(TRANSFORM),
        repeats=repeats,
        batch_size=batch_size,
        seed=seed,
    )


def _forward(problem: Problem) -> None:
    with evaluating(problem.network):
        for _ in range(2 + problem.repeats):
            for part in problem.slices():
                problem.network(problem.images[part])


def _augmentation(problem: Problem) -> None:
    for drawn in problem.draws():
        for part in problem.slices():
            problem.transformed(part, drawn)


def _streaming(problem: Problem) -> Sigma:
    return invariance_scores(
        problem.network,
        problem.images,
        layers=problem.network.layer_names,
        transform=problem.transform,
        repeats=problem.repeats,
        batch_size=problem.batch_size,
        seed=problem.seed,
    ).sigma


def published_scores(problem: Problem, dtype: torch.dtype = torch.float32) -> Sigma:
    """Eq. 2 from the N x N matrix of each layer, as the authors computed it.

    What costs them most is left out: nothing goes to disk, the transformed images' activations are not kept, and the
    squared norms are read off the diagonal.

    Args:
        problem: what to score.
        dtype: of the distances; float64 makes it the truth that others are compared with.
    """
    n_images = len(problem.images)
    with evaluating(problem.network):
        kept: dict[str, Tensor] = {}
        for part in problem.slices():
            for name, rows in problem.features(problem.images[part]).items():
                if name not in kept:
                    kept[name] = rows.new_empty(n_images, rows.shape[1])
                kept[name][part] = rows
        to_others = {name: _mean_distances(rows.to(dtype)) for name, rows in kept.items()}
        to_transformed = {name: rows.new_empty(problem.repeats, n_images, dtype=dtype) for name, rows in kept.items()}
        for repeat, drawn in enumerate(problem.draws()):
            for part in problem.slices():
                for name, rows in problem.features(problem.transformed(part, drawn)).items():
                    deviations = rows.to(dtype) - kept[name][part]
                    to_transformed[name][repeat, part] = deviations.square_().mean(1)
    return {name: (1 - to_transformed[name] / to_others[name]).double().cpu().numpy() for name in kept}


def _mean_distances(rows: Tensor) -> Tensor:
    """``(N,)`` mean of each row of the matrix of all d(x_i, x_j) of Eq. 1, by the Gram identity."""
    distances = rows @ rows.T
    squared_norms = distances.diagonal().clone()
    distances.mul_(-2).add_(squared_norms[:, None]).add_(squared_norms).div_(rows.shape[1])
    return distances.mean(1)


def _published_bytes(problem: Problem) -> int:
    """What the published way has to hold: all activations, and the matrix of a layer."""
    n_images = len(problem.images)
    with evaluating(problem.network):
        n_features = sum(rows.shape[1] for rows in problem.features(problem.images[:1]).values())
    return 4 * (n_images * n_features + n_images**2)


@dataclass(frozen=True)
class Arm:
    """One kind of work over all images.

    Attributes:
        name: what it is called on the command line and in results.
        description: what it does, in one line.
        run: does it; gives the scores where it makes them.
        nbytes: memory it is known to hold that grows with N.
        cancels: whether distances come out as small differences of large squares; sets the error it is allowed.
    """

    name: str
    description: str
    run: Callable[[Problem], Sigma | None]
    nbytes: Callable[[Problem], int] = lambda _problem: 0
    cancels: bool = False


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(FORWARD, "the 2 + repeats forward passes that streaming makes, and nothing else", _forward),
        Arm(STREAMING, "dainv.invariance_scores: sums, no pairs", _streaming),
        Arm(PUBLISHED, "N x N matrix of each layer by the Gram identity", published_scores, _published_bytes, True),
        Arm(AUGMENTATION, "drawing and applying the transformations alone", _augmentation),
    )
}
SCORING = (STREAMING, PUBLISHED)
