"""What a CUDA graph cannot hold, looked for without a GPU: shapes and devices are computed as if there were one.

Tensors here are fake: they know a shape, a dtype and the device "cuda", and hold nothing. Whoever mixes devices or
reads a value back to the host fails by that; who sends something from the host is found by listening to all operations.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dainv.augment import PARAMETERS, SCHEMES
from dainv.models.allcnn import AllCNNC
from dainv.models.tapped import TappedNetwork
from dainv.objective import _vector, layer_weights, weigh
from dainv.training.losses import StepLosses
from dainv.training.optimizer import capturable_sgd, set_learning_rate
from dainv_kernels import Groups, closed_form, registration

pytest.importorskip("torch", minversion="2.11", reason="older ones ask for a driver even where nothing is computed")

CUDA = torch.device("cuda", 0)
K, M = 3, 4
N = K * M


class SentFromTheHost(AssertionError):
    """A tensor came from the host: a graph would replay what it was at first, and a GPU has to be waited for."""


class _NothingFromTheHost(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.dtypes: dict[str, set[torch.dtype]] = {}  # operation -> of what it gave

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given, made = (
            {x.device.type for x in tree_leaves(values) if isinstance(x, Tensor)} for values in ((args, kwargs), out)
        )
        if "cpu" in given and "cuda" in made and func is not torch.ops.aten.fill_.Tensor:  # which is given a number
            raise SentFromTheHost(str(func))
        if isinstance(out, Tensor):
            self.dtypes.setdefault(str(func), set()).add(out.dtype)
        return out


def recording() -> _NothingFromTheHost:
    """Around what a recorded step does."""
    return _NothingFromTheHost()


@pytest.fixture
def fake() -> Iterator[FakeTensorMode]:
    _vector.cache_clear()  # what one mode has made is of no use in another
    with torch.no_grad(), FakeTensorMode() as mode:
        yield mode
    _vector.cache_clear()


def on_gpu(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=CUDA)


@pytest.mark.parametrize("made", [lambda x: x.new_tensor([1.0]), lambda x: torch.tensor([1.0], device=x.device)])
@pytest.mark.usefixtures("fake")
def test_the_rehearsal_finds_what_is_sent_from_the_host(made: Any) -> None:
    with pytest.raises(SentFromTheHost), recording():
        made(on_gpu(1))


@pytest.mark.usefixtures("fake")
def test_the_rehearsal_finds_what_is_read_back() -> None:
    for read in (Tensor.item, bool, float, Tensor.tolist):
        with pytest.raises((DataDependentOutputException, RuntimeError, TypeError)), recording():
            read(on_gpu(1).sum())


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("fake")
def test_the_closed_form_in_torch_can_be_recorded(dtype: torch.dtype, relu: bool) -> None:
    segments = Groups.consecutive(K, M, CUDA).segments("pairs")
    features, upstream = on_gpu(N, 5, 2, 2, dtype=dtype), on_gpu(N, 5, 2, 2, dtype=dtype)
    bias, grad_loss = on_gpu(5), on_gpu()
    with recording():
        if relu:
            loss, sums, mean_offset = registration.activate(features, bias, features, segments, "torch")
        else:
            loss, sums, mean_offset = closed_form.forward(features.flatten(1), segments)
        registration.differentiate(
            grad_loss, features, segments, sums, mean_offset, "torch", upstream=upstream, relu=relu, out=upstream
        )
    assert (loss.device, sums.dtype, mean_offset.shape) == (CUDA, torch.float64, (20,))


@pytest.mark.usefixtures("fake")
def test_groups_can_be_made_within_a_recording() -> None:
    ids = on_gpu(N, dtype=torch.int64)
    with recording():
        for groups in (Groups.consecutive(K, M, CUDA), Groups.from_ids(ids)):
            assert groups.segments("pairs").arrived.device == groups.ids().device == CUDA


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.ranges])
@pytest.mark.usefixtures("fake")
def test_augmentation_can_be_recorded(name: str) -> None:
    scheme, uniform, images = SCHEMES[name], on_gpu(N, len(PARAMETERS)), on_gpu(N, 3, 8, 8)
    with recording():
        views = scheme.apply(images, scheme.parameters_of(uniform))
    assert views.device == CUDA


@pytest.mark.parametrize("alpha", [0.1, 0.0])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.usefixtures("fake")
def test_the_losses_of_a_step_can_be_recorded(
    precision: str, fused: bool, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    with CUDA:
        network = AllCNNC(width=0.1, batch_norm=not fused)
    losses = StepLosses(
        TappedNetwork(network, network.layer_names),
        Groups.consecutive(K, M, CUDA),
        layer_weights(9, alpha),
        batch_size=N,
        processes=1,
        precision=precision,
        options={"fused": fused, "backend": "torch"},
    )
    views, labels = on_gpu(N, 3, 32, 32).contiguous(memory_format=torch.channels_last), on_gpu(N, dtype=torch.int64)
    losses(views, labels)  # as a step before the recording does
    with recording() as step:
        total, row = losses(views, labels)
    assert step.dtypes["aten.convolution.default"] == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert (total.device, row.shape, row.dtype) == (CUDA, (12,), torch.float32)


@pytest.mark.usefixtures("fake")
def test_losses_are_weighed_by_numbers_that_are_there_already() -> None:
    task, losses, weights = on_gpu(), {"layer": on_gpu()}, layer_weights(1, 0.123)
    weigh(task, losses, weights)  # as a step before the recording does
    with recording():
        assert weigh(task, losses, weights).total.device == CUDA


@pytest.mark.usefixtures("fake")
def test_clipping_and_the_optimizer_can_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the kernel that writes the parameters, of which torch knows no shapes."""
    rates: list[Tensor] = []
    monkeypatch.setattr(torch, "_fused_sgd_", lambda *_lists, lr, **_options: rates.append(lr))
    with CUDA:
        network = AllCNNC(width=0.1)
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "__lt__", lambda *_: False)  # torch asks once whether the learning rate is negative
        optimizer = capturable_sgd(network, 0.01, 0.9, weight_decay=1e-4)
    for parameter in network.parameters():
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()  # as one before the recording does: it makes the momentum
    with recording():
        set_learning_rate(optimizer, 0.001)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    assert rates[0] is rates[1]
    assert rates[0].device == CUDA
