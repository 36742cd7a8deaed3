import pytest
import torch
from torch import nn

from dainv import AllCNNC, Groups, layer_weights
from dainv.objective import combine, weigh


def test_parameter_counts_are_the_published_ones():
    assert sum(p.numel() for p in AllCNNC().parameters()) == 1_369_738
    assert sum(p.numel() for p in AllCNNC(batch_norm=True).parameters()) == 1_372_254


def test_feature_dimensions_of_the_nine_layers():
    _, activations = AllCNNC().forward_taps(torch.rand(2, 3, 32, 32))
    sizes = [a[0].numel() for a in activations.values()]
    assert sizes == [98304, 98304, 24576, 49152, 49152, 12288, 12288, 12288, 640]


def test_taps_are_taken_after_the_relu_in_every_layer():
    torch.manual_seed(0)
    logits, activations = AllCNNC(width=0.1).forward_taps(torch.rand(4, 3, 32, 32))
    assert all((a >= 0).all() and (a == 0).any() for a in activations.values())
    torch.testing.assert_close(logits, activations["layer9"].mean(dim=(2, 3)))


def test_hooks_see_what_forward_taps_returns():
    model = AllCNNC(width=0.1)
    seen = {}
    model.layer4.register_forward_hook(lambda _m, _i, output: seen.update(layer4=output))
    _, activations = model.forward_taps(torch.rand(2, 3, 32, 32))
    assert seen["layer4"] is activations["layer4"]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_losses_taken_with_the_relu_are_those_of_the_taps(batch_norm):
    torch.manual_seed(0)
    model, images = AllCNNC(width=0.1, batch_norm=batch_norm), torch.rand(8, 3, 16, 16)
    groups, weights = Groups.consecutive(4, 2), layer_weights(9)
    logits, activations = model.forward_taps(images)
    expected = combine(logits.sum(), activations, groups, weights, backend="torch")
    gradients = torch.autograd.grad(expected.total, list(model.parameters()))
    fused_logits, losses = model.forward_losses(images, groups, weights, backend="torch")
    got = weigh(fused_logits.sum(), losses, weights)
    torch.testing.assert_close(fused_logits, logits)
    for name, loss in expected.invariance.items():
        torch.testing.assert_close(losses[name], loss)
    for one, other in zip(torch.autograd.grad(got.total, list(model.parameters())), gradients, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-7


def test_layers_of_weight_zero_are_measured_without_gradient():
    model = AllCNNC(width=0.1)
    _, losses = model.forward_losses(torch.rand(8, 3, 16, 16), Groups.consecutive(4, 2), [0.0] * 8 + [0.1])
    assert [loss.requires_grad for loss in losses.values()] == [False] * 8 + [True]


def test_initialisation_is_glorot_uniform_with_zero_bias():
    torch.manual_seed(0)
    conv = AllCNNC().layer5.conv
    bound = (6 / (2 * 192 * 9)) ** 0.5
    assert conv.weight.abs().max() <= bound
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    assert not conv.bias.any()


def test_arms_start_from_the_same_weights():
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(AllCNNC())
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))


def test_batch_norm_follows_every_convolution():
    model = AllCNNC(batch_norm=True, width=0.1)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [n.num_features for n in norms] == [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert {(n.eps, n.momentum) for n in norms} == {(1.001e-5, 0.01)}  # of the library of the time
    assert not any(isinstance(m, nn.BatchNorm2d) for m in AllCNNC(width=0.1).modules())


def test_compiles_without_a_graph_break():
    model = AllCNNC(width=0.05)
    compiled = torch.compile(model.forward_taps, fullgraph=True, backend="aot_eager")
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(compiled(images)[0], model(images))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"width": -1.0}, {"n_classes": 0}, {"in_channels": 0}])
def test_a_network_without_channels_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected a positive number"):
        AllCNNC(**wrong)
