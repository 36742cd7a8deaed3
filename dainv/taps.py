"""Finding layers of a model by name and listening to what they put out."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from dainv.errors import UserError

OVERWRITTEN = (
    "its output was overwritten by an operation in place, such as a ReLU(inplace=True) after it; "
    "choose that layer instead, or make it work out of place"
)


def uncompiled(model: nn.Module) -> nn.Module:
    """The module whose layers run; of one that ``torch.compile`` has made, that which it was made of.

    Raises:
        TypeError: it is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    inner: nn.Module = getattr(model, "_orig_mod", model)
    return inner


def match_layers(model: nn.Module, patterns: str | Sequence[str]) -> list[str]:
    """Names of the modules that match, in the order of ``model.named_modules()``.

    Args:
        model: any module.
        patterns: one or several shell-style patterns over dotted names, such as ``"layer*"`` or ``"*.relu"``.

    Raises:
        UserError: a pattern matches no module; the message lists near names.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    scripted = [name for name, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    names = [name for name, _ in model.named_modules() if name and name not in scripted]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            if any(fnmatchcase(name, pattern) for name in scripted):
                raise UserError(
                    f"{pattern!r} is inside a TorchScript program, where torch calls no hooks; only "
                    f"{', '.join(names)} can be tapped (a torch.export file or module:function shows all layers)"
                )
            near = difflib.get_close_matches(pattern, names, n=5, cutoff=0.3)
            hint = f"; near names: {', '.join(near)}" if near else ""
            raise UserError(f"no layer matches {pattern!r}{hint} (`dainv layers MODEL` lists all)")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def tensor_output(name: str, output: object) -> Tensor:
    """What a layer put out, if that is a tensor.

    Raises:
        UserError: it is something else, such as the tuple of an attention layer.
    """
    if not isinstance(output, Tensor):
        raise UserError(f"layer {name!r} puts out a {type(output).__name__}, not a tensor; choose one inside it")
    return output


class Taps:
    """Keeps the newest output of some layers of a model.

    A layer that runs several times in one forward pass (a ReLU shared by a block) is known by its last output. Copies
    of the model (an average of its weights, a model saved whole) are not listened to.

    Args:
        model: whose layers to listen to.
        names: of the layers.
        on_output: given name and output, what to keep instead of the output.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        on_output: Callable[[str, Tensor], Tensor] = lambda _name, output: output,
    ) -> None:
        modules = dict(model.named_modules())
        self.names = list(names)
        self._on_output = on_output
        # what is kept, what must stay as it is for that, and the number of times that had been written to
        self._kept: dict[str, tuple[Tensor, Tensor, int | None]] = {}
        self._handles = [modules[name].register_forward_hook(_Tap(self, name)) for name in self.names]

    def listen(self, name: str, output: object) -> None:
        """Keep what a layer put out, or what ``on_output`` makes of it."""
        tensor = tensor_output(name, output)
        if version_of(tensor) is None:  # an operation in place that comes after would not be noticed
            tensor = tensor.clone()
        kept = self._on_output(name, tensor)
        self._kept.pop(name, None)  # known by its last output, in place as well
        # The backward pass of a loss reads the output that the loss was taken of.
        read = tensor.detach() if kept.requires_grad else kept
        self._kept[name] = kept, read, version_of(read)

    def take(self) -> dict[str, Tensor]:
        """The outputs in the order in which the layers ran; forgets them, so that no activation outlives its step.

        Raises:
            RuntimeError: a layer has not run since the last call.
            UserError: an output has been overwritten by what comes after the layer.
        """
        missing = [name for name in self.names if name not in self._kept]
        if missing:
            raise RuntimeError(f"layers {missing} have not run: call the model before asking for its activations")
        kept, self._kept = self._kept, {}
        for name, (_, read, version) in kept.items():
            if version is not None and version_of(read) not in (None, version):
                raise UserError(f"layer {name!r}: {OVERWRITTEN}")
        return {name: output for name, (output, _, _) in kept.items()}

    def remove(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()
        self._kept.clear()


class _Tap:
    """The hook of a layer. In a copy of the model, also in one read from a file, it is deaf: that is another network.

    Args:
        taps: whom to tell, if anybody.
        name: of the layer.
    """

    def __init__(self, taps: Taps | None = None, name: str = "") -> None:
        self._taps, self._name = taps, name

    def __call__(self, _module: nn.Module, _inputs: object, output: object) -> None:
        if self._taps is not None:
            self._taps.listen(self._name, output)

    def __reduce__(self) -> tuple[type[_Tap], tuple[()]]:
        return _Tap, ()


def version_of(tensor: Tensor) -> int | None:
    """How often it has been written to, where torch counts that."""
    # A compiler writes over nothing that is still needed, and the versions of what it returns are its own.
    return None if torch.compiler.is_compiling() or tensor.is_inference() else tensor._version


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode without gradients, and every module of it back as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
