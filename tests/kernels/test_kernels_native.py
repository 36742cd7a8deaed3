"""The native kernel beyond what all backends share: its threads, its sums, what it hands over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kernels_checks import assert_true, evaluate
from kernels_inputs import grouped, ids_of_sizes, shuffled
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dainv_kernels import Groups, closed_form, invariance_loss, native, relu_invariance

K, M = 16, 8
IDS = torch.arange(K).repeat_interleave(M)

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="native kernels need a C compiler")


# Threads


def results(x: Tensor, groups: Groups, threads: int) -> list[Tensor]:
    torch.set_num_threads(threads)
    z = x.detach().clone().requires_grad_()
    y, loss = relu_invariance(z, groups, bias=x.new_full((x.shape[1],), 0.125), backend="native")
    (of_relu,) = torch.autograd.grad((y, loss), z, (x, torch.full_like(loss, -3)))
    return [y, loss, of_relu, *evaluate(x, groups, "native")]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("ids", [IDS, shuffled(ids_of_sizes(1, 2, 40, 3, 30))], ids=["consecutive", "ragged"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_number_of_threads_changes_no_bit(ids: Tensor, dtype: torch.dtype) -> None:
    x = grouped(ids, 3, 700).to(dtype)  # columns enough for 32 tiles, features enough for threads
    alone, *others = (results(x, Groups.from_ids(ids), threads) for threads in (1, 2, 3, 7))
    for other in others:
        assert all(map(torch.equal, alone, other))


STORY = """
import json, os, sys, torch
from dainv_kernels import Groups, invariance_loss
folder = sys.argv[1]
compiled_by_import = os.path.exists(folder)
torch.set_num_threads(2)
x, groups = torch.randn(128, 4096), Groups.consecutive(16, 8)

def tasks():
    return len(os.listdir("/proc/self/task"))

alone = tasks()
torch.add(x, x), x.sum()
with_torch = tasks()
loss = invariance_loss(x, groups, backend="native")
with_native = tasks()
child = os.fork()
if child == 0:
    torch.set_num_threads(1)  # as torch's data loaders do
    os._exit(0 if torch.equal(invariance_loss(x, groups, backend="native"), loss) else 1)
print(json.dumps({
    "compiled by import": compiled_by_import,
    "compiled": os.path.exists(folder),
    "threads": [with_torch - alone, with_native - with_torch],
    "exit status of a forked child": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]),
    "libgomp": "libgomp" in open("/proc/self/maps").read(),
}))
"""


@pytest.fixture(scope="module")
def story(fresh_python: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened in a new process."""
    if not Path("/proc/self/task").exists():
        pytest.skip("threads are counted by Linux")
    cache = tmp_path_factory.mktemp("cache")
    code = STORY.replace("sys.argv[1]", repr(str(cache / "dainv")))
    return json.loads(fresh_python(code, XDG_CACHE_HOME=str(cache)))


def test_the_first_call_compiles_and_importing_does_not(story: dict[str, Any]) -> None:
    assert (story["compiled by import"], story["compiled"]) == (False, True)


def test_torchs_threads_do_the_work(story: dict[str, Any]) -> None:
    if not story["libgomp"]:
        pytest.skip("this torch has another OpenMP than the compiler")
    assert story["threads"] == [1, 0]


def test_a_forked_child_with_one_thread_works(story: dict[str, Any]) -> None:
    assert story["exit status of a forked child"] == 0


# Arithmetic


@pytest.mark.parametrize("sizes", [(16, 17, 15), (300, 5), (257, 1, 33), (1, 1, 94)], ids=str)
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_groups_of_more_members_than_are_added_in_one_go(sizes: tuple[int, ...], offset: float) -> None:
    ids = shuffled(ids_of_sizes(*sizes))
    assert_true((offset + grouped(ids, 70)).float(), ids, "native", gradient=1e-4 if offset else 2e-5)


@pytest.mark.parametrize("features", [63, 64, 65, 127, 129, 2049])
def test_tiles_that_columns_do_not_fill(features: int) -> None:
    assert_true(grouped(IDS, features).float(), IDS, "native", groups=Groups.consecutive(K, M))


def test_a_tile_is_never_wider_than_the_c_file_allows() -> None:
    for features in (1, 640, 98304, 10**9):
        for dtype, widest in ((torch.float32, 1024), (torch.bfloat16, 1024), (torch.float64, 512)):
            rows = torch.empty(1, dtype=dtype).expand(1, features)
            for largest in (1, 8, 4096, 10**7):
                assert 64 <= native._tile(rows, largest) <= widest


def test_sums_of_many_groups_lose_no_digits() -> None:
    ids = torch.arange(4000) // 2
    x = grouped(ids, 3).float()
    ours = evaluate(x, ids, "native")[0].double()
    exact = evaluate(x.double(), ids, "torch")[0]
    assert abs(ours / exact - 1) < 1e-7


# What is handed over


class Watched:
    """Counts the calls of the closed form in torch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        for name in ("forward", "backward"):
            monkeypatch.setattr(closed_form, name, self._counting(getattr(closed_form, name)))

    def _counting(self, function: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object) -> object:
            self.calls += 1
            return function(*args)

        return counted


@pytest.fixture
def in_torch(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


@pytest.mark.parametrize(
    ("dtype", "calls"), [(torch.float32, 0), (torch.float64, 0), (torch.bfloat16, 0), (torch.float16, 2)], ids=str
)
def test_float16_alone_is_left_to_torch(in_torch: Watched, dtype: torch.dtype, calls: int) -> None:
    assert_true(grouped(IDS, 30).to(dtype), IDS, "native")
    assert in_torch.calls == calls


def test_negated_views_are_left_to_torch(in_torch: Watched) -> None:
    x = torch._neg_view(-grouped(IDS, 30))  # the numbers at its address have the other sign
    y, loss = relu_invariance(x.clone(), IDS, backend="native")
    in_place, of_in_place = relu_invariance(x, IDS, inplace=True, backend="native")
    assert torch.equal(in_place, y)
    torch.testing.assert_close(of_in_place, loss)
    assert in_torch.calls == 1


def in_place(of_activation: Tensor, of_loss: Tensor, sign: float = 1.0) -> Tensor:
    x = grouped(IDS, 30).requires_grad_()
    bias = torch.ones(30, dtype=x.dtype)
    y, loss = relu_invariance(x * 1, IDS, bias=-bias if sign > 0 else torch._neg_view(bias), inplace=True)
    return torch.autograd.grad((y, loss), x, (of_activation, of_loss))[0]


def test_gradients_and_biases_that_are_not_what_lies_at_their_address() -> None:
    x, two = grouped(IDS, 30), torch.tensor(2.0, dtype=torch.float64)
    nothing = torch._efficientzerotensor
    expected = in_place(x.clone(), two)
    torch.testing.assert_close(in_place(x.clone(), torch._neg_view(-two), sign=-1.0), expected)
    for of_activation in (torch.zeros_like(x), nothing(x.shape, dtype=x.dtype)):
        torch.testing.assert_close(in_place(of_activation, two), in_place(torch.zeros_like(x), two))
    without_loss = in_place(x.clone(), torch.zeros_like(two))
    torch.testing.assert_close(in_place(x.clone(), nothing((), dtype=x.dtype)), without_loss)


GROUPS = Groups.from_ids(IDS)
WRONG_TABLES: dict[str, dict[str, Tensor]] = {
    "row past the end": {"rows": GROUPS.rows + 1},
    "negative row": {"rows": GROUPS.rows - 1},
    "narrow rows": {"rows": GROUPS.rows.int()},
    "bounds apart in memory": {"bounds": torch.stack([GROUPS.bounds] * 2, 1)[:, 0]},
    "bounds past the end": {"bounds": GROUPS.bounds * 2},
    "empty group": {"bounds": torch.cat([GROUPS.bounds[:1], GROUPS.bounds[:-1]])},
    "few bounds": {"bounds": GROUPS.bounds[:-1]},
    "too many groups": {"n_groups": torch.tensor(10**12)},
    "a group left out": {"n_groups": GROUPS.n_groups - 1},
    "narrow weights": {"pairs_weights": GROUPS.pairs_weights.float()},
}


@pytest.mark.parametrize("kind", WRONG_TABLES)
def test_tables_that_do_not_divide_the_batch_are_refused(kind: str) -> None:
    x = grouped(IDS, 30).requires_grad_()
    wrong = replace(GROUPS, **WRONG_TABLES[kind])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="these tables do not divide the batch"):
        invariance_loss(x, wrong, backend="native")
    right = replace(GROUPS, **{name: getattr(GROUPS, name).clone() for name in ("rows", "bounds", "n_groups")})
    loss = invariance_loss(x, right, backend="native")
    right.rows.data.add_(1000)
    with pytest.raises(ValueError, match="these tables do not divide the batch"):
        loss.backward()


def test_the_default_device_may_be_another_one() -> None:
    x = grouped(IDS, 30).float()
    groups = Groups.consecutive(K, M)
    expected = evaluate(x, groups, "native")
    with torch.device("meta"):
        got = evaluate(x, groups, "native")
    assert all(map(torch.equal, got, expected))


def test_fake_tensors_are_left_to_torch(in_torch: Watched) -> None:
    values = grouped(IDS, 30)
    with FakeTensorMode() as mode:
        x, groups = mode.from_tensor(values), Groups.consecutive(K, M)
        y, loss = relu_invariance(x, groups, inplace=True, backend="native")
    assert (y.shape, loss.shape) == (x.shape, ())
    assert in_torch.calls == 1


def test_a_write_in_place_is_seen_by_autograd() -> None:
    x = grouped(IDS, 30).float()
    square = x.clone().requires_grad_().square()
    kept = square.square()  # needs what is about to be overwritten
    relu_invariance(square, IDS, inplace=True, backend="native")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.sum().backward()
