"""Scoring that is interrupted and continued, or shared by several processes, ends in the same scores."""

import copy
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

import dainv
from dainv.ranks import Ranks
from dainv.scores import score_network
from dainv.scores.partial import PartialFile
from dainv.signals import Interrupted

SCHEME = dainv.augmentation("half-extremes")
IMAGES = torch.rand(33, 3, 6, 6, generator=torch.Generator().manual_seed(1))
LABELS = np.random.default_rng(0).integers(0, 4, 33)


def noisy(batch):
    return (batch + 0.1 * torch.rand_like(batch) * random.random() * float(np.random.rand())).clamp(0, 1)


ASKED = {
    "layers": "*",
    "transforms": {"scheme": SCHEME, "noisy": noisy},
    "repeats": 2,
    "batch_size": 4,
    "labels": LABELS,
    "variances": True,
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


def everything(scores):
    """All numbers, as one array."""
    found = [scores.scores(name).sigma[layer].ravel() for name in scores.transformations for layer in scores.layers]
    found += [np.append(one.by_class, one.overall) for one in scores.class_invariance().values()]
    ratios = [scores.variance_ratios(name) for name in scores.transformations]
    found += [np.array([one.pooled, one.mean]) for of_layers in ratios for one in of_layers.values()]
    return np.concatenate(found)


class StopAfter:
    def __init__(self, batches):
        self.left = batches

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("batches", [(0,), (3,), (8,), (9,), (12, 3), (16,), tuple([0] * 18)])
def test_interrupted_work_ends_in_the_same_bits(tmp_path, batches):
    expected = everything(score_network(network(), IMAGES, **ASKED))
    file = tmp_path / "unfinished.npz"
    for count in batches:
        with pytest.raises(Interrupted):
            score_network(network(), IMAGES, **ASKED, partial=PartialFile(file, {}), stop=StopAfter(count))
        assert [path.name for path in tmp_path.iterdir()] == ["unfinished.npz"]
    found = score_network(network(), IMAGES, **ASKED, partial=PartialFile(file, {}))
    np.testing.assert_array_equal(everything(found), expected)
    assert not list(tmp_path.iterdir())


def test_work_is_saved_by_the_way_and_survives_an_error(tmp_path):
    file = tmp_path / "unfinished.npz"
    calls = 0

    def fails(batch):
        nonlocal calls
        calls += 1
        if calls == 8:
            raise MemoryError
        return batch * 0.5

    asked = {**ASKED, "transforms": {"fails": fails}}
    with pytest.raises(MemoryError):
        score_network(network(), IMAGES, **asked, partial=PartialFile(file, {}, seconds=0))
    found = score_network(network(), IMAGES, **asked, partial=PartialFile(file, {}, seconds=0))
    assert calls == 8 + 2 * 9 - 6  # what 3 of 9 batches took is not done again
    np.testing.assert_array_equal(everything(found), everything(score_network(network(), IMAGES, **asked)))


def test_other_settings_do_not_continue_unfinished_work(tmp_path):
    file = tmp_path / "unfinished.npz"
    with pytest.raises(Interrupted):
        score_network(network(), IMAGES, **ASKED, partial=PartialFile(file, {"seed": 0}), stop=StopAfter(1))
    with pytest.raises(dainv.UserError, match="another seed"):
        score_network(network(), IMAGES, **ASKED, partial=PartialFile(file, {"seed": 1}))


def test_a_damaged_file_is_named(tmp_path):
    file = tmp_path / "unfinished.npz"
    file.write_bytes(b"PK nothing")
    with pytest.raises(dainv.UserError, match=r"unfinished\.npz.*delete it"):
        score_network(network(), IMAGES, **ASKED, partial=PartialFile(file, {}))


class Together:
    """Processes as threads: a sum waits for all of them."""

    def __init__(self, size):
        self.size, self.barrier, self.parts = size, threading.Barrier(size, timeout=60), [None] * size

    def sum_(self, rank, tensor):
        self.parts[rank] = tensor.clone()
        self.barrier.wait()
        total = sum(self.parts[1:], self.parts[0].clone())
        self.barrier.wait()
        return tensor.copy_(total)


class RanksOfThreads(Ranks):
    def sum_(self, tensor):
        return self.together.sum_(self.rank, tensor)


def in_threads(size, work):
    together, results = Together(size), [None] * size

    def run(rank):
        ranks = RanksOfThreads(rank=rank, size=size)
        object.__setattr__(ranks, "together", together)
        try:
            results[rank] = work(ranks)
        except BaseException as error:
            results[rank] = error
            if not isinstance(error, Interrupted):
                together.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


ASKED_OF_SEVERAL = {**ASKED, "transforms": {"scheme": SCHEME, "rotation": SCHEME.alone("rotation")}}


@pytest.mark.parametrize(("size", "batch_size"), [(2, 4), (3, 4), (3, 1), (12, 4)])
def test_several_processes_score_as_one(size, batch_size):
    asked = {**ASKED_OF_SEVERAL, "batch_size": batch_size}
    expected = everything(score_network(network(), IMAGES, **asked))
    found = in_threads(size, lambda ranks: score_network(copy.deepcopy(network_once), IMAGES, **asked, ranks=ranks))
    for one in found:
        np.testing.assert_allclose(everything(one), expected, rtol=1e-5, atol=1e-6)


def test_processes_that_were_stopped_at_different_places_go_on_together(tmp_path):
    """One has the means and has begun the second pass; the other was killed just before it had them."""
    asked = ASKED_OF_SEVERAL
    expected = everything(score_network(network(), IMAGES, **asked))

    def work(stops):
        def of(ranks):
            file = PartialFile(tmp_path / f"{ranks.rank}.npz", {})
            return score_network(
                copy.deepcopy(network_once),
                IMAGES,
                **asked,
                ranks=ranks,
                partial=file,
                stop=StopAfter(stops[ranks.rank]),
            )

        return in_threads(2, of)

    assert all(isinstance(result, Interrupted) for result in work((5, 6)))
    (tmp_path / "0.npz").unlink()
    found = work((99, 99))
    for one in found:
        np.testing.assert_allclose(everything(one), expected, rtol=1e-5, atol=1e-6)


network_once = network()
