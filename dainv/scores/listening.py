"""A model that is listened to: each layer's output becomes a few numbers as soon as the layer has run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from dainv.errors import UserError, is_lack_of_memory
from dainv.models.foreign import first_line
from dainv.scores.images import placed
from dainv.scores.sums import rounding
from dainv.taps import Taps, evaluating, match_layers, uncompiled, version_of

INPUT = "input"  # the pixels, as a layer

Reduce = Callable[[str, Tensor], Tensor]
Prepare = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Form:
    """How the output of a layer is read as rows."""

    dimension: int
    rounding: float  # see :func:`dainv.scores.sums.rounding`
    channels_last: bool  # maps are read channels innermost where they lie so in memory, so that nothing is copied
    overwritten: bool  # by an operation in place that comes after the layer

    def rows(self, output: Tensor) -> Tensor:
        """``(n, D)``."""
        if self.channels_last:
            output = output.permute(0, 2, 3, 1)
        return output.flatten(1) if output.ndim > 1 else output[:, None]


class Listener:
    """Runs a model on batches of images and reduces what its layers put out.

    Args:
        model: any module, on the device, in eval mode.
        layers: pattern or patterns of layer names.
        device: where the model is.
        prepare: from images in [0, 1] to what the model expects, such as a normalisation; nothing if not given.

    Attributes:
        device: where the model is.
        dimensions: layer -> D, the pixels first, then in the order in which the layers run; after :meth:`probe`.
        notes: what is good to know about the layers.

    Raises:
        UserError: no layer matches.
    """

    def __init__(
        self, model: nn.Module, layers: str | Sequence[str], device: torch.device, prepare: Prepare | None = None
    ) -> None:
        self.device = device
        self._model = model
        self._prepare = prepare
        self._dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        self._forms: dict[str, _Form] = {}
        self._reduce: Reduce = _forget
        self._names = match_layers(model, layers)
        if INPUT in self._names:
            raise UserError(f"a layer of the model is called {INPUT!r}, which stands for the pixels; leave it out")
        self._taps: Taps | None = None
        self._calls: Counter[str] = Counter()  # of each layer in a forward pass; its last output counts
        self._left: Counter[str] = Counter()  # of them, those still to come in the pass in progress
        self.notes: list[str] = []

    @property
    def dimensions(self) -> dict[str, int]:
        """Layer -> D, the pixels first, then in the order in which the layers run."""
        return {name: form.dimension for name, form in self._forms.items()}

    @property
    def layers(self) -> list[str]:
        """Names of the layers in the order in which they run, without the pixels."""
        return [name for name in self._forms if name != INPUT]

    @property
    def roundings(self) -> dict[str, float]:
        """Layer -> how much of an activation rounding may change, see :func:`dainv.scores.sums.rounding`."""
        return {name: form.rounding for name, form in self._forms.items()}

    def _forward(self, batch: Tensor) -> None:
        x = batch.clone()  # the network may write over what it is given
        if self._prepare is not None:
            x = self._prepare(x)
        try:
            self._model(x.to(self._dtype))
        except UserError:
            raise
        except Exception as error:  # whatever a model raises at images that it is not made for
            if is_lack_of_memory(error):
                raise
            shape = tuple(batch.shape[1:])
            raise UserError(f"the model does not accept images of shape {shape}: {first_line(error)}") from error

    def probe(self, batch: Tensor) -> dict[str, Tensor]:
        """Find out what the layers put out, and start listening.

        Args:
            batch: two images, on any device.

        Returns:
            Layer -> ``(D,)`` activations of the first image, float32 or better.

        Raises:
            UserError: the model does not accept them, or a layer puts out what cannot be scored.
        """
        batch = placed(batch, self.device)
        calls = self._calls = Counter()
        seen: dict[str, tuple[Tensor, int | None]] = {}

        def look(name: str, output: Tensor) -> Tensor:
            calls[name] += 1
            seen.pop(name, None)  # the order in which the layers are done
            seen[name] = output, version_of(output)
            return output.new_empty(0)

        taps = Taps(self._model, self._names, look)
        try:
            self._forward(batch)
        finally:
            taps.remove()
        if idle := [name for name in self._names if name not in calls]:
            raise UserError(f"layers that do not run in the model's forward pass: {_listed(idle)}; choose others")
        self._forms[INPUT] = _form(INPUT, batch, len(batch), overwritten=False)
        for name, (output, version) in seen.items():
            self._forms[name] = _form(name, output, len(batch), overwritten=version_of(output) != version)
        if repeated := [name for name, n in calls.items() if n > 1]:
            self.notes.append(f"layers that run several times count with their last output: {_listed(repeated)}")
        self._taps = Taps(self._model, self._names, self._on_output)
        outputs = {INPUT: batch, **{name: output for name, (output, _) in seen.items()}}
        firsts = {name: form.rows(outputs[name])[0].clone() for name, form in self._forms.items()}
        return {name: first if first.dtype == torch.float64 else first.float() for name, first in firsts.items()}

    def _on_output(self, name: str, output: Tensor) -> Tensor:
        self._left[name] -= 1
        if self._left[name] > 0:
            return output.new_empty(0)
        rows = self._rows(name, output)
        kept = self._reduce(name, rows)
        return kept.clone() if self._forms[name].overwritten and kept is rows else kept

    def _rows(self, name: str, output: Tensor) -> Tensor:
        form = self._forms[name]
        rows = form.rows(output)
        if rows.shape[1] != form.dimension:
            raise UserError(
                f"layer {name!r} put out {form.dimension} features an image before and {rows.shape[1]} now; "
                "a score compares images of one size"
            )
        return rows

    def run(self, batch: Tensor, reduce: Reduce) -> dict[str, Tensor]:
        """One forward pass.

        Args:
            batch: ``(n, C, H, W)`` images in [0, 1], on any device.
            reduce: given layer and ``(n, D)`` activations, what to keep of them.

        Returns:
            Layer -> what was kept, the pixels first.

        Raises:
            UserError: the model does not accept them, or runs its layers less often than at the first images.
        """
        assert self._taps is not None, "probe first"
        self._reduce, self._left = reduce, self._calls.copy()
        batch = placed(batch, self.device)
        pixels = reduce(INPUT, self._rows(INPUT, batch))
        try:
            self._forward(batch)
        finally:
            self._reduce = _forget  # it may hold the activations of other images
        if fewer := [name for name in self._forms if self._left[name] > 0]:
            raise UserError(f"layers that ran less often than at the first images: {_listed(fewer)}; choose others")
        return {INPUT: pixels, **self._taps.take()}

    def stop(self) -> None:
        """Stop listening."""
        if self._taps is not None:
            self._taps.remove()


@contextmanager
def listening(
    model: nn.Module,
    layers: str | Sequence[str],
    device: torch.device | str | None = None,
    prepare: Prepare | None = None,
) -> Iterator[Listener]:
    """A model on a device, in eval mode and listened to, and all of it back as it was.

    Args:
        model: any module.
        layers: pattern or patterns of layer names.
        device: where to compute; the model's device if not given.
        prepare: see :class:`Listener`.

    Raises:
        UserError: no layer matches.
        TypeError: the model is no module.
    """
    model = uncompiled(model)
    was_on = next((one.device for one in chain(model.parameters(), model.buffers())), torch.device("cpu"))
    listener = Listener(model, layers, was_on if device is None else torch.device(device), prepare)
    try:
        with evaluating(model.to(listener.device)), _out_of_place(model):
            yield listener
    finally:
        listener.stop()
        model.to(was_on)


@contextmanager
def _out_of_place(model: nn.Module) -> Iterator[None]:
    """Activations such as ``ReLU(inplace=True)`` leave the output of the layer before them as it is."""
    changed = [module for module in model.modules() if getattr(module, "inplace", None) is True]
    try:
        for module in changed:
            module.inplace = False  # type: ignore[assignment]
        yield
    finally:
        for module in changed:
            module.inplace = True  # type: ignore[assignment]


def _forget(_layer: str, rows: Tensor) -> Tensor:
    return rows.new_empty(0)


def _form(name: str, output: Tensor, n_images: int, overwritten: bool) -> _Form:
    if not output.is_floating_point():
        raise UserError(f"layer {name!r} puts out {output.dtype}; expected floating-point activations")
    if output.ndim == 0 or output.shape[0] != n_images or output.numel() == 0:
        raise UserError(
            f"layer {name!r} puts out the shape {tuple(output.shape)} for {n_images} images; "
            "expected one row of features for each image, the images first"
        )
    channels_last = output.ndim == 4 and output.is_contiguous(memory_format=torch.channels_last)
    return _Form(output[0].numel(), rounding(output.dtype), channels_last, overwritten)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
