"""Which device and which backend of the operator a run takes."""

from __future__ import annotations

import pytest
import torch

from dainv.devices import resolve_backend, resolve_device
from dainv.errors import UserError
from dainv.settings import TrainSettings

CPU = torch.device("cpu")


def resolved(monkeypatch: pytest.MonkeyPatch, native: str | None, **settings: object) -> tuple[str, list[str]]:
    """Backend and messages where Triton does not work and native kernels do not either, if a reason is given."""
    monkeypatch.setattr("dainv_kernels.backends._why_not_triton", lambda: "no CUDA device")
    monkeypatch.setattr("dainv_kernels.native.why_not", lambda: native)
    messages: list[str] = []
    return resolve_backend(TrainSettings(**settings), CPU, messages.append), messages


@pytest.mark.parametrize("name", ["meta", "cuda:99", "abacus"])
def test_a_device_that_cannot_compute_here_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"--device {name}: "):
        resolve_device(name)


@pytest.mark.parametrize(("native", "expected"), [(None, "native"), ("no C compiler", "torch")])
def test_a_cpu_takes_the_fastest_backend_that_works(
    monkeypatch: pytest.MonkeyPatch, native: str | None, expected: str
) -> None:
    assert resolved(monkeypatch, native) == (expected, [])
    backend, messages = resolved(monkeypatch, native, fused=True)
    assert backend == expected
    assert len(messages) == 1
    assert "no CUDA device" in messages[0]
    assert repr(expected) in messages[0]


def test_a_backend_that_is_asked_for_is_taken_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved(monkeypatch, None, backend="torch") == ("torch", [])
    assert resolved(monkeypatch, None, backend="torch", fused=True) == ("torch", [])
    with pytest.raises(UserError, match="--backend: backend 'native' does not work here: no C compiler"):
        resolved(monkeypatch, "no C compiler", backend="native")


@pytest.mark.gpu
@pytest.mark.parametrize(("fused", "expected"), [(False, "torch"), (True, "triton")])
def test_a_gpu_takes_triton_for_what_is_fused(fused: bool, expected: str) -> None:
    assert resolve_backend(TrainSettings(fused=fused), torch.device("cuda"), pytest.fail) == expected
