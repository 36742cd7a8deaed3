import pytest
import torch

from dainv.models.wideresnet import WideResNet


def test_the_published_network_has_36_5_million_parameters():
    network = WideResNet(28, 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 36_479_194
    assert network.layer_names == tuple(f"block{n}" for n in range(1, 13))


def test_three_groups_of_blocks_at_full_half_and_quarter_resolution():
    network, shapes = WideResNet(16, 1, n_classes=7, in_channels=1), {}
    for name in network.layer_names:
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: shapes.update({name: tuple(output.shape[1:])})
        )
    assert network(torch.rand(2, 1, 16, 16)).shape == (2, 7)
    assert list(shapes.values()) == [(16, 16, 16)] * 2 + [(32, 8, 8)] * 2 + [(64, 4, 4)] * 2


def test_a_block_adds_to_its_input_and_shows_the_sum_before_any_relu():
    torch.manual_seed(0)
    block = WideResNet(16, 1).block2
    x = torch.randn(4, 16, 8, 8)
    with torch.no_grad():
        block.conv2.weight.zero_()
    assert torch.equal(block(x), x)
    assert (block(x) < 0).any()


@pytest.mark.parametrize(("depth", "width"), [(27, 10), (4, 1), (28, 0)])
def test_a_depth_or_width_that_makes_no_network_is_refused(depth, width):
    with pytest.raises(ValueError, match="6 n \\+ 4"):
        WideResNet(depth, width)
