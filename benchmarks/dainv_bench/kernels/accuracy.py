"""Before a method is timed: is what it computes right? Losses and gradients against float64, layer by layer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from dainv_bench import peers
from dainv_bench.kernels.cases import Case, InputSet, Workload
from dainv_bench.kernels.methods import LOSS, RELU, Method, Operation
from dainv_bench.roundings import GRADIENT_PER_KAPPA, LOSS_PER_KAPPA, LOSS_ROUNDINGS, kappa
from dainv_kernels.layout import accumulator_dtype, sample_rows

# Roundings of the accumulator's dtype that may come together, on features without a large common mean. Seen are less
# than a fifth of it, and of those of the loss.
_GRADIENT_ROUNDINGS = 400
# Gradients in half precision are rounded when they are written, and again where they are added to another.
_ROUNDINGS_OF_RESULT = 2


class Deviation(TypedDict):
    """A relative error, of the layer where it is largest for its bound, and that bound."""

    error: float
    bound: float


class Errors(TypedDict):
    """What a method computes against float64; no loss where it computes none."""

    loss: Deviation | None
    gradient: Deviation


def upstream_of(method: Method, workload: Workload, inputs: InputSet) -> list[Tensor]:
    """What the gradient starts from: an upstream gradient of each activation, B * D for each loss.

    So large a number for the loss makes its share of a gradient as large as that of the activation.
    """
    upstream: list[Tensor] = []
    for case, of_activation in zip(workload.cases, inputs.upstream, strict=True):
        if method.form != LOSS:
            upstream.append(of_activation)
        if method.form != RELU:
            upstream.append(_upstream_of_loss(case, of_activation.device))
    return upstream


def _upstream_of_loss(case: Case, device: torch.device) -> Tensor:
    return torch.full((), case.batch * case.features, dtype=accumulator_dtype(case.dtype), device=device)


class Truth(NamedTuple):
    """What a layer's loss and gradient are: float64, by the closed form.

    Attributes:
        loss: None where the form computes none.
        gradient: of the features.
        kappa: sum of squares of the activations over that of their deviations from the mean.
    """

    loss: Tensor | None
    gradient: Tensor
    kappa: float


def truth_of(form: str, workload: Workload, inputs: InputSet) -> list[Truth]:
    """Of each layer. That the closed form is Eq. 3 over explicit pairs is what the tests of dainv_kernels show.

    Args:
        form: of the methods that it is for.
        workload: its layers.
        inputs: what the methods run on.
    """
    return [_truth_of_layer(form, case, x, g) for case, x, g in zip(workload.cases, *inputs, strict=True)]


def _truth_of_layer(form: str, case: Case, x: Tensor, upstream: Tensor) -> Truth:
    exact = x.detach().double().requires_grad_()
    activation = exact if form == LOSS else exact.relu()
    loss = None if form == RELU else peers.closed_form(case.ids(x.device))(sample_rows(activation))
    differentiated, starts = [], []
    if form != LOSS:
        differentiated.append(activation)
        starts.append(upstream.double())
    if loss is not None:
        differentiated.append(loss)
        starts.append(_upstream_of_loss(case, x.device).double())
    (gradient,) = torch.autograd.grad(differentiated, exact, starts)
    return Truth(None if loss is None else loss.detach(), gradient, kappa(sample_rows(activation)))


def measure_errors(
    method: Method, operation: Operation, workload: Workload, inputs: InputSet, truth: Sequence[Truth]
) -> Errors:
    """Run a method forward and backward and compare it with the truth.

    Args:
        method: what to check.
        operation: made by it.
        workload: what it was made for.
        inputs: what to run it on.
        truth: of the same form, workload and inputs.

    Raises:
        ArithmeticError: its activation is not the ReLU of the features.
    """
    with _unwritten_is_nan() if method.ours else nullcontext():
        outputs = operation(inputs.features)
        gradients = torch.autograd.grad(outputs, inputs.features, upstream_of(method, workload, inputs))
    per_layer = len(outputs) // len(workload.cases)
    losses, of_gradients = [], []
    for i, (x, gradient, exact) in enumerate(zip(inputs.features, gradients, truth, strict=True)):
        mine = outputs[per_layer * i : per_layer * (i + 1)]
        if method.form != LOSS and not torch.equal(mine[0].detach(), x.detach().relu()):
            raise ArithmeticError("the activation is not the ReLU of the features")
        loss_bound, gradient_bound = _bounds(x.dtype, method.cancels * exact.kappa)
        of_gradients.append(Deviation(error=_relative_error(gradient, exact.gradient), bound=gradient_bound))
        if exact.loss is not None:
            losses.append(Deviation(error=_relative_error(mine[-1], exact.loss), bound=loss_bound))
    return Errors(loss=_worst(losses) if losses else None, gradient=_worst(of_gradients))


def _bounds(dtype: torch.dtype, cancelling: float) -> tuple[float, float]:
    """Of the loss and of the gradient."""
    unit = _unit(accumulator_dtype(dtype))
    gradient = unit * (_GRADIENT_ROUNDINGS + GRADIENT_PER_KAPPA * cancelling) + _ROUNDINGS_OF_RESULT * _unit(dtype)
    return unit * (LOSS_ROUNDINGS + LOSS_PER_KAPPA * cancelling), gradient


def complaint(errors: Errors) -> str | None:
    """None, or what is wrong beyond its bound."""
    for what, deviation in (("loss", errors["loss"]), ("gradient", errors["gradient"])):
        if deviation is not None and _excess(deviation) > 1:
            return f"{what} off by {deviation['error']:.1e}, at most {deviation['bound']:.1e} expected"
    return None


def _worst(deviations: Sequence[Deviation]) -> Deviation:
    return max(deviations, key=_excess)


def _excess(deviation: Deviation) -> float:
    """The error as a multiple of its bound; NaN is beyond any."""
    return math.inf if math.isnan(deviation["error"]) else deviation["error"] / deviation["bound"]


def _unit(dtype: torch.dtype) -> float:
    """The largest relative error of one rounding."""
    return torch.finfo(dtype).eps / 2


def _relative_error(got: Tensor, true: Tensor) -> float:
    return float((got.detach().double() - true.detach()).norm() / true.detach().norm())


@contextmanager
def _unwritten_is_nan() -> Iterator[None]:
    """New tensors begin as NaN, so that an element that a kernel forgets cannot be right by chance."""
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
