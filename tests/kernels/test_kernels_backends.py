"""Which backends there are, which one is chosen, and what one that cannot work says."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from kernels_checks import evaluate
from kernels_inputs import CONSECUTIVE, grouped

from dainv_kernels import available_backends, backend_status, invariance_loss
from dainv_kernels.backends import choose_backend

X = grouped(CONSECUTIVE, 5).float()


def test_every_backend_works_where_the_tests_run(backend: str) -> None:
    # The fixture skips Triton only where it is not installed, so that a backend cannot drop out unseen.
    assert backend in available_backends()
    assert backend_status()[backend] == "works"


def test_status_names_every_backend() -> None:
    assert set(backend_status()) == {"reference", "torch", "native", "triton", "triton-pairwise"}
    assert available_backends() == tuple(name for name, status in backend_status().items() if status == "works")


@pytest.mark.parametrize(("reason", "expected"), [(None, "native"), ("no C compiler", "torch")])
def test_auto_is_native_on_the_cpu_and_torch_where_that_does_not_work(
    monkeypatch: pytest.MonkeyPatch, reason: str | None, expected: str
) -> None:
    monkeypatch.setattr("dainv_kernels.native.why_not", lambda: reason)
    assert choose_backend("auto", X) == expected


@pytest.mark.gpu
def test_native_refuses_features_on_a_gpu() -> None:
    with pytest.raises(RuntimeError, match="CPU"):
        invariance_loss(X.cuda(), CONSECUTIVE.cuda(), backend="native")


@pytest.mark.gpu
def test_auto_is_triton_on_a_gpu() -> None:
    x, ids = X.cuda(), CONSECUTIVE.cuda()
    for got, expected in zip(evaluate(x, ids, "auto"), evaluate(x, ids, "triton"), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.gpu
def test_triton_refuses_features_on_the_cpu_of_a_gpu_machine() -> None:
    with pytest.raises(RuntimeError, match="cpu"):
        invariance_loss(X, CONSECUTIVE, backend="triton")


def test_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match=r"backend.*'triton'.*'cuda-c'"):
        invariance_loss(X, CONSECUTIVE, backend="cuda-c")


def test_unknown_normalization_is_named(backend: str, device: torch.device) -> None:
    with pytest.raises(ValueError, match=r"normalization.*'printed'.*'pair'"):
        invariance_loss(X.to(device), CONSECUTIVE.to(device), normalization="pair", backend=backend)


TRY_TRITON = """
import json, torch
from dainv_kernels import available_backends, backend_status, invariance_loss
x = torch.tensor([[0.0], [2.0], [10.0], [14.0]], requires_grad=True)
ids = torch.tensor([0, 0, 1, 1])
losses = [invariance_loss(x, ids, backend=name).item() for name in ("reference", "torch", "auto")]
invariance_loss(x, ids, backend="torch").backward()
try:
    invariance_loss(x, ids, backend="triton")
    error = None
except RuntimeError as reason:
    error = str(reason)
print(json.dumps([losses, x.grad.flatten().tolist(), available_backends(), backend_status(), error]))
"""


@pytest.mark.parametrize(
    ("before", "reason"),
    [("import sys; sys.modules['triton'] = None\n", "cannot be imported"), ("", "no CUDA device")],
    ids=["triton missing", "no GPU"],
)
def test_without_triton_torch_works_and_the_reason_is_said(
    fresh_python: Callable[..., str], before: str, reason: str
) -> None:
    losses, gradient, available, status, error = json.loads(fresh_python(before + TRY_TRITON))
    # By hand: x as in test_kernels_truth; gradient 2/T (w (x_i - m_k) - L (x_i - m)), T = 131, w = 3/2, m = 6.5.
    loss = 60 / 524
    expected = [2 / 131 * (1.5 * (x - m) - loss * (x - 6.5)) for x, m in ((0, 1), (2, 1), (10, 12), (14, 12))]
    assert losses == pytest.approx([loss] * 3, rel=2e-6)
    assert gradient == pytest.approx(expected, rel=2e-5)
    assert [name for name in available if name != "native"] == ["reference", "torch"]
    assert reason in status["triton"]
    assert reason in error


def test_a_triton_that_cannot_compile_the_kernels_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr("triton.__version__", "3.2.0")
    assert "Triton 3.2.0" in backend_status()["triton"]
