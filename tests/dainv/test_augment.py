import math

import numpy as np
import pytest
import torch
from scipy import ndimage

import dainv
from dainv.augment import PARAMETERS, SCHEMES, TRANSFORMATIONS, at_strength

COLUMN = {name: column for column, name in enumerate(PARAMETERS)}


def identity(n):
    return dainv.augmentation("none").parameters(n).double()


def images(n=3, height=32, width=24):
    return torch.rand(n, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def scipy_warp(image, parameters, order, centre):
    """The published composition R T H Z around a centre, written with matrices, warped by scipy."""
    p = dict(zip(PARAMETERS, parameters.tolist(), strict=True))
    angle, shear = math.radians(p["rotation"]), math.radians(p["shear"])
    rotate = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    height, width = image.shape[1:]
    shift = np.array([[1, 0, p["shift_rows"] * height], [0, 1, p["shift_columns"] * width], [0, 0, 1]])
    slant = np.array([[1, -math.sin(shear), 0], [0, math.cos(shear), 0], [0, 0, 1]])
    zoom = np.diag([p["zoom_rows"], p["zoom_columns"], 1])
    there = np.array([[1, 0, centre[0]], [0, 1, centre[1]], [0, 0, 1]])
    back = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, 1]])
    matrix = there @ rotate @ shift @ slant @ zoom @ back
    warped = [
        ndimage.affine_transform(channel, matrix[:2, :2], matrix[:2, 2], order=order, mode="nearest")
        for channel in image
    ]
    out = np.stack(warped)
    return out[..., ::-1] if p["flip"] > 0.5 else out


@pytest.mark.parametrize(("interpolation", "order"), [("bilinear", 1), ("nearest", 0)])
@pytest.mark.parametrize("off_centre", [False, True])
def test_warp_agrees_with_scipy(interpolation, order, off_centre):
    scheme = SCHEMES["heavier"]
    geometry = {k: v for k, v in scheme.ranges.items() if k not in ("brightness", "contrast")}
    warp = type(scheme)("warp", geometry, interpolation=interpolation, off_centre=off_centre)
    batch = images(8)
    parameters = warp.parameters(8, torch.Generator().manual_seed(1)).double()
    assert {0.0, 1.0} == set(parameters[:, COLUMN["flip"]].tolist())
    centre = (16.5, 12.5) if off_centre else (15.5, 11.5)
    got = warp.apply(batch, parameters).numpy()
    for i in range(8):
        expected = scipy_warp(batch[i].numpy(), parameters[i], order, centre)
        np.testing.assert_allclose(got[i], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "value", "row", "column"),
    [("shift_rows", 0.25, 8, 0), ("shift_columns", 0.25, 0, 6)],
)
def test_a_positive_shift_looks_further_down_or_right(name, value, row, column):
    batch, parameters = images(), identity(3)
    parameters[:, COLUMN[name]] = value
    got = dainv.augmentation("heavier").apply(batch, parameters)
    torch.testing.assert_close(got[:, :, :16, :10], batch[:, :, row : row + 16, column : column + 10])


def test_edges_are_replicated():
    batch, parameters = images(), identity(3)
    parameters[:, COLUMN["shift_columns"]] = 0.5
    got = dainv.augmentation("heavier").apply(batch, parameters)
    torch.testing.assert_close(got[..., 12:], batch[..., -1:].expand(-1, -1, -1, 12))


def test_identity_parameters_change_nothing():
    batch = images()
    torch.testing.assert_close(dainv.augmentation("heavier").apply(batch, identity(3)), batch)


def test_brightness_is_added_then_clipped_then_contrast_around_each_channel():
    batch, parameters = images(), identity(3)
    parameters[:, COLUMN["brightness"]] = 0.2
    parameters[:, COLUMN["contrast"]] = 1.4
    brighter = (batch.numpy() + 0.2).clip(0, 1)
    mean = brighter.mean(axis=(2, 3), keepdims=True)
    expected = ((brighter - mean) * 1.4 + mean).clip(0, 1)
    got = dainv.augmentation("heavier").apply(batch, parameters)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-12)


def test_heavier_draws_truncated_normals_over_the_published_ranges():
    drawn = dainv.augmentation("heavier").parameters(100_000, torch.Generator().manual_seed(0))
    half_range = {
        "rotation": 22.5,
        "shift_rows": 0.1,
        "shift_columns": 0.1,
        "shear": math.degrees(0.15),
        "zoom_rows": 0.15,
        "zoom_columns": 0.15,
        "brightness": 0.25,
        "contrast": 0.5,
    }
    for name, half in half_range.items():
        values = drawn[:, COLUMN[name]] - (1 if name.startswith(("zoom", "contrast")) else 0)
        assert half * 0.99 < values.abs().max() <= half * 1.0001
        assert values.std().item() == pytest.approx(0.44 * half, rel=0.02)  # a uniform draw would give 0.577
        assert abs(values.mean().item()) < 0.01 * half
    assert drawn[:, COLUMN["flip"]].mean().item() == pytest.approx(0.5, abs=0.01)


def test_parameters_of_an_image_are_independent_of_each_other():
    drawn = dainv.augmentation("heavier").parameters(50_000, torch.Generator().manual_seed(0))
    correlation = torch.corrcoef(drawn.T) - torch.eye(len(PARAMETERS))
    assert correlation.abs().max() < 0.02


@pytest.mark.parametrize(
    ("name", "contrast"), [("half-extremes", (0.75, 1.25)), ("half-extremes-released", (0.25, 1.25))]
)
def test_extremes_take_either_end_of_the_halved_ranges(name, contrast):
    drawn = dainv.augmentation(name).parameters(2000, torch.Generator().manual_seed(0))
    expected = {"rotation": {-11.25, 11.25}, "zoom_rows": {0.925, 1.075}, "brightness": {-0.125, 0.125}}
    for parameter, ends in {**expected, "shift_rows": {-0.05, 0.05}, "contrast": contrast}.items():
        values, counts = drawn[:, COLUMN[parameter]].unique(return_counts=True)
        assert values.tolist() == pytest.approx(sorted(ends), rel=1e-6)
        assert counts.min() > 900


def test_light_only_shifts_and_flips():
    drawn = dainv.augmentation("light").parameters(1000)
    still = [COLUMN[n] for n in PARAMETERS if n not in ("shift_rows", "shift_columns", "flip")]
    assert (drawn[:, still].std(0) == 0).all()
    assert (drawn[:, [COLUMN["shift_rows"], COLUMN["flip"]]].std(0) > 0).all()


def test_none_returns_the_images():
    batch = images()
    assert dainv.augmentation("none")(batch) is batch


def test_every_image_gets_its_own_transformation():
    batch = images(1).expand(16, -1, -1, -1)
    out = dainv.augmentation("heavier")(batch, torch.Generator().manual_seed(0))
    distances = dainv.pairwise_mse(out)
    assert (distances + torch.eye(16) > 1e-4).all()


def test_a_generator_makes_draws_repeatable_and_leaves_the_global_one_alone():
    scheme, batch = dainv.augmentation("heavier"), images()
    before = torch.get_rng_state()
    first = scheme(batch, torch.Generator().manual_seed(5))
    second = scheme(batch, torch.Generator().manual_seed(5))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_output_stays_in_range_and_shape():
    out = dainv.augmentation("heavier")(images(16).float())
    assert out.shape == (16, 3, 32, 24)
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1


def test_equal_schemes_have_one_hash():
    assert hash(dainv.augmentation("heavier", "bilinear")) == hash(dainv.augmentation("heavier"))
    assert len({dainv.augmentation(name) for name in ("heavier", "heavier", "light")}) == 2


def test_unknown_scheme_and_wrong_images_are_refused():
    with pytest.raises(dainv.UserError, match="heavier"):
        dainv.augmentation("heavy")
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        dainv.augmentation("heavier")(torch.rand(3, 32, 32))
    with pytest.raises(ValueError, match="images: expected a float tensor"):
        dainv.augmentation("heavier")([0.5])
    with pytest.raises(dainv.UserError, match="interpolation: expected one of bilinear, nearest, got 'cubic'"):
        dainv.augmentation("heavier", "cubic")


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_a_transformation_alone_draws_as_in_the_scheme_and_changes_nothing_else(transformation):
    scheme = dainv.augmentation("heavier")
    alone = scheme.alone(transformation)
    both = [one.parameters(500, torch.Generator().manual_seed(0)) for one in (scheme, alone)]
    still = torch.tensor([1.0 if name.startswith(("zoom", "contrast")) else 0.0 for name in PARAMETERS])
    for column, name in enumerate(PARAMETERS):
        if name == transformation == "flip":
            assert (both[1][:, column] == 1).all()
        elif name in TRANSFORMATIONS[transformation]:
            assert torch.equal(both[1][:, column], both[0][:, column])
        else:
            assert (both[1][:, column] == still[column]).all()


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_a_strength_is_that_of_every_image(transformation):
    drawn = at_strength(transformation, 0.3).parameters(200, torch.Generator().manual_seed(0))
    for name in TRANSFORMATIONS[transformation]:
        values = drawn[:, COLUMN[name]].unique().tolist()
        either_way = transformation in ("rotation", "shift", "shear")
        assert values == pytest.approx([-0.3, 0.3] if either_way else [0.3])


def test_schemes_know_what_they_are_made_of():
    assert dainv.augmentation("heavier").transformations() == list(TRANSFORMATIONS)
    assert dainv.augmentation("light").transformations() == ["shift", "flip"]
    with pytest.raises(dainv.UserError, match=r"light.*rotation"):
        dainv.augmentation("light").alone("rotation")
    with pytest.raises(dainv.UserError, match="no transformation 'spin'"):
        at_strength("spin", 1)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_half_precision_rounds_the_pixels_and_not_their_positions(dtype, rounding):
    scheme = dainv.augmentation("heavier")
    batch = images(2, 224, 224).float().to(dtype)
    parameters = scheme.parameters(2, torch.Generator().manual_seed(0))
    made = scheme.apply(batch, parameters)
    assert made.dtype == dtype
    torch.testing.assert_close(made.float(), scheme.apply(batch.float(), parameters), rtol=rounding, atol=0)
