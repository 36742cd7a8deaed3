import io
import json
import warnings
import zipfile

import pytest
import torch
from test_models_loading import Trap
from torch import nn

from dainv import UserError
from dainv.models.layers import describe_layers
from dainv.models.loading import load_model
from dainv.taps import Taps, match_layers

SHAPE = (3, 8, 8)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("programs") / "net.pt2"
    sizes = ({0: torch.export.Dim("batch", min=1, max=1024)},)
    torch.export.save(torch.export.export(network(), (torch.rand(2, *SHAPE),), dynamic_shapes=sizes), path)
    return path


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    path = tmp_path_factory.mktemp("programs") / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network(), torch.rand(2, *SHAPE)).save(str(path))
    return path


@pytest.mark.parametrize("kind", ["exported", "scripted"])
def test_a_program_computes_what_the_network_did(kind, request):
    loaded, images = load_model(str(request.getfixturevalue(kind))), torch.rand(7, *SHAPE)
    torch.testing.assert_close(loaded.eval()(images), network()(images))


def test_layers_of_an_exported_network_can_be_tapped(exported):
    loaded, images = load_model(str(exported)), torch.rand(3, *SHAPE)
    assert [layer.name for layer in describe_layers(loaded, "*", SHAPE)] == ["0", "1", "2", "3", "4"]
    taps = Taps(loaded, ["2"])
    loaded(images)
    torch.testing.assert_close(taps.take()["2"], network()[:3](images))


def test_a_torchscript_program_has_one_layer_and_says_why(scripted):
    loaded = load_model(str(scripted))
    assert [layer.name for layer in describe_layers(loaded, "*", SHAPE)] == ["output"]
    with pytest.raises(UserError, match="inside a TorchScript program, where torch calls no hooks; only output"):
        match_layers(loaded, "program.2")


def rewritten(source, target, change):
    """A copy of an archive, each member's content as ``change(name, content)`` has it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def test_objects_in_an_exported_file_are_not_unpickled(exported, tmp_path):
    trap = io.BytesIO()
    torch.save({"trap": Trap()}, trap)

    def pickled_constant(name, content):
        if name.endswith("constants_config.json"):
            return json.dumps({"config": {"x": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}}})
        return content

    def pickled_samples(name, content):
        return trap.getvalue() if "sample_inputs" in name else content

    for change in (pickled_constant, pickled_samples):
        path = rewritten(exported, tmp_path / "evil.pt2", change)
        with pytest.raises(UserError, match=r"evil\.pt2") as caught:
            load_model(str(path))
        assert "\n" not in str(caught.value)
    assert not Trap.sprung


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("torch.ops.aten.relu.default", "torch.os.system", "calls torch.os.system"),
        ("torch.ops.aten.relu.default", "torch.ops.load_library", "calls torch.ops.load_library"),
        ("Symbol(", "__import__('os').system(", "a size that is not arithmetic"),
        ("Symbol(", "exec(", "a size that is not arithmetic"),
    ],
)
def test_an_exported_file_that_would_run_python_is_refused(exported, tmp_path, old, new, message):
    seen = []

    def change(name, content):
        if name.endswith(("models/model.json", "exported_program.json")):
            seen.append(old.encode() in content)
            return content.replace(old.encode(), new.encode())
        return content

    path = rewritten(exported, tmp_path / "evil.pt2", change)
    assert seen == [True]
    with pytest.raises(UserError, match=message):
        load_model(str(path))


@pytest.mark.parametrize("name", ["net.pt", "net.pt2"])
def test_a_file_without_a_program_is_answered_in_one_line(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(UserError, match="no such file"):
        load_model(str(path))
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=f"{name}: not readable"):
        load_model(str(path))
    torch.save(network().state_dict(), path)
    with pytest.raises(UserError, match="holds no program; if it holds weights"):
        load_model(str(path))
