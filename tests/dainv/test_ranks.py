"""Several processes train as one would, and end together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ranks_work
import torch

from dainv.errors import UserError
from dainv.ranks import Ranks


@pytest.fixture(autouse=True)
def _no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def single() -> dict[str, Any]:
    return ranks_work.single()


@pytest.fixture(scope="module", params=[2, 3])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return ranks_work.started(ranks_work.parallel, tmp_path_factory.mktemp("ranks"), request.param)


@pytest.mark.parametrize("way", ["late", "early", "combine"])
def test_a_network_gets_the_gradient_of_one_process(
    found: list[dict[str, Any]], single: dict[str, Any], way: str
) -> None:
    for rank in found:
        got = rank[way]
        assert [loss.item() for loss in got["losses"].values()] == pytest.approx(
            [loss.item() for loss in single["losses"].values()], rel=1e-12
        )
        assert list(got["losses"].values()) == list(found[0][way]["losses"].values())
        assert set(got["gradients"]) == set(single["gradients"])
        for name, gradient in got["gradients"].items():
            torch.testing.assert_close(gradient, single["gradients"][name], rtol=1e-10, atol=1e-13)


def test_what_ranks_have_is_put_together(found: list[dict[str, Any]]) -> None:
    size = len(found)
    assert [rank["methods"]["share"] for rank in found] == {2: [[0, 3], [3, 5]], 3: [[0, 2], [2, 4], [4, 5]]}[size]
    for rank in found:
        methods = rank["methods"]
        assert methods["sum"].tolist() == [size, size * (size - 1) / 2]
        assert methods["any"] == [True, False]


@pytest.mark.parametrize("how", ["raises", "killed", "hangs"])
def test_a_rank_that_is_lost_ends_the_others_with_one_line(tmp_path: Path, how: str) -> None:
    zero, one = ranks_work.started(ranks_work.lost, tmp_path / "run", 2, how)
    stops = "stops: another process has ended or does not answer"
    assert {"raises": one == "the disk is full", "killed": one is None, "hangs": stops in str(one)}[how]
    assert zero.startswith(f"rank 0 of 2 {stops}")
    assert "\n" not in zero


@pytest.mark.parametrize(("device", "leaves"), [("cuda:0", False), ("cpu", True)])
def test_who_fails_leaves_gloo_but_does_not_wait_for_nccl(
    monkeypatch: pytest.MonkeyPatch, device: str, leaves: bool
) -> None:
    """Leaving nccl is a thing of all processes: where one of them has failed, it would hang and not say why."""
    left: list[str] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: not left)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: left.append("left"))
    group: Any = object()
    with pytest.raises(UserError, match="the disk is full"), Ranks(0, 2, 0, torch.device(device), group):
        raise UserError("the disk is full")
    assert bool(left) == leaves
    left.clear()
    with Ranks(0, 2, 0, torch.device(device), group) as ranks:
        ranks.close()  # as one that was asked to stop does
    assert left == ["left"]


def test_a_single_process_needs_no_group() -> None:
    with Ranks.from_environment("cpu") as ranks:
        assert (ranks.rank, ranks.size, ranks.local_rank, ranks.is_main, ranks.group) == (0, 1, 0, True, None)
        assert ranks.share(5) == slice(0, 5)
        assert ranks.sum_(torch.ones(2)).tolist() == [1, 1]
        assert (ranks.any(True), ranks.any(False)) == (True, False)
        ranks.barrier()
    assert not torch.distributed.is_initialized()


def test_an_error_of_a_single_process_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="gloo"), Ranks.from_environment("cpu"):
        raise RuntimeError("gloo")


@pytest.mark.parametrize(("size", "k"), [(1, 1), (2, 2), (2, 7), (3, 7), (3, 8), (5, 128)])
def test_shares_are_whole_and_differ_by_one_at_most(size: int, k: int) -> None:
    shares = [range(k)[Ranks(rank, size).share(k)] for rank in range(size)]
    assert [index for share in shares for index in share] == list(range(k))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_fewer_images_than_processes_are_refused() -> None:
    with pytest.raises(UserError, match="2 source images cannot be dealt to 3 processes"):
        Ranks(0, 3).share(2)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"WORLD_SIZE": "2"}, "RANK should be a number from 0, but it is not set; `torchrun"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE should be a number from 0, but it is 'two'"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK should be a number from 0, but it is '-1'"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "LOCAL_RANK should be"),
        ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"}, "expected ranks from 0 to 1"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, "rank 1 of 2 cannot join the others by gloo"),
    ],
)
def test_an_environment_that_is_not_torchruns_gets_one_line(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
) -> None:
    for variable in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(UserError) as error:
        Ranks.from_environment("cpu")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_process_without_a_gpu_of_its_own_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"WORLD_SIZE": "99", "RANK": "98", "LOCAL_RANK": "98"}.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match="rank 98 has no GPU: it is number 98"):
        Ranks.from_environment("cuda")
