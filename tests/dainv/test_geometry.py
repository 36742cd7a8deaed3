"""RDMs and linear CKA against their definitions, and the files that they end up in."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.spatial.distance import squareform
from torch import nn

from dainv import AllCNNC, UserError
from dainv.cli import main
from dainv.geometry import linear_cka, rdm, rdms
from dainv.models.loading import load_model
from dainv.scores import weights_fingerprint

LAYERS = [f"layer{number}" for number in range(1, 10)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AllCNNC(width=0.05).double().float()


@pytest.fixture(scope="module")
def images():
    return torch.rand(13, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def features(model, images):
    """Layer -> (N, D) float64, one image at a time."""
    kept = {name: [] for name in LAYERS}
    handles = [
        getattr(model, name).register_forward_hook(
            lambda _m, _i, out, name=name: kept[name].append(out.flatten(1).double())
        )
        for name in LAYERS
    ]
    with torch.no_grad():
        for image in images:
            model(image[None])
    for handle in handles:
        handle.remove()
    return {name: torch.cat(rows).numpy() for name, rows in kept.items()}


def unbiased_hsic(x, y):
    """Song et al. 2012, Eq. 5, from inner products of features that are not centred."""
    n = len(x)
    k, other = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(other, 0)
    ones = np.ones(n)
    trace = np.trace(k @ other)
    sums = ones @ k @ ones * (ones @ other @ ones) / ((n - 1) * (n - 2))
    mixed = 2 / (n - 2) * (ones @ k @ other @ ones)
    return (trace + sums - mixed) / (n * (n - 3))


def test_rdms_are_eq_1_of_every_pair_in_squareforms_order(model, images):
    found = rdms(model, images, layers="layer[1-9]", batch_size=5)
    truth = {"input": images.flatten(1).double().numpy(), **features(model, images)}
    assert found.layers == ("input", *LAYERS)
    for layer, vector in zip(found.layers, found.dissimilarities, strict=True):
        square = np.array([[np.mean((a - b) ** 2) for b in truth[layer]] for a in truth[layer]])
        assert vector == pytest.approx(squareform(square), rel=1e-5)


def test_rdms_do_not_depend_on_how_many_layers_fit_into_memory(model, images, monkeypatch):
    at_once = rdms(model, images, layers="layer*")
    monkeypatch.setattr(rdm, "_FEATURE_BYTES", 1)
    one_by_one = rdms(model, images, layers="layer*")
    assert one_by_one.layers == at_once.layers
    assert np.array_equal(one_by_one.dissimilarities, at_once.dissimilarities)


def test_cka_in_one_batch_is_the_unbiased_estimate_of_all_images(model, images):
    found = linear_cka(model, images, layers="layer[1-9]", batch_size=len(images))
    truth = features(model, images)
    hsic = np.array([[unbiased_hsic(truth[a], truth[b]) for b in LAYERS] for a in LAYERS])
    scale = np.sqrt(np.outer(hsic.diagonal(), hsic.diagonal()))
    assert found.values == pytest.approx(hsic / scale, abs=1e-5)


def test_cka_over_batches_is_the_ratio_of_mean_hsics(model, images):
    found = linear_cka(model, images, layers="layer[1-9]", batch_size=4, seed=3)
    assert (found.n_images, found.n_batches) == (13, 3)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(3))
    truth = features(model, images[order])
    parts = np.split(np.arange(13), [5, 9])
    hsic = np.array(
        [[np.mean([unbiased_hsic(truth[a][p], truth[b][p]) for p in parts]) for b in LAYERS] for a in LAYERS]
    )
    assert found.values == pytest.approx(hsic / np.sqrt(np.outer(hsic.diagonal(), hsic.diagonal())), abs=1e-5)


def test_cka_of_two_networks_with_their_own_layers(model, images):
    torch.manual_seed(5)
    other = AllCNNC(width=0.1)
    found = linear_cka(model, images, layers="layer[12]", other=other, other_layers="layer[789]", batch_size=13)
    assert (found.rows, found.columns) == (("layer1", "layer2"), ("layer7", "layer8", "layer9"))
    one, two = features(model, images), features(other, images)
    hsic = unbiased_hsic(one["layer2"], two["layer7"])
    expected = hsic / np.sqrt(unbiased_hsic(one["layer2"], one["layer2"]) * unbiased_hsic(two["layer7"], two["layer7"]))
    assert found.values[1, 0] == pytest.approx(expected, abs=1e-5)


LINEAR_AND_CONSTANT = ["plain", "rotated", "offset", "constant", "rounded"]


class Maps(nn.Module):
    """Linear views of the same pixels, a rotation with scale and offset; a constant, and one but for rounding."""

    def __init__(self, size):
        super().__init__()
        torch.manual_seed(0)
        rotation = torch.linalg.qr(torch.randn(size, size))[0]
        self.plain, self.rotated, self.offset = nn.Flatten(), nn.Linear(size, size), nn.Identity()
        self.constant, self.rounded = nn.ReLU(), nn.Identity()
        self.rotated.weight.data = 3 * rotation
        self.rotated.bias.data = torch.full((size,), 1e3)

    def forward(self, images):
        flat = self.plain(images)
        self.offset(flat + 1e3)
        self.rounded(1 + 2e-7 * (flat > 0.5))
        return self.rotated(flat) + self.constant(0 * flat)


def test_cka_sees_neither_rotation_nor_scale_nor_offset_and_a_constant_layer_has_none():
    model = Maps(48)
    images = torch.rand(600, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    found = linear_cka(model, images, layers=LINEAR_AND_CONSTANT, batch_size=100)
    assert set(found.rows) == set(LINEAR_AND_CONSTANT)
    linear = [name not in ("constant", "rounded") for name in found.rows]
    assert found.values[np.ix_(linear, linear)] == pytest.approx(np.ones((3, 3)), abs=1e-4)
    assert np.isnan(found.values[np.logical_not(linear)]).all()


def test_cka_of_independent_layers_is_near_zero_where_the_biased_one_is_far_from_it():
    class Independent(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Identity(), nn.Identity()

        def forward(self, images):
            return self.one(images[:, :1]), self.two(images[:, 1:])

    images = torch.rand(200, 2, 40, 40, generator=torch.Generator().manual_seed(4))
    found = linear_cka(Independent(), images, layers=["one", "two"], batch_size=20)
    x, y = (images[:20, channel].flatten(1).double() for channel in (0, 1))
    x, y = x - x.mean(0), y - y.mean(0)
    biased = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    assert biased > 0.9
    assert abs(found.values[0, 1]) < 0.1


def test_models_come_back_as_they_were(model, images):
    model.train()
    linear_cka(model, images, layers="layer*")
    rdms(model, images, layers="layer*")
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"images": torch.rand(3, 3, 8, 8)}, "at least 4, got 3"),
        ({"images": torch.rand(8, 1, 8, 8)}, "does not accept images of shape (1, 8, 8)"),
        ({"images": torch.rand(8, 3, 8, 8), "batch_size": 3}, "batch_size: expected at least 4, got 3"),
        ({"images": torch.rand(8, 3, 8, 8), "layers": "nothing"}, "no layer matches 'nothing'"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(model, arguments, says):
    with pytest.raises(UserError, match=re.escape(says)):
        linear_cka(model, **{"layers": "layer*", **arguments})


@pytest.mark.parametrize("measure", [rdms, linear_cka])
def test_images_are_those_that_scores_are_of(model, images, measure):
    outside, missing = images.clone(), images.clone()
    outside[0, 0, 0, 0], missing[0, 0, 0, 0] = 255, float("nan")
    for wrong in (outside, missing, (images * 255).byte(), images[0], images.numpy(), [images]):
        with pytest.raises(ValueError, match="images: expected"):
            measure(model, wrong, layers="layer1")


@pytest.mark.parametrize("measure", [rdms, linear_cka])
def test_a_network_that_writes_over_its_input_leaves_the_images_as_they_are(images, measure):
    class WritesOverItsInput(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.inner(x.mul_(2))

    given = images.contiguous(memory_format=torch.channels_last)
    before = given.clone()
    measure(WritesOverItsInput(), given, layers="inner", batch_size=4)
    assert torch.equal(given, before)


def test_layers_count_as_they_were_put_out_whatever_the_networks_precision():
    """Half precision, and a ReLU that writes over the output of the layer before it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)).half()
    pictures = torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    before = network[0](pictures.half()).flatten(1).double()
    expected = (before[:, None] - before[None, :]).square().mean(-1)
    found = rdms(network, pictures, layers="*")
    assert found.layers == ("input", "0", "1")
    np.testing.assert_allclose(squareform(found.dissimilarities[1]), expected.detach(), rtol=1e-3)
    assert network[1].inplace
    similar = linear_cka(network, pictures, layers="*", batch_size=6)
    assert similar.values[0, 0] == pytest.approx(1)
    assert similar.values[0, 1] < 1


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("geometry") / "run"
    small = ["--width", 0.05, "--batch-size", 16, "--views", 4, "--device", "cpu", "--steps", 2]
    assert invoke("train", "--data", "digits", *small, "--run-dir", path).exit_code == 0
    return path


@pytest.fixture(scope="module")
def rdm_file(run_dir):
    out = run_dir.parent / "rdm.npz"
    result = invoke("rdm", run_dir, "--images", 12, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def test_dainv_rdm_writes_arrays_without_pickle(rdm_file, run_dir):
    with np.load(rdm_file, allow_pickle=False) as file:
        assert file["dissimilarities"].shape == (10, 66)
        assert list(file["layer"]) == ["input", *LAYERS]
        assert list(file["label"]) == sorted(file["label"])
        assert len(set(file["image"].tolist())) == 12
        about = json.loads(str(file["about"]))
    assert about["data"] == "digits"
    assert about["model_sha256"] == weights_fingerprint(load_model(str(run_dir)).state_dict())


def test_the_file_is_rsatoolboxs_by_the_lines_of_the_docs(rdm_file, monkeypatch):
    pytest.importorskip("rsatoolbox")
    page = (Path(__file__).parents[2] / "docs" / "geometry.md").read_text()
    lines = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "rsatoolbox" in block)
    monkeypatch.chdir(rdm_file.parent)
    names: dict = {}
    exec(lines, names)
    loaded = names["rdms"]
    assert (loaded.n_rdm, loaded.n_cond) == (10, 12)
    with np.load(rdm_file) as file:
        for matrix, vector in zip(loaded.get_matrices(), file["dissimilarities"], strict=True):
            assert np.array_equal(matrix, squareform(vector))
    assert loaded.subset("layer", "layer9").n_rdm == 1
    assert loaded.subset_pattern("label", [0, 1]).n_cond == sum(
        label in (0, 1) for label in loaded.pattern_descriptors["label"]
    )


def test_a_named_network_is_the_same_every_time_and_sees_what_it_expects(tmp_path):
    def distances(name, *options):
        out = tmp_path / f"{name}.npz"
        options = ("--data", "digits", "--images", 5, "--layers", "layer[19]", "--out", out, *options)
        result = invoke("rdm", "allcnn", *options)
        assert result.exit_code == 0, result.output
        with np.load(out) as file:
            return file["dissimilarities"]

    first = distances("first")
    assert np.array_equal(distances("again"), first)
    doubled = distances("doubled", "--normalize", "0/0.5")
    assert np.array_equal(doubled[0], first[0])  # the pixels as they are
    np.testing.assert_allclose(doubled[1:], 4 * first[1:], rtol=1e-4)  # ReLUs without biases
    other = tmp_path / "weights.pt"
    torch.manual_seed(7)
    torch.save(AllCNNC().state_dict(), other)
    assert not np.allclose(distances("other", "--weights", other)[1:], first[1:])
    options = ("--data", "digits", "--images", 8, "--layers", "layer[19]", "--format", "json")
    result = invoke("cka", "allcnn", "allcnn", *options, "--other-weights", other)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["values"][1][1] < 0.99


def test_dainv_rdm_takes_named_images_in_their_order(run_dir, rdm_file):
    out = rdm_file.with_name("named.npz")
    assert invoke("rdm", run_dir, "--indices", "7,3,20", "--out", out).exit_code == 0
    with np.load(out) as file:
        assert list(file["image"]) == [7, 3, 20]
    result = invoke("rdm", run_dir, "--indices", "7,three")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1


def test_dainv_cka_prints_and_writes_the_same_numbers(run_dir):
    out = [run_dir.parent / f"cka.{ending}" for ending in ("json", "csv", "png", "svg")]
    common = ("cka", run_dir, "--images", 40, "--batch-size", 10)
    result = invoke(*common, "--format", "json", *itertools.chain(*(("--out", path) for path in out)))
    assert result.exit_code == 0, result.output
    printed = json.loads(result.output)
    assert printed == json.loads(out[0].read_text())
    assert np.diagonal(printed["values"]) == pytest.approx(np.ones(9))
    rows = out[1].read_text().splitlines()
    assert rows[0] == "row,column,cka"
    assert float(rows[2].split(",")[2]) == printed["values"][0][1]
    assert out[2].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in out[3].read_bytes()
    assert f"{printed['values'][0][8]:.2f}" in invoke(*common).output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cka", "squeezenet1_1", "--data", "digits"], "name some with --layers"),
        (["cka", "allcnn"], "say which images with --data"),
        (["cka", "allcnn", "--data", "digits", "--out", "x.pdf"], "--out x.pdf: expected a name that ends in"),
        (["rdm", "allcnn", "--data", "digits", "--indices", "0,364"], "test images 0 to 363, not 364"),
        (["rdm", "allcnn", "--data", "digits", "--images", "365"], "digits has 364 test images"),
        (["rdm", "allcnn", "--data", "no data yet", "--out", f"{__file__}/x.npz"], "x.npz cannot be written"),
        (["cka", "allcnn", "--data", "no data yet", "--out", f"{__file__}/x.csv"], "x.csv cannot be written"),
    ],
)
def test_a_mistake_is_one_line(arguments, says):
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert says in result.output
    assert result.output.count("\n") == 1
