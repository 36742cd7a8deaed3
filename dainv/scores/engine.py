"""Two passes over the images: the mean representation of each layer, then distances to it and to transformed selves.

Memory is a few vectors of D features a layer, one batch of activations, and the distances, which are a number for each
image, layer and transformation. Nothing makes the host wait for a GPU within a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from dainv.image_checks import RangeCheck, check_form
from dainv.ranks import Ranks
from dainv.scores.classes import ClassSums
from dainv.scores.images import ImageSource, parts, placed
from dainv.scores.listening import Listener
from dainv.scores.partial import Partial, PartialFile
from dainv.scores.sums import Centre, column_sums, squared_distances
from dainv.scores.transforms import Draws, Transformation
from dainv.scores.variance import VarianceRatio, VarianceSums
from dainv.signals import Interrupted

_MOST_ACTIVATIONS = 1 << 28  # of a batch, all layers together: 1 GiB of float32


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        source: the images, class by class if there are labels.
        order: ``(N,)`` places of the images in the set they came from.
        classes: ``(N,)`` class of each image in the source's order, from 0 on without gaps; None without labels.
        transformations: all that are scored.
        batch_size: images at a time, at most.
        seed: of the transformations.
        variances: whether to take the sums for the variance ratios.
    """

    source: ImageSource
    order: Tensor
    classes: Tensor | None
    transformations: Sequence[Transformation]
    batch_size: int
    seed: int
    variances: bool = False


@dataclass(frozen=True)
class Distances:
    """Sums over features of squared differences; divided by D they are the d of Eq. 1.

    Attributes:
        dimensions: layer -> D, the pixels first.
        to_mean: layer -> ``(N,)`` to the mean representation.
        to_transformed: transformation -> layer -> ``(repeats, N)`` to the image's transformed selves.
        class_norms: layer -> ``(classes,)`` squared norm of a class's summed deviations from the mean, if there are
            labels.
        variances: transformation -> layer -> variance ratio, where asked for.
        not_finite: layers whose mean is infinite or NaN.
        constant: layers that differ between images by no more than rounding.
        notes: what is good to know.
    """

    dimensions: dict[str, int]
    to_mean: dict[str, np.ndarray]
    to_transformed: dict[str, dict[str, np.ndarray]]
    class_norms: dict[str, np.ndarray]
    variances: dict[str, dict[str, VarianceRatio]]
    not_finite: list[str]
    constant: list[str]
    notes: list[str]


class Engine:
    """Does the work of one process.

    Args:
        work: what is to be done.
        listener: the model.
        ranks: the processes that share the work.
        file: where unfinished work is kept; nowhere if not given.
        progress: a display to report to.
        stop: asked after each batch whether to save and stop.
    """

    def __init__(
        self,
        work: Work,
        listener: Listener,
        ranks: Ranks,
        file: PartialFile | None = None,
        progress: Progress | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._work, self._listener, self._device, self._ranks = work, listener, listener.device, ranks
        self._file, self._asked_to_stop = file, stop
        self._range = RangeCheck(listener.device)
        first_two = torch.cat(list(work.source.batches(0, 2, 2)))
        self._references = listener.probe(self._checked(first_two))
        self._batch = min(work.batch_size, max(1, _MOST_ACTIVATIONS // sum(listener.dimensions.values())))
        self._parts = parts(len(work.source), self._batch, ranks.size)
        self._start, self._stop = self._parts[ranks.rank]
        self._columns = sum(transformation.repeats for transformation in work.transformations)
        self._kept: dict[str, Tensor] = {}
        self._state = Partial()
        self._advance: Callable[[int], None] = lambda _n: None
        if progress is not None:
            task = progress.add_task("scores", total=(self._stop - self._start) * (2 + self._columns))
            self._advance = lambda n: progress.advance(task, n)

    def run(self) -> Distances:
        """Both passes.

        Raises:
            ValueError: images outside [0, 1], or a transformation that changes shape or dtype.
            UserError: a layer that cannot be scored, or unfinished work that does not fit.
            Interrupted: asked to stop; the work so far is saved.
        """
        if self._file is not None and (stored := self._file.load(self._device)) is not None:
            self._state = stored
        self._agree_on_means()
        if self._state.stage == "means":
            self._first_pass()
        else:
            self._advance(self._stop - self._start)
        distances = self._second_pass()
        if self._file is not None:
            self._file.remove()
        return distances

    def _checked(self, batch: Tensor) -> Tensor:
        """A batch on the device, once it is known to be images in [0, 1]."""
        check_form(batch)
        batch = batch if batch.dtype == torch.float64 else batch.float()
        if batch.device.type == "cpu":
            check = RangeCheck(batch.device)
            check.add(batch)
            check.refuse()
        else:
            self._range.add(batch.to(self._device))
        return placed(batch, self._device)

    def _finished(self, batch: Tensor) -> None:
        """Count a batch and save, if it is time or the last chance."""
        self._state.done += len(batch)
        if self._file is None:
            return
        stopping = self._asked_to_stop()
        self._file.save(self._state, now=stopping)
        if stopping:
            raise Interrupted

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.float64, device=self._device)

    def _agree_on_means(self) -> None:
        """Give the means to processes that were stopped just before they had them."""
        have = self._state.stage == "distances"
        count = torch.tensor([float(have)], device=self._device)
        self._ranks.sum_(count)
        if not 0 < float(count) < self._ranks.size:
            return
        tensors = {}
        for layer, dimension in self._listener.dimensions.items():
            offset = self._state.tensors[f"offset/{layer}"].double() if have else self._zeros(dimension)
            self._ranks.sum_(offset)
            tensors[f"offset/{layer}"] = (offset / float(count)).to(self._references[layer].dtype)
        if not have:
            self._state = Partial("distances", 0, tensors)

    def _first_pass(self) -> None:
        state, dimensions, references = self._state, self._listener.dimensions, self._references
        if not state.tensors:
            state.tensors |= {f"sum/{layer}": self._zeros(dimension) for layer, dimension in dimensions.items()}
        self._advance(state.done)

        def reduce(layer: str, rows: Tensor) -> Tensor:
            return column_sums(rows, references[layer])[0]

        for images in self._work.source.batches(self._start + state.done, self._stop, self._batch):
            batch = self._checked(images)
            for layer, sums in self._listener.run(batch, reduce).items():
                state.tensors[f"sum/{layer}"] += sums
            self._advance(len(batch))
            self._finished(batch)
        self._range.refuse()
        if self._file is not None and self._ranks.size > 1:
            self._file.save(state, now=True)  # the others may take long to come here, or never do
        offsets = {}
        for layer, reference in references.items():
            total = self._ranks.sum_(state.tensors[f"sum/{layer}"].clone())
            offsets[f"offset/{layer}"] = (total / len(self._work.source)).to(reference.dtype)
        self._state = Partial("distances", 0, offsets)

    def _mean(self, layer: str) -> Centre:
        return Centre(self._references[layer], self._state.tensors[f"offset/{layer}"])

    def _second_pass(self) -> Distances:
        state, work, tensors = self._state, self._work, self._state.tensors
        n_here = self._stop - self._start
        dimensions = self._listener.dimensions
        classes = ClassSums(work.classes, self._parts, self._ranks.rank, tensors) if work.classes is not None else None
        draws = [
            Draws(one, work.order[self._start : self._stop], len(work.source), work.seed, self._device)
            for one in work.transformations
        ]
        variances = [VarianceSums(str(n), one.repeats, tensors) for n, one in enumerate(work.transformations)]
        if not state.done:
            for layer in dimensions:
                tensors[f"to_mean/{layer}"] = self._zeros(n_here)
                tensors[f"to_transformed/{layer}"] = self._zeros(self._columns, n_here)
            if classes is not None:
                classes.begin(dimensions, self._device)
            for sums in variances if work.variances else ():
                sums.begin(dimensions, self._device)
        self._advance(state.done * (1 + self._columns))
        for images in work.source.batches(self._start + state.done, self._stop, self._batch):
            batch = self._checked(images)
            place = slice(state.done, state.done + len(batch))
            original = self._listener.run(batch, self._keep)
            for layer, rows in original.items():
                mean = self._mean(layer)
                tensors[f"to_mean/{layer}"][place] = squared_distances(rows, mean)
                if classes is not None:
                    classes.add(layer, rows, mean, place.start)
            self._advance(len(batch))
            column = 0
            for draw, sums in zip(draws, variances, strict=True):
                for repeat in range(draw.transformation.repeats):
                    transformed = draw(batch, repeat, place.start, self._start + place.start)
                    for layer, value in self._distances(transformed, original, repeat, sums).items():
                        tensors[f"to_transformed/{layer}"][column, place] = value
                    self._advance(len(batch))
                    column += 1
            del original
            self._finished(batch)
        self._range.refuse()
        return self._joined(draws, classes, variances)

    def _keep(self, layer: str, rows: Tensor) -> Tensor:
        """The activations of the images themselves, until the transformed ones have been compared with them.

        On a CPU they are copied to memory that is there already: holding on to what the model has allocated makes it
        ask the system for new pages in every pass, which costs more than the copy.
        """
        if rows.device.type != "cpu":
            return rows
        if layer not in self._kept:
            self._kept[layer] = rows.new_empty(self._batch, rows.shape[1])
        return self._kept[layer][: len(rows)].copy_(rows)

    def _distances(
        self, transformed: Tensor, original: dict[str, Tensor], repeat: int, sums: VarianceSums
    ) -> dict[str, Tensor]:
        """Layer -> ``(n,)`` from transformed images to originals."""
        if not self._work.variances:  # each layer as soon as it has run, while the cache may still have it
            return self._listener.run(transformed, lambda layer, rows: squared_distances(rows, original[layer]))
        found = self._listener.run(transformed, lambda _layer, rows: rows)
        for layer, rows in found.items():
            sums.add(repeat, layer, rows, original[layer], self._mean(layer))
        return {layer: squared_distances(rows, original[layer]) for layer, rows in found.items()}

    def _joined(
        self, draws: Sequence[Draws], classes: ClassSums | None, variances: Sequence[VarianceSums]
    ) -> Distances:
        """The distances of all processes, in the order of the images as they were given."""
        work, tensors, dimensions = self._work, self._state.tensors, self._listener.dimensions
        n_images = len(work.source)
        names = [one.name for one in work.transformations]
        ends = list(accumulate(one.repeats for one in work.transformations))
        to_mean, to_transformed = {}, {name: {} for name in names}  # type: ignore[var-annotated]
        for layer in dimensions:
            every = self._zeros(1 + self._columns, n_images)
            every[0, self._start : self._stop] = tensors[f"to_mean/{layer}"]
            every[1:, self._start : self._stop] = tensors[f"to_transformed/{layer}"]
            self._ranks.sum_(every)
            given = np.empty(every.shape)
            given[:, work.order.numpy()] = every.cpu().numpy()
            to_mean[layer] = given[0]
            for name, one, end in zip(names, work.transformations, ends, strict=True):
                to_transformed[name][layer] = given[1 + end - one.repeats : 1 + end]
        return Distances(
            dimensions=dimensions,
            to_mean=to_mean,
            to_transformed=to_transformed,
            class_norms={}
            if classes is None
            else {layer: classes.squared_norms(layer, self._ranks).cpu().numpy() for layer in dimensions},
            variances={
                name: {layer: sums.ratio(layer, n_images, self._ranks) for layer in dimensions}
                for name, sums in zip(names, variances, strict=True)
                if work.variances
            },
            not_finite=[layer for layer in dimensions if not bool(tensors[f"offset/{layer}"].isfinite().all())],
            constant=[layer for layer in dimensions if self._is_constant(layer, to_mean[layer])],
            notes=[*self._listener.notes, *(note for draw in draws if (note := _left_range(draw)))],
        )

    def _is_constant(self, layer: str, to_mean: np.ndarray) -> bool:
        mean = self._mean(layer)
        square = float((mean.reference + mean.offset).double().square().sum())
        return bool(to_mean.mean() <= self._listener.roundings[layer] ** 2 * square)


def _left_range(draw: Draws) -> str | None:
    came = draw.outside()
    return None if came is None else f"{draw.transformation.title} left [0, 1]: {came}; scored as it is"
