"""What the sums of two passes give beside Eq. 2, each against its definition over explicit pairs."""

import weakref

import numpy as np
import pytest
import torch
from torch import nn

import dainv
from dainv.scores import INPUT, SplitImages, score_network
from dainv.scores.listening import listening
from dainv.scores.sums import rounding


@pytest.fixture
def images():
    return torch.rand(20, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


LABELS = [2, 0, 2, 7, 0, 2, 2, 0, 2, 0, 0, 2, 2, 0, 2, 0, 2, 0, 7, 4]
SCHEME = dainv.augmentation("half-extremes")
TRANSFORMS = {"all": SCHEME, "rotation": SCHEME.alone("rotation"), "darker": lambda batch: batch * 0.7}


def features(net, images):
    with torch.no_grad():
        return {INPUT: images.flatten(1).double(), "1": net(images).flatten(1).double()}


def test_several_transformations_at_once_score_as_one_by_one(net, images):
    found = score_network(
        net, images, layers="*", transforms=TRANSFORMS, repeats={"all": 3, "rotation": 2, "darker": 1}
    )
    assert found.transformations == list(TRANSFORMS)
    for (name, transform), repeats in zip(TRANSFORMS.items(), (3, 2, 1), strict=True):
        alone = dainv.invariance_scores(net, images, layers="*", transform=transform, repeats=repeats)
        for layer, sigma in alone.sigma.items():
            np.testing.assert_array_equal(found.scores(name).sigma[layer], sigma)


def test_clean_images_go_through_twice_however_many_transformations(net, images):
    seen = []
    net.register_forward_hook(lambda _net, inputs, _output: seen.append(inputs[0].clone()))
    score_network(net, images, layers="1", transforms=TRANSFORMS, repeats=2, batch_size=20)
    seen = [batch for batch in seen if len(batch) == 20]
    assert len(seen) == 2 + 3 * 2
    assert sum(torch.equal(batch, images) for batch in seen) == 2


def test_classes_change_nothing_but_the_order_in_which_images_are_read(net, images):
    plain = score_network(net, images, layers="1", transforms=TRANSFORMS, batch_size=7)
    classed = score_network(net, images, layers="1", transforms=TRANSFORMS, batch_size=7, labels=LABELS)
    for name in ("all", "rotation"):
        for layer, sigma in plain.scores(name).sigma.items():
            np.testing.assert_allclose(classed.scores(name).sigma[layer], sigma, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 6, 64])
def test_class_wise_invariance_is_its_definition_over_pairs(net, images, batch_size):
    labels = torch.tensor(LABELS)
    found = score_network(
        net, images, layers="1", transforms={"darker": TRANSFORMS["darker"]}, batch_size=batch_size, labels=LABELS
    )
    assert found.classes == [0, 2, 4, 7]
    for layer, rows in features(net, images).items():
        distances = (rows[:, None] - rows).square().mean(-1)
        distinct = ~torch.eye(20, dtype=torch.bool)
        got = found.class_invariance()[layer]
        for place, label in enumerate((0, 2, 4, 7)):
            within = (labels[:, None] == label) & (labels == label) & distinct
            expected = 1 - distances[within].mean() / distances[distinct].mean()
            np.testing.assert_allclose(got.by_class[place], expected, atol=1e-6)  # NaN for the class of one image
        loss = dainv.invariance_loss(rows, labels, backend="reference")
        assert got.overall == pytest.approx(1 - float(loss), abs=1e-6)


def test_pooled_score_is_the_ratio_of_mean_distances(net, images):
    found = score_network(net, images, layers="1", transforms={"darker": TRANSFORMS["darker"]}, repeats=1)
    transformed = features(net, images * 0.7)
    for layer, rows in features(net, images).items():
        pairs = (rows[:, None] - rows).square().mean(-1)
        expected = 1 - (rows - transformed[layer]).square().mean() / pairs.mean()
        assert found.pooled("darker")[layer] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("batch_size", [3, 64])
def test_variance_ratios_are_their_definition(net, images, batch_size):
    repeats = 4
    net[0].weight.data[3] = 0  # a map that is the same for all: ratio 1, as in the authors' implementation
    found = score_network(
        net, images, layers="1", transforms={"all": SCHEME}, repeats=repeats, variances=True, batch_size=batch_size
    )
    generator = torch.Generator().manual_seed(0)
    views = [SCHEME.apply(images, SCHEME.parameters(20, generator)) for _ in range(repeats)]
    stacked = [features(net, view) for view in views]
    for layer in (INPUT, "1"):
        a = torch.stack([view[layer] for view in stacked])  # (R, N, D)
        over_transformations, of_samples = a.var(0).mean(0), a.var(1).mean(0)
        ratios = torch.where(of_samples > 0, over_transformations / of_samples, 1.0)
        got = found.variance_ratios("all")[layer]
        assert got.mean == pytest.approx(float(ratios.mean()), rel=1e-5)
        assert got.pooled == pytest.approx(float(over_transformations.sum() / of_samples.sum()), rel=1e-5)


def test_features_that_transformations_silence_count_as_the_same_for_all(images):
    """Alive in some images as they are, dead in all transformed ones: nothing is left but rounding."""

    class Alive(nn.Module):
        def forward(self, x):
            return (x - 0.9).relu()

    silenced = {"darker": lambda batch: batch * 0.5, "but one": lambda batch: torch.where(batch > 0.99, batch, 0)}
    asked = {"layers": "0", "transforms": silenced, "repeats": 3, "variances": True, "batch_size": 7}
    found = score_network(nn.Sequential(Alive()), images, **asked)
    assert found.variance_ratios("darker")["0"].mean == 1
    assert np.isnan(found.variance_ratios("darker")["0"].pooled)
    left = (images > 0.99).any(0).float().mean().item()
    assert 0 < left < 1
    assert found.variance_ratios("but one")["0"].mean == pytest.approx(1 - left)
    assert found.variance_ratios("but one")["0"].pooled == 0


def test_a_constant_layer_has_no_measure_and_says_why(images):
    dead = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    nn.init.constant_(dead[0].bias, -10)
    found = score_network(dead, images, layers="1", transforms={"all": SCHEME}, labels=LABELS, variances=True)
    assert found.unscored == {"1": "the same for all images"}
    assert np.isnan(found.pooled("all")["1"])
    assert np.isnan(found.class_invariance()["1"].overall)
    assert np.isnan(found.variance_ratios("all")["1"].pooled)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 11])
def test_equal_images_have_no_score_whatever_rounding_makes_of_them_in_batches_of_other_sizes(batch_size):
    class Rounds(nn.Module):
        def forward(self, x):
            return x * (1 + 1e-7 * len(x))

    same = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)).expand(11, -1, -1, -1).contiguous()
    network = nn.Sequential(Rounds(), nn.Conv2d(3, 4, 3), nn.ReLU())
    asked = {"layers": "*", "transforms": {"all": SCHEME}, "repeats": 2, "batch_size": batch_size, "variances": True}
    found = score_network(network, same, **asked)
    assert found.unscored == dict.fromkeys(("input", "0", "1", "2"), "the same for all images")
    assert all(np.isnan(sigma).all() for sigma in found.scores("all").sigma.values())
    assert np.isnan([found.variance_ratios("all")["2"].pooled, found.variance_ratios("all")["2"].mean]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_that_varies_by_more_than_rounding_is_scored(images, dtype):
    class Offset(nn.Module):
        def forward(self, x):
            return x.to(dtype) + 0.1 / rounding(dtype)

    found = score_network(nn.Sequential(Offset()), images, layers="0", transforms={"all": SCHEME}, repeats=1)
    assert found.unscored == {}


def test_infinite_activations_have_no_score_and_say_why(images):
    class Explodes(nn.Module):
        def forward(self, x):
            return torch.where(x > 0.5, torch.inf, x)

    found = score_network(nn.Sequential(Explodes()), images, layers="0", transforms={"all": SCHEME}, repeats=1)
    assert found.unscored == {"0": "infinite or NaN activations"}


def test_a_normalisation_is_seen_by_the_model_and_not_by_the_pixels(net, images):
    scaled = score_network(
        net, images, layers="1", transforms={"darker": TRANSFORMS["darker"]}, prepare=lambda batch: batch * 4 - 2
    ).scores("darker")
    plain = dainv.invariance_scores(net, images, layers="1", transform=TRANSFORMS["darker"])
    np.testing.assert_array_equal(scaled.sigma[INPUT], plain.sigma[INPUT])
    within = nn.Sequential(nn.Identity())
    within.forward = lambda x: within[0](net(x * 4 - 2))
    expected = dainv.invariance_scores(within, images, layers="0", transform=TRANSFORMS["darker"])
    np.testing.assert_allclose(scaled.sigma["1"], expected.sigma["0"], rtol=1e-5, atol=1e-6)


def test_part_of_a_data_set_is_read_as_it_is_asked_for(net):
    data = dainv_digits()
    indices = torch.tensor([5, 3, 200, 8])
    found = score_network(net, SplitImages(data.test, indices), layers="1", transforms={"all": SCHEME})
    expected = dainv.invariance_scores(net, data.test.batch(indices), layers="1", transform=SCHEME)
    np.testing.assert_array_equal(found.scores("all").sigma["1"], expected.sigma["1"])


def dainv_digits():
    from dainv.data import load_data

    return load_data("digits")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 1]}, "one for each of 20 images"),
        ({"labels": np.zeros(20)}, "integer"),
        ({"transforms": {}}, "at least one"),
        ({"variances": True, "repeats": 1}, "variance over them needs at least 2"),
    ],
)
def test_what_does_not_fit_together_is_refused(net, images, change, message):
    with pytest.raises(ValueError, match=message):
        score_network(net, images, **{"layers": "1", "transforms": {"all": SCHEME}, **change})


def test_no_activation_outlives_the_pass_that_needed_it(net, images):
    with listening(net, "1") as listener:
        listener.probe(images[:2])
        original = listener.run(images, lambda _layer, rows: rows)
        kept = weakref.ref(original["1"])
        listener.run(images, lambda layer, rows: rows - original[layer])
        original.clear()
        assert kept() is None


def test_measures_that_were_not_asked_for_say_how_to_ask(net, images):
    found = score_network(net, images, layers="1", transforms={"all": SCHEME}, repeats=1)
    with pytest.raises(ValueError, match="labels"):
        found.class_invariance()
    with pytest.raises(ValueError, match="variances=True"):
        found.variance_ratios("all")


def test_where_every_class_has_one_image_there_is_no_class_wise_invariance(net, images):
    found = score_network(net, images, layers="1", transforms={"all": SCHEME}, repeats=1, labels=range(len(images)))
    got = found.class_invariance()["1"]
    assert np.isnan(got.overall)
    assert np.isnan(got.by_class).all()
