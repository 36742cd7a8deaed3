"""How far the mean of each class is from the mean of all images, from images that come class by class.

With m_c the mean of the n_c members of class c, the sum of squares within the class is that around the mean of all
images less n_c times its squared distance. One sum of deviations is open at a time, however many classes there are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dainv.ranks import Ranks
from dainv.scores.sums import Centre, column_sums


class ClassSums:
    """The squared norm of each class's sum of deviations from the mean of all images.

    Args:
        classes: ``(N,)`` class of each image from 0 on, ascending.
        parts: where the images of each process start and stop; a class may be in several.
        rank: number of this process.
        tensors: where sums are kept.
    """

    def __init__(self, classes: Tensor, parts: list[tuple[int, int]], rank: int, tensors: dict[str, Tensor]) -> None:
        self._classes, self._parts, self._tensors = classes, parts, tensors
        self._start = parts[rank][0]
        ends = [int(classes[place]) for start, stop in parts if stop > start for place in (start, stop - 1)]
        self._at_ends = sorted(set(ends))

    def begin(self, dimensions: Mapping[str, int], device: torch.device) -> None:
        """Start from nothing."""
        n_classes = int(self._classes[-1]) + 1
        for layer, dimension in dimensions.items():
            self._tensors[f"class/{layer}"] = torch.zeros(n_classes, dtype=torch.float64, device=device)
            for sums in ("first", "open"):
                self._tensors[f"{sums}/{layer}"] = torch.zeros(dimension, dtype=torch.float64, device=device)

    def add(self, layer: str, rows: Tensor, mean: Centre, place: int) -> None:
        """Take a batch into account.

        Args:
            layer: its name.
            rows: ``(n, D)`` activations.
            mean: of all images.
            place: of the first row among the images of this process.
        """
        first = self._start + place
        numbers, counts = self._classes[first : first + len(rows)].unique_consecutive(return_counts=True)
        at = 0
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            if first + at > self._start and int(self._classes[first + at - 1]) != number:
                self._close(layer, int(self._classes[first + at - 1]))
            self._tensors[f"open/{layer}"] += column_sums(rows[at : at + count], mean)[0]
            at += count

    def _close(self, layer: str, number: int) -> None:
        sums = self._tensors[f"open/{layer}"]
        if number == int(self._classes[self._start]):  # of which another process may have members
            self._tensors[f"first/{layer}"].copy_(sums)
        else:
            self._tensors[f"class/{layer}"][number] = sums.square().sum()
        sums.zero_()

    def squared_norms(self, layer: str, ranks: Ranks) -> Tensor:
        """``(classes,)`` over the images of all processes."""
        start, stop = self._parts[ranks.rank]
        norms = self._tensors[f"class/{layer}"].clone()
        ranks.sum_(norms)
        for number in self._at_ends:
            sums = torch.zeros_like(self._tensors[f"open/{layer}"])
            if stop > start and number == int(self._classes[stop - 1]):
                sums += self._tensors[f"open/{layer}"]
            elif stop > start and number == int(self._classes[start]):
                sums += self._tensors[f"first/{layer}"]
            ranks.sum_(sums)
            norms[number] = sums.square().sum()
        return norms
