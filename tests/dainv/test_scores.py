import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import dainv
from dainv.scores import engine
from dainv.scores.sums import Centre, column_sums, squared_distances


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(5))


@pytest.fixture
def net():
    network = model()
    network(torch.rand(4, 3, 8, 8))
    return network


@pytest.fixture
def images():
    return torch.rand(23, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def darker(batch):
    return batch * 0.7


def brute_force(network, images, transform, layer):
    """Eq. 2 with the whole matrix of pairs, in float64."""
    network = network.double().eval()
    with torch.no_grad():
        x = network[: layer + 1](images.double()).flatten(1)
        g = network[: layer + 1](transform(images.double())).flatten(1)
    pairs = (x[:, None] - x[None, :]).square().mean(-1)
    return (1 - (x - g).square().mean(1) / pairs.mean(1)).numpy()


@pytest.mark.parametrize("layer", [0, 1, 2, 4])
def test_streaming_scores_are_equation_2_over_all_pairs(net, images, layer):
    got = dainv.invariance_scores(net, images, layers=str(layer), transform=darker, repeats=2, batch_size=7)
    expected = brute_force(net, images, darker, layer)
    assert got.sigma[str(layer)].shape == (2, 23)
    for repeat in range(2):
        np.testing.assert_allclose(got.sigma[str(layer)][repeat], expected, rtol=1e-4, atol=1e-5)


def test_pixels_are_scored_as_layer_input(net, images):
    got = dainv.invariance_scores(net, images, layers="0", transform=darker, repeats=1)
    pairs = dainv.pairwise_mse(images.double())
    expected = 1 - (images - darker(images)).double().square().flatten(1).mean(1) / pairs.mean(1)
    np.testing.assert_allclose(got.sigma["input"][0], expected.numpy(), rtol=1e-5)
    assert got.layers == ["input", "0"]
    assert got.dimensions == {"input": 192, "0": 144}


def test_scores_do_not_depend_on_the_batch_size(net, images):
    scheme = dainv.augmentation("half-extremes")
    results = [
        dainv.invariance_scores(net, images, layers=["1", "4"], transform=scheme, batch_size=size).sigma
        for size in (1, 5, 23, 64)
    ]
    for other in results[1:]:
        for layer, sigma in results[0].items():
            np.testing.assert_allclose(other[layer], sigma, rtol=1e-4, atol=1e-5)


def test_transformations_are_drawn_anew_for_every_image_and_repeat(net, images):
    same = images[:1].expand(6, -1, -1, -1)
    mixed = torch.cat([same, images[6:]])
    sigma = dainv.invariance_scores(net, mixed, layers="1", transform=dainv.augmentation("half-extremes")).sigma["1"]
    assert len(np.unique(sigma[:, :6].round(9))) == 30


def test_identity_scores_one_everywhere(net, images):
    sigma = dainv.invariance_scores(net, images, layers="*", transform=lambda batch: batch, repeats=1).sigma
    assert all((values == 1).all() for values in sigma.values())


def test_exchanging_images_scores_about_zero():
    """A transformed image as far away as a different one: sigma is 0 on average, by the definition."""
    noise = torch.rand(400, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    got = dainv.invariance_scores(nn.Sequential(nn.Identity()), noise, layers="0", transform=lambda b: b.roll(1, 0))
    assert abs(np.median(got.sigma["0"])) < 0.02


@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_a_large_mean_costs_no_digits(mean):
    """Multiples of 1/64 near 10,000 are exact in float32: whatever is lost, the sums have lost."""

    class Offset(nn.Module):
        def forward(self, x):
            return x + mean

    coarse = torch.randint(0, 65, (300, 3, 8, 8), generator=torch.Generator().manual_seed(0)) / 64
    shifted = nn.Sequential(nn.Identity(), Offset())
    sigma = dainv.invariance_scores(
        shifted, coarse, layers="1", transform=lambda batch: batch.flip(3), repeats=1, batch_size=100
    ).sigma
    exact = coarse.double().flatten(1)
    others = (exact - exact.mean(0)).square().sum(1) + (exact - exact.mean(0)).square().sum(1).mean()
    expected = 1 - (exact - coarse.double().flip(3).flatten(1)).square().sum(1) / others
    np.testing.assert_allclose(sigma["1"][0], expected.numpy(), atol=1e-6)


def test_a_constant_layer_has_no_score_and_is_named(images):
    dead = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    nn.init.constant_(dead[0].bias, -10)
    with pytest.warns(UserWarning, match="1"):
        sigma = dainv.invariance_scores(dead, images, layers="1", transform=darker).sigma
    assert np.isnan(sigma["1"]).all()


def test_datasets_and_loaders_give_the_same_scores(net, images):
    labelled = TensorDataset(images, torch.zeros(23))
    results = [
        dainv.invariance_scores(net, source, layers="1", transform=darker, batch_size=8).sigma["1"]
        for source in (images, labelled, DataLoader(labelled, batch_size=4))
    ]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-5, atol=1e-6)


def test_the_model_comes_back_as_it_was(net, images):
    net.train()
    net[2].eval()
    statistics = net[2].running_mean.clone()
    dainv.invariance_scores(net, images, layers="1", transform=darker)
    assert [m.training for m in net] == [True, True, False, True, True]
    assert torch.equal(net[2].running_mean, statistics)
    assert not net[1]._forward_hooks


class EndsEarly(IterableDataset):
    """Says that it has five images and gives three."""

    def __len__(self):
        return 5

    def __iter__(self):
        return iter(torch.rand(3, 3, 8, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.rand(1, 3, 8, 8)}, "at least 2"),
        ({"images": torch.rand(4, 3, 8, 8) * 255}, r"\[0, 1\]"),
        ({"images": torch.zeros(4, 3, 8, 8, dtype=torch.uint8)}, "float"),
        ({"images": torch.full((4, 3, 8, 8), torch.nan)}, "nan"),
        ({"transform": lambda batch: batch[:, :, :4]}, "shape"),
        ({"transform": lambda batch: batch.double()}, "dtype"),
        ({"transform": lambda batch: [batch]}, "list"),
        ({"repeats": 0}, "repeats"),
        ({"batch_size": 0}, "batch_size"),
        ({"images": DataLoader(torch.rand(4, 3, 8, 8), shuffle=True)}, "shuffle"),
        ({"images": DataLoader(torch.rand(4, 3, 8, 8), sampler=range(3))}, "sampler of its own"),
        ({"images": DataLoader(torch.rand(4, 3, 8, 8), batch_sampler=[[0, 1]])}, "sampler of its own"),
        ({"images": DataLoader(EndsEarly(), batch_size=2)}, "ended after 3 of the 5"),
        ({"images": DataLoader(torch.rand(4, 3, 8, 8), drop_last=True)}, "drop_last"),
    ],
)
def test_bad_input_is_named(net, change, message):
    arguments = {"images": torch.rand(4, 3, 8, 8), "transform": darker, **change}
    with pytest.raises(ValueError, match=message):
        dainv.invariance_scores(net, arguments.pop("images"), layers="1", **arguments)


@pytest.mark.parametrize("dimension", [3, 1000, 300_000])
def test_sums_in_blocks_are_those_of_the_whole(dimension):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, dimension, generator=generator), torch.randn(5, dimension, generator=generator)
    exact = a.double() - b.double()
    np.testing.assert_allclose(squared_distances(a, b), exact.square().sum(1), rtol=1e-6)
    from_mean = squared_distances(a, Centre(b[0], b[1]))
    np.testing.assert_allclose(from_mean, (a.double() - b[0].double() - b[1].double()).square().sum(1), rtol=1e-6)
    above = a.double() - b[0].double()
    sums = column_sums(a, b[0], powers=2)
    np.testing.assert_allclose(sums[0], above.sum(0), atol=1e-5)
    np.testing.assert_allclose(sums[1], above.square().sum(0), rtol=1e-5, atol=1e-6)


def test_many_activations_make_smaller_batches_and_the_same_scores(net, images, monkeypatch):
    seen = []
    net[0].register_forward_hook(lambda _m, _i, output: seen.append(len(output)))
    expected = dainv.invariance_scores(net, images, layers="1", transform=darker).sigma["1"]
    monkeypatch.setattr(engine, "_MOST_ACTIVATIONS", 5 * (192 + 144))
    seen.clear()
    got = dainv.invariance_scores(net, images, layers="1", transform=darker).sigma["1"]
    assert max(seen) == 5
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_in_place_activations_do_not_reach_back(images):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    expected = dainv.invariance_scores(plain, images, layers="*", transform=darker).sigma
    plain[1].inplace = True
    found = dainv.invariance_scores(plain, images, layers="*", transform=darker).sigma
    assert plain[1].inplace
    for layer, sigma in expected.items():
        np.testing.assert_array_equal(found[layer], sigma)


def test_an_output_that_the_network_writes_over_counts_as_it_was_put_out(images):
    class WritesOver(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Identity()

        def forward(self, x):
            return self.first(x * 1).clamp_(0.4, 0.6)

    sigma = dainv.invariance_scores(WritesOver(), images, layers="first", transform=darker).sigma
    np.testing.assert_allclose(sigma["first"], sigma["input"], rtol=1e-5)


def test_a_layer_that_runs_twice_counts_with_its_last_output(images):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(self.act(x - 0.5).flip(1) - 0.2), "a tuple is no matter"

    with pytest.warns(UserWarning, match="last output: act"):
        sigma = dainv.invariance_scores(Twice(), images, layers="act", transform=darker, repeats=1, batch_size=5).sigma
    once = nn.Sequential(nn.Identity())
    once.forward = lambda x: once[0](((x - 0.5).relu().flip(1) - 0.2).relu())
    expected = dainv.invariance_scores(once, images, layers="0", transform=darker, repeats=1).sigma["0"]
    np.testing.assert_allclose(sigma["act"], expected, rtol=1e-5)


class Shared(nn.Module):
    """A ReLU for two sizes, as in a bottleneck, and layers in another order than they run in."""

    def __init__(self):
        super().__init__()
        self.head, self.act = nn.Linear(5, 2), nn.ReLU()
        self.second, self.first = nn.Conv2d(4, 5, 3), nn.Conv2d(3, 4, 3)
        self.calls = 0

    def forward(self, x):
        x = self.act(self.second(self.act(self.first(x))))
        return self.head((x if self.calls is None else self.act(x)).mean((2, 3)))


def test_a_layer_that_runs_with_several_sizes_counts_with_its_last_output(images):
    torch.manual_seed(0)
    network = Shared()
    with pytest.warns(UserWarning, match="last output: act"):
        got = dainv.invariance_scores(network, images, layers=["*"], transform=darker, repeats=1, batch_size=9)
    flat = nn.Sequential(network.first, nn.ReLU(), network.second, nn.ReLU())
    expected = dainv.invariance_scores(flat, images, layers="3", transform=darker, repeats=1).sigma["3"]
    np.testing.assert_allclose(got.sigma["act"], expected, rtol=1e-5)


def test_layers_are_in_the_order_in_which_they_run(images):
    with pytest.warns(UserWarning, match="last output: act"):
        got = dainv.invariance_scores(Shared(), images, layers=["*"], transform=darker, repeats=1)
    assert got.layers == list(got.sigma) == list(got.dimensions) == ["input", "first", "second", "act", "head"]


def test_a_layer_that_runs_less_often_later_is_refused(images):
    network = Shared()

    def once_less(batch):
        network.calls = None
        return batch

    with pytest.raises(dainv.UserError, match="less often than at the first images: act"):
        dainv.invariance_scores(network, images, layers="act", transform=once_less, repeats=1)


class Odd(nn.Module):
    """Puts out what it is told to."""

    def __init__(self, of):
        super().__init__()
        self.odd, self.of = Returns(of), of
        self.idle = nn.Identity()

    def forward(self, x):
        return self.odd(x)


class Returns(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, x):
        return self.of(x)


@pytest.mark.parametrize(
    ("of", "layer", "message"),
    [
        (lambda x: (x, x), "odd", "'odd' puts out a tuple"),
        (lambda x: x > 0.5, "odd", "torch.bool"),
        (lambda x: x.flatten(1).T, "odd", "the images first"),
        (lambda x: x.mean(), "odd", "the images first"),
        (lambda x: x, "idle", "do not run.*idle"),
        (lambda x: x @ torch.ones(3, 3), "odd", r"does not accept images of shape \(3, 8, 8\)"),
        (lambda x: x, "nothing", "no layer matches"),
    ],
)
def test_layers_that_cannot_be_scored_are_named(images, of, layer, message):
    with pytest.raises(dainv.UserError, match=message):
        dainv.invariance_scores(Odd(of), images, layers=layer, transform=darker)


def test_a_model_of_one_batch_size_is_said_so(images):
    class Two(nn.Sequential):
        def forward(self, x):
            if len(x) != 2:
                raise RuntimeError(f"expected 2 images, got {len(x)}")
            return super().forward(x)

    with pytest.raises(dainv.UserError, match=f"expected 2 images, got {len(images)}"):
        dainv.invariance_scores(Two(nn.Flatten()), images, layers="0", transform=darker)


def test_images_of_other_channels_than_the_model_takes_are_named(net):
    with pytest.raises(dainv.UserError, match=r"images of shape \(1, 8, 8\)"):
        dainv.invariance_scores(net, torch.rand(4, 1, 8, 8), layers="1", transform=darker)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01), (torch.float64, 1e-5)])
def test_models_of_other_precision_are_scored(net, images, dtype, tolerance):
    expected = dainv.invariance_scores(net, images, layers="1", transform=darker, repeats=1).sigma
    found = dainv.invariance_scores(net.to(dtype), images, layers="1", transform=darker, repeats=1).sigma
    np.testing.assert_allclose(found["1"], expected["1"], atol=tolerance)
    np.testing.assert_array_equal(found["input"], expected["input"])


def test_a_transform_that_leaves_the_range_is_told(net, images):
    with pytest.warns(UserWarning, match=r"left \[0, 1\]: 0 to 254"):
        dainv.invariance_scores(net, images.clamp(max=254 / 255), layers="1", transform=lambda batch: batch * 255)


def test_a_transform_may_work_in_place_and_draw_from_any_generator(net, images):
    def noisy(batch):
        noise = torch.rand(()) + random.random() + np.random.rand()
        return batch.mul_(0.9 - 0.1 * float(noise))

    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    before = images.clone()
    first, second = (dainv.invariance_scores(net, images, layers="1", transform=noisy).sigma["1"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first[:, 0])) == 5
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
