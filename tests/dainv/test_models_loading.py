import pickle

import pytest
import torch
from torch import nn

from dainv import AllCNNC, UserError
from dainv.models.foreign import first_line
from dainv.models.layers import describe_layers
from dainv.models.loading import (
    describe_model,
    layers_of,
    load_model,
    model_from_config,
    model_from_run,
    model_to_train,
)
from dainv.models.weights import load_weights
from dainv.runs import RunDirectory

DATA = {"n_classes": 10, "in_channels": 3, "image_size": 16}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_of(path, description, network):
    run = RunDirectory.create(path, {"model": description, "data": {"image_shape": [3, 16, 16]}}, {})
    run.save_checkpoint({"step": 3, "model": network.state_dict()})
    return run


def test_a_description_makes_the_same_network_again():
    for spec, layers in [("allcnn", 9), ("wrn-10-1", 3), ("cifar-resnet18", 8)]:
        description = describe_model(spec, **DATA)
        assert len(description["layers"]) == layers
        network = model_from_config({"model": description})
        assert network(torch.rand(2, 3, 16, 16)).shape == (2, 10)


def test_a_description_draws_no_random_number():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    describe_model("allcnn", width=0.1, **DATA)
    assert torch.equal(torch.get_rng_state(), before)


def test_runs_of_earlier_versions_are_read():
    description = {"name": "allcnn", "n_classes": 7, "in_channels": 1, "batch_norm": True, "width": 0.1}
    network = model_from_config({"model": description})
    assert isinstance(network, AllCNNC)
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 7)


def test_the_small_image_resnet_keeps_the_resolution_and_has_eight_blocks():
    network = load_model("cifar-resnet18", n_classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_173_962
    seen = {}
    network.layer1[0].register_forward_hook(lambda _m, _i, output: seen.update(shape=output.shape))
    network(torch.rand(1, 3, 32, 32))
    assert seen["shape"] == (1, 64, 32, 32)


def test_layers_come_in_the_order_in_which_they_run(here):
    (here / "turned.py").write_text(
        "import torch\n"
        "class Turned(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.last, self.first = torch.nn.Linear(4, 10), torch.nn.LazyLinear(4)\n"
        "    def forward(self, x):\n"
        "        return self.last(self.first(x.flatten(1)))\n"
    )
    assert describe_model("turned:Turned", layers=["*"], **DATA)["layers"] == ["first", "last"]


def test_functions_get_the_arguments_they_name(here):
    (here / "functions_of_mine.py").write_text(
        "import torch\n"
        "def net(n_classes, in_channels=3):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(n_classes))\n"
        "def plain():\n"
        "    return torch.nn.Sequential(torch.nn.ReLU())\n"
        "def broken():\n"
        "    return 1 / 0\n"
        "def nothing():\n"
        "    return 3\n"
    )
    assert load_model("functions_of_mine:net", n_classes=6)(torch.rand(2, 3, 4, 4)).shape == (2, 6)
    assert isinstance(load_model("functions_of_mine:plain", n_classes=6), nn.Sequential)
    with pytest.raises(UserError, match=r"ZeroDivisionError: division by zero \(.*mine\.py, line 7\)"):
        load_model("functions_of_mine:broken")
    with pytest.raises(UserError, match="functions_of_mine:nothing: returned a int"):
        load_model("functions_of_mine:nothing")
    with pytest.raises(UserError, match=r"the model puts out \(2, 3, 16, 16\) for 2 images, expected \(2, 10\)"):
        describe_model("functions_of_mine:plain", layers=["*"], **DATA)


def test_lazy_layers_are_made_for_the_images(here):
    (here / "late.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    norm = nn.LazyBatchNorm2d(affine=False)\n"
        "    return nn.Sequential(nn.LazyConv2d(4, 3), norm, nn.Flatten(), nn.LazyLinear(10))\n"
    )
    network = load_model("late:net", in_channels=1, image_size=(8, 10))
    assert {name: tuple(value.shape) for name, value in network.state_dict().items() if name.endswith("weight")} == {
        "0.weight": (4, 1, 3, 3),
        "3.weight": (10, 4 * 6 * 8),
    }
    assert torch.equal(network[1].running_mean, torch.zeros(4))
    assert all(module.training for module in network.modules())


def test_torchvision_networks_take_other_channels_and_classes():
    network = load_model("squeezenet1_1", n_classes=4, in_channels=1)
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("resnet19", {}, "near names: resnet18"),
        ("cifar-resnet19", {}, "cifar-resnet18"),
        ("wrn-27-2", {}, "wrn-27-2: depth 27"),
        ("wrn-10-1", {"width": 2.0}, "batch_norm and width are those of allcnn"),
        ("wrn-10-1", {"layers": ["blok1"]}, "near names: block1"),
        ("wrn-10-1", {"layers": ["block1.shortcut*", "block2.shortcut"]}, "no layer matches 'block1.shortcut"),
        ("squeezenet1_1", {}, "no layers are known for this model; name some with --layers"),
        ("alexnet", {"layers": ["features"]}, "does not accept images of 3 x 16 x 16"),
        ("nowhere:net", {}, "nowhere"),
        ("there.is.none.pt2", {}, "can be scored, not trained"),
    ],
)
def test_what_cannot_be_trained_is_answered_in_one_line(spec, options, message):
    with pytest.raises(UserError, match=message) as caught:
        describe_model(spec, **{**DATA, **options})
    assert "\n" not in str(caught.value)


def test_timm_is_optional():
    try:
        import timm  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r"timm:resnet18: timm cannot be imported .*pip install timm"):
            load_model("timm:resnet18")
    else:
        assert load_model("timm:resnet18", n_classes=3, in_channels=1)(torch.rand(2, 1, 32, 32)).shape == (2, 3)
        with pytest.raises(UserError, match=r"timm has no model 'resnet18\.5'"):
            load_model("timm:resnet18.5")


def test_a_run_directory_gives_its_network_with_its_weights(tmp_path):
    torch.manual_seed(0)
    description = describe_model("wrn-10-1", **DATA)
    network = model_from_config({"model": description})
    run = run_of(tmp_path / "run", description, network)
    images = torch.rand(2, 3, 16, 16)
    for loaded in (
        model_from_run(run),
        load_model(str(run.path)),
        model_to_train(str(run.path), describe_model(str(run.path), **DATA)),
    ):
        assert torch.equal(loaded.eval()(images), network.eval()(images))
    with pytest.raises(UserError, match="its model is for 10 classes, the data have 3"):
        describe_model(str(run.path), **{**DATA, "n_classes": 3})
    with pytest.raises(UserError, match="has its own"):
        load_model(str(run.path), weights="some.pt")


def test_training_can_begin_with_weights_from_a_file(tmp_path):
    torch.manual_seed(0)
    network = AllCNNC(width=0.1)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    description = describe_model("allcnn", width=0.1, **DATA)
    begun = model_to_train("allcnn", description, str(tmp_path / "weights.pt"))
    assert torch.equal(begun.layer5.conv.weight, network.layer5.conv.weight)
    assert not torch.equal(model_to_train("allcnn", description).layer5.conv.weight, network.layer5.conv.weight)


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": w}, lambda w: {"model": w, "step": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_found_in_checkpoints(tmp_path, wrap, prefix):
    torch.manual_seed(0)
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save(wrap({prefix + name: value for name, value in source.state_dict().items()}), tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target.weight, source.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, "no bias"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "extra": torch.zeros(1)}, "extra unknown to the model"),
        ({"weight": torch.zeros(5, 3), "bias": torch.zeros(5)}, "weight is 5 x 3, the model's is 2 x 3"),
        ([torch.zeros(3)], "holds a list, expected names and tensors"),
        ({"weight": [1.0]}, "expected names and tensors"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    target = nn.Linear(3, 2)
    before = target.weight.clone()
    with pytest.raises(UserError, match=message) as caught:
        load_weights(target, tmp_path / "w.pt")
    assert "w.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert torch.equal(target.weight, before)


class Trap:
    sprung = False

    def __reduce__(self):
        return _spring, ()


def _spring():
    Trap.sprung = True


def test_weights_are_never_unpickled(tmp_path):
    torch.save({"weight": Trap()}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap()))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(UserError, match=name):
            load_weights(nn.Linear(3, 2), tmp_path / name)
    assert not Trap.sprung


def test_a_whole_network_is_no_file_of_weights_and_says_what_to_save(tmp_path):
    torch.save(nn.Linear(3, 2), tmp_path / "network.pt")
    with pytest.raises(UserError, match=r"more than tensors.*save model\.state_dict\(\)"):
        load_weights(nn.Linear(3, 2), tmp_path / "network.pt")


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_a_damaged_file_of_weights_is_named(tmp_path, content):
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(UserError, match=r"w\.pt: not a file of weights \(it is damaged") as caught:
        load_weights(nn.Linear(3, 2), tmp_path / "w.pt")
    assert "\n" not in str(caught.value)


def test_the_layers_of_a_run_are_those_of_its_objective(tmp_path):
    network = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with pytest.raises(UserError, match="name some with --layers"):
        layers_of("module:function", network)
    run = RunDirectory.create(tmp_path / "run", {"layers": ["1"]}, {})
    assert layers_of(str(run.path), network) == ["1"]


def test_layers_of_a_network_that_runs_in_inference_mode_are_described():
    class Inference(nn.Sequential):
        @torch.inference_mode()
        def forward(self, x):
            return super().forward(x)

    found = describe_layers(Inference(nn.Conv2d(3, 4, 3), nn.ReLU()), "*", (3, 8, 8))
    assert [(layer.name, layer.dimension, layer.overwritten) for layer in found] == [
        ("0", 144, False),
        ("1", 144, False),
    ]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("", "RuntimeError"),
        ("first\nsecond", "first"),
        (
            "The following operation failed in the TorchScript interpreter.\nTraceback ...\nRuntimeError: why",
            "RuntimeError: why",
        ),
    ],
)
def test_an_error_of_other_people_s_code_is_one_line(message, line):
    assert first_line(RuntimeError(message)) == line
