import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dainv


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


def test_a_large_mean_costs_no_digits(net, images):
    class Offset(nn.Module):
        def forward(self, x):
            return x + 1000

    shifted = nn.Sequential(nn.Identity(), Offset())
    sigma = dainv.invariance_scores(shifted, images, layers="1", transform=darker, repeats=1).sigma
    np.testing.assert_allclose(sigma["1"], sigma["input"], atol=2e-3)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.rand(1, 3, 8, 8)}, "at least 2"),
        ({"images": torch.rand(4, 3, 8, 8) * 255}, r"\[0, 1\]"),
        ({"images": torch.zeros(4, 3, 8, 8, dtype=torch.uint8)}, "float"),
        ({"transform": lambda batch: batch[:, :, :4]}, "shape"),
    ],
)
def test_bad_input_is_named(net, change, message):
    arguments = {"images": torch.rand(4, 3, 8, 8), "transform": darker, **change}
    with pytest.raises(ValueError, match=message):
        dainv.invariance_scores(net, arguments.pop("images"), layers="1", **arguments)
