"""Who is wrong is found before anything is timed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from bench_helpers import CPU, KERNEL_METHODS, SMALL
from torch import Tensor

from dainv_bench import peers
from dainv_bench.kernels import methods
from dainv_bench.kernels.accuracy import complaint, measure_errors, truth_of
from dainv_bench.kernels.cases import DTYPES, Workload, make_sets
from dainv_bench.kernels.methods import LOSS, RELU, Method, OfLayer
from dainv_kernels.layout import sample_rows


def altered(of_layer: OfLayer, form: str = LOSS) -> Method:
    return Method("altered", "wrong on purpose", form, lambda _case, _device: of_layer, ours=True)


def complaint_about(method: Method, dtype: torch.dtype = torch.float32) -> str | None:
    workload = Workload("two", (SMALL, replace(SMALL, shape=(7, 3, 3)))).to(dtype)
    inputs = make_sets(workload, 1, 0, CPU)[0]
    truth = truth_of(method.form, workload, inputs)
    return complaint(measure_errors(method, method.prepare(workload, CPU), workload, inputs, truth))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("name", [*KERNEL_METHODS, "reference"])
def test_methods_are_right(name: str, dtype: torch.dtype) -> None:
    assert complaint_about(methods.methods()[name], dtype) is None


def right(x: Tensor) -> Tensor:
    return peers.closed_form(SMALL.ids("cpu"))(sample_rows(x))


class _HalfWritten(torch.autograd.Function):
    """Right in the forward pass; forgets the last half of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return right(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            (full,) = torch.autograd.grad(right(x), x, grads[0])
        written = torch.empty_like(full)
        written[:6] = full[:6]
        return written


@pytest.mark.parametrize(
    ("of_layer", "what"),
    [
        (lambda x: (1.001 * right(x),), "loss off by 1.0e-03"),
        (lambda x: (right(x).detach() + 0 * right(x),), "gradient off by 1.0e"),
        (lambda x: (right(x) + 1e-3 * (right(x) - right(x).detach()),), "gradient off by 1.0e-03"),
        (lambda x: (right(x) * torch.nan,), "loss off by nan"),
        (lambda x: (_HalfWritten.apply(x),), "gradient off by nan"),
    ],
    ids=["loss", "no gradient", "gradient", "nan", "unwritten"],
)
def test_what_is_wrong_is_seen(of_layer: OfLayer, what: str) -> None:
    assert what in str(complaint_about(altered(of_layer)))


def test_an_activation_that_is_not_the_relu_is_seen() -> None:
    with pytest.raises(ArithmeticError, match="not the ReLU"):
        complaint_about(altered(lambda x: (torch.nn.functional.leaky_relu(x),), RELU))


def test_checking_does_not_leave_torch_deterministic() -> None:
    complaint_about(methods.methods()["torch"])
    assert not torch.are_deterministic_algorithms_enabled()
