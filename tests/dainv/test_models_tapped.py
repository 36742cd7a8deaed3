import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from dainv import AllCNNC, Groups, UserError, layer_weights
from dainv.models.outputs import logits_of
from dainv.models.tapped import TappedNetwork
from dainv.objective import combine, weigh
from dainv.taps import Taps
from dainv.training.control import ControlBatch

GROUPS = Groups.consecutive(4, 2)


def small_network(inplace=False):
    torch.manual_seed(1)
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace)),
        *(nn.Conv2d(8, 8, 3), nn.ReLU(inplace)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    )
    return network.double()


def images():
    return torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()


def gradients(network, total):
    return torch.autograd.grad(total, list(network.parameters()))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_losses_and_gradients_are_those_of_the_activations(fused, inplace):
    layers = ["2", "4", "6"]
    weights = layer_weights(3, alpha=0.5)
    plain = small_network()
    taps = Taps(plain, layers)
    task = functional.cross_entropy(plain(images()), torch.arange(8) % 5)
    expected = combine(task, taps.take(), GROUPS, weights, backend="reference")
    network = small_network(inplace)
    tapped = TappedNetwork(network, layers)
    logits, losses = tapped.forward_losses(images(), GROUPS, weights, fused=fused, backend="torch")
    got = weigh(functional.cross_entropy(logits, torch.arange(8) % 5), losses, weights)
    assert list(losses) == layers
    for name, loss in expected.invariance.items():
        torch.testing.assert_close(losses[name], loss)
    for one, other in zip(gradients(network, got.total), gradients(plain, expected.total), strict=True):
        assert (one - other).norm() <= 1e-9 * other.norm() + 1e-12


@pytest.mark.parametrize("fused", [False, True])
def test_layers_of_weight_zero_are_measured_without_gradient(fused):
    tapped = TappedNetwork(small_network(), ["2", "4"])
    _, losses = tapped.forward_losses(images(), GROUPS, [0.0, 0.1], fused=fused)
    assert [loss.requires_grad for loss in losses.values()] == [False, True]


def test_all_cnn_c_takes_the_losses_of_some_of_its_layers_itself():
    torch.manual_seed(0)
    network = AllCNNC(width=0.1).double()
    tapped = TappedNetwork(network, ["layer[2-4]"])
    logits, losses = tapped.forward_losses(images(), GROUPS, [0.1, 0.0, 0.2])
    expected, activations = network.forward_taps(images())
    torch.testing.assert_close(logits, expected)
    every = combine(expected.sum(), activations, GROUPS, [0.1] * 9).invariance
    assert list(losses) == ["layer2", "layer3", "layer4"]
    for name, loss in losses.items():
        torch.testing.assert_close(loss, every[name])
    assert not network.layer2._forward_hooks


def test_layers_inside_those_of_all_cnn_c_are_tapped_too():
    network = AllCNNC(width=0.1).double()
    _, losses = TappedNetwork(network, ["layer1.conv", "layer1"]).forward_losses(images(), GROUPS, [0.1, 0.1])
    assert list(losses) == ["layer1.conv", "layer1"]
    assert losses["layer1.conv"] != losses["layer1"]


def test_layers_keep_the_order_given_and_come_once():
    assert TappedNetwork(small_network(), ["4", "?", "2"]).layer_names[:3] == ("4", "0", "1")


def test_nothing_is_listened_to_between_calls():
    tapped = TappedNetwork(small_network(), ["0", "2"])
    before = tapped(images())
    tapped.forward_losses(images(), GROUPS, [0.1, 0.1])
    assert torch.equal(tapped(images()), before)
    assert tapped._losses.taken == {}
    assert tapped._losses.watched == {}
    assert list(tapped.network.state_dict()) == list(small_network().state_dict())


def test_a_copy_listens_to_itself():
    tapped = TappedNetwork(small_network(), ["0", "2"])
    twin = copy.deepcopy(tapped)
    with torch.no_grad():
        twin.network[1].weight.neg_()
    weights = [0.1, 0.1]
    first = tapped.forward_losses(images(), GROUPS, weights)[1]
    second = twin.forward_losses(images(), GROUPS, weights)[1]
    assert first["2"] != second["2"]
    assert torch.equal(tapped.forward_losses(images(), GROUPS, weights)[1]["2"], first["2"])


@pytest.mark.parametrize("fused", [False, True])
def test_compiles_without_a_graph_break(fused):
    tapped = TappedNetwork(small_network(inplace=True), ["2", "4"])
    expected = tapped.forward_losses(images(), GROUPS, [0.1, 0.1], fused=fused, backend="torch")
    compiled = torch.compile(tapped.forward_losses, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        logits, losses = compiled(images(), GROUPS, [0.1, 0.1], fused=fused, backend="torch")
        torch.testing.assert_close(logits, expected[0])
        torch.testing.assert_close(losses, expected[1])


class Branching(nn.Module):
    """A shared ReLU, a layer with a tuple, one that never runs, and an output of any kind."""

    def __init__(self, output=lambda logits: logits):
        super().__init__()
        self.first, self.second, self.idle = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(1, 1)
        self.relu, self.lstm = nn.ReLU(inplace=True), nn.LSTM(4, 4, batch_first=True)
        self.output = output
        self.double()

    def forward(self, x):
        x = self.relu(self.second(self.relu(self.first(x))))
        return self.output(self.lstm(x.mean(3).transpose(1, 2))[0].mean(1))


@pytest.mark.parametrize("fused", [False, True])
def test_a_layer_that_runs_twice_is_known_by_its_last_output(fused):
    torch.manual_seed(0)
    tapped = TappedNetwork(Branching(), ["relu"])
    _, losses = tapped.forward_losses(images(), GROUPS, [0.5], fused=fused)
    network = tapped.network
    with torch.no_grad():
        last = network.second(network.first(images()).relu()).relu()
    torch.testing.assert_close(losses["relu"], combine(last.sum(), {"relu": last}, GROUPS, [0.0]).invariance["relu"])
    losses["relu"].backward()
    assert network.first.weight.grad.norm() > 0


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("lstm", "layer 'lstm' puts out a tuple, not a tensor"),
        ("idle", "did not run in the forward pass: idle"),
        ("second", "layer 'second': its output was overwritten by an operation in place"),
        ("scond", "no layer matches 'scond'; near names: second"),
    ],
)
def test_a_layer_that_cannot_be_tapped_is_answered_in_one_line(layer, message):
    with pytest.raises(UserError, match=message) as caught:
        TappedNetwork(Branching(), [layer]).forward_losses(images(), GROUPS, [0.1])
    assert "\n" not in str(caught.value)


def test_a_mistake_leaves_the_network_usable():
    tapped = TappedNetwork(Branching(), ["idle"])
    with pytest.raises(UserError):
        tapped.forward_losses(images(), GROUPS, [0.1])
    assert tapped(images()).shape == (8, 4)
    assert not tapped._losses.active


class Output:
    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize("output", [lambda x: {"logits": x, "hidden": x}, Output], ids=["mapping", "object"])
def test_logits_are_found_in_what_a_network_puts_out(output):
    torch.manual_seed(0)
    plain = TappedNetwork(Branching(), ["relu"])
    wrapped = TappedNetwork(Branching(output), ["relu"])
    wrapped.load_state_dict(plain.state_dict())
    assert torch.equal(wrapped(images()), plain(images()))
    assert torch.equal(wrapped.forward_losses(images(), GROUPS, [0.1])[0], plain(images()))


@pytest.mark.parametrize("output", [(torch.zeros(2),), {"scores": torch.zeros(2)}, None, [torch.zeros(2)]])
def test_an_output_without_logits_is_answered_in_one_line(output):
    with pytest.raises(UserError, match=f"puts out a {type(output).__name__}, expected logits"):
        logits_of(output)


class Checkpointed(nn.Module):
    def __init__(self, reentrant=True):
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())
        self.head, self.reentrant = nn.Linear(4, 10), reentrant

    def forward(self, x):
        x = torch.utils.checkpoint.checkpoint(self.block, self.stem(x), use_reentrant=self.reentrant)
        return self.head(x.mean((2, 3)))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("layers", [["block.0"], ["block.1"]])
def test_layers_that_run_without_gradients_are_refused_unless_they_are_only_measured(layers):
    tapped = TappedNetwork(Checkpointed(), ["stem", *layers])
    with pytest.raises(UserError, match="runs without gradients"):
        tapped.forward_losses(images().float().requires_grad_(), GROUPS, [0.1, 0.1])
    for weights, grad in (([0.1, 0.0], True), ([0.1, 0.1], False)):
        with torch.set_grad_enabled(grad):
            _, losses = tapped.forward_losses(images().float().requires_grad_(grad), GROUPS, weights)
        assert [loss.requires_grad for loss in losses.values()] == [grad, False]


def test_the_control_batch_stays_the_same_for_a_network_that_writes_over_its_input():
    class WritesOverItsInput(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small_network()

        def forward(self, x):
            return self.inner(x.mul_(0.5).sub_(0.2))

    control = ControlBatch(images(), GROUPS, {})
    tapped = TappedNetwork(WritesOverItsInput(), ["inner.2"])
    assert control.losses(tapped) == control.losses(tapped)
    assert torch.equal(control.views, images())
