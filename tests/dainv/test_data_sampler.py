import pytest
import torch

from dainv import UserError
from dainv.data import SourceSampler


def test_every_image_comes_once_a_pass_and_passes_differ():
    sampler = SourceSampler(12, 4, seed=0)
    passes = [torch.cat([sampler.indices(3 * p + s) for s in range(3)]) for p in range(4)]
    assert all(sorted(order.tolist()) == list(range(12)) for order in passes)
    assert len({tuple(order.tolist()) for order in passes}) == 4


def test_the_order_follows_from_seed_and_step_alone():
    forwards = SourceSampler(10, 3, seed=5)
    orders = {step: forwards.indices(step).tolist() for step in range(20)}
    backwards = SourceSampler(10, 3, seed=5)
    assert all(backwards.indices(step).tolist() == orders[step] for step in reversed(range(20)))
    assert SourceSampler(10, 3, seed=6).indices(0).tolist() != orders[0]


def test_runs_with_neighbouring_seeds_share_no_pass():
    def passes(seed):
        sampler = SourceSampler(12, 4, seed)
        return {tuple(torch.cat([sampler.indices(3 * p + s) for s in range(3)]).tolist()) for p in range(5)}

    assert not passes(0) & passes(1)


def test_no_batch_holds_an_image_twice_where_the_pass_is_no_multiple():
    sampler = SourceSampler(10, 4, seed=0)
    for step in range(50):
        assert len(set(sampler.indices(step).tolist())) == 4


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match=r"16 source images.*10"):
        SourceSampler(10, 16, seed=0)
