"""What may be given to be scored: networks that write over it, compiled ones, images that are none, wrong arguments."""

import numpy as np
import pytest
import torch
from torch import nn

import dainv


def darker(batch):
    return batch * 0.7


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))


@pytest.fixture
def images():
    return torch.rand(23, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class WritesOverItsInput(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x.sub_(0.5))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_writes_over_its_input_gets_the_scores_of_one_that_does_not(channels):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU())
    images = torch.rand(9, channels, 8, 8).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    asked = {"transform": dainv.augmentation("half-extremes"), "repeats": 2, "batch_size": 4}

    class OutOfPlace(WritesOverItsInput):
        def forward(self, x):
            return self.network(x - 0.5)

    got = dainv.invariance_scores(WritesOverItsInput(network), images, layers="network.1", **asked)
    expected = dainv.invariance_scores(OutOfPlace(network), images, layers="network.1", **asked)
    assert torch.equal(images, before)
    for layer in ("input", "network.1"):
        np.testing.assert_array_equal(got.sigma[layer], expected.sigma[layer])


def test_a_compiled_model_is_scored_by_the_names_of_its_layers(net, images):
    asked = {"layers": "1", "transform": darker, "repeats": 1}
    got = dainv.invariance_scores(torch.compile(net, backend="eager"), images, **asked)
    np.testing.assert_array_equal(got.sigma["1"], dainv.invariance_scores(net, images, **asked).sigma["1"])


def test_what_interpolation_adds_to_white_is_no_mistake(net, images):
    asked = {"layers": "1", "transform": darker, "repeats": 1}
    images[0, 0, 0, 0] = 1 + 1e-6
    dainv.invariance_scores(net, images, **asked)
    images[0, 0, 0, 0] = 1.001
    with pytest.raises(ValueError, match=r"values in \[0, 1\], got 0 to 1.001"):
        dainv.invariance_scores(net, images, **asked)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_images_of_several_sizes_are_refused(batch_size):
    different = [torch.rand(3, 8, 8), torch.rand(3, 8, 8), torch.rand(3, 8, 9), torch.rand(3, 8, 8)]
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
    with pytest.raises((ValueError, dainv.UserError), match="of one size"):
        dainv.invariance_scores(network, different, layers="1", transform=darker, batch_size=batch_size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repeats": 2.5}, "repeats: expected a whole number, got 2.5"),
        ({"transform": "heavier"}, r"transform: expected a callable .*augmentation.* got 'heavier'"),
        ({"model": "net"}, "model: expected a torch.nn.Module, got str"),
        ({"images": torch.zeros(4, 3, 8, 8, dtype=torch.uint8)}, "divide by 255"),
    ],
)
def test_arguments_of_other_kinds_are_named(net, images, change, message):
    asked = {"model": net, "images": images, "layers": "1", "transform": darker} | change
    with pytest.raises((ValueError, TypeError), match=message):
        dainv.invariance_scores(asked.pop("model"), asked.pop("images"), **asked)


def test_repeats_may_be_numpys_integer(net, images):
    found = dainv.invariance_scores(net, images, layers="1", transform=darker, repeats=np.int64(2))
    assert found.sigma["1"].shape == (2, 23)


def test_lack_of_memory_is_not_called_a_wrong_shape(images):
    class Hungry(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes.")

    with pytest.raises(RuntimeError, match="can't allocate memory"):
        dainv.invariance_scores(Hungry(), images, layers="inner", transform=darker)
