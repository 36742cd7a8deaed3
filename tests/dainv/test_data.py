import numpy as np
import pytest
import torch

from dainv import UserError
from dainv.data import load_again, load_data


def arrays(**changes):
    rng = np.random.default_rng(0)
    good = {
        "x_train": rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8),
        "y_test": np.array([0, 1, 2]),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def test_digits_are_embedded_and_disjoint():
    data = load_data("digits")
    assert len(data.train) + len(data.test) == 1797
    assert data.image_shape == (3, 32, 32)
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.max() == 255
    counts = torch.bincount(data.test.labels)
    assert counts.min() >= 34
    assert len(counts) == 10


def test_npz_comes_back_as_channels_first(tmp_path):
    content = arrays()
    np.savez(tmp_path / "small.npz", **content)
    data = load_data(str(tmp_path / "small.npz"))
    assert data.name == "small"
    assert torch.equal(data.train.images[4], torch.from_numpy(content["x_train"][4].transpose(2, 0, 1)))
    assert data.test.labels.tolist() == [0, 1, 2]
    batch = data.train.batch(torch.tensor([4, 4]))
    assert batch.dtype == torch.float32
    assert batch[1, 2, 3, 5] == content["x_train"][4, 3, 5, 2] / np.float32(255)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "y_test"),
        ({"x_train": np.zeros((6, 8, 8), np.uint8)}, "x_train"),
        ({"x_train": np.zeros((6, 8, 8, 3), np.float32)}, "uint8"),
        ({"y_train": np.zeros(5, np.int64)}, "6 integer labels"),
        ({"y_train": np.zeros(6, np.float32)}, "integer labels"),
        ({"y_test": np.array([0, 1, 7])}, "0 to 7"),
        ({"y_train": np.array([0, 1, -1, 0, 1, 2])}, "-1 to 2"),
        ({"x_test": np.zeros((3, 4, 4, 3), np.uint8)}, "differ in size"),
        ({"x_train": np.zeros((0, 8, 8, 3), np.uint8), "y_train": np.zeros(0, np.int64)}, "empty"),
    ],
)
def test_malformed_npz_is_answered_in_one_line(tmp_path, changes, message):
    np.savez(tmp_path / "bad.npz", **arrays(**changes))
    with pytest.raises(UserError, match=message) as caught:
        load_data(str(tmp_path / "bad.npz"))
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_arrays_are_not_loaded(tmp_path):
    np.savez(tmp_path / "evil.npz", **arrays(y_train=np.array([object()] * 6, dtype=object)))
    with pytest.raises(UserError, match=r"evil\.npz"):
        load_data(str(tmp_path / "evil.npz"))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_damaged_npz_is_answered_in_one_line(tmp_path, content):
    (tmp_path / "damaged.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged\.npz"):
        load_data(str(tmp_path / "damaged.npz"))


def test_truncated_npz_is_answered_in_one_line(tmp_path):
    np.savez(tmp_path / "whole.npz", **arrays())
    whole = (tmp_path / "whole.npz").read_bytes()
    for share in (0.3, 0.6, 0.99):
        (tmp_path / "cut.npz").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UserError, match=r"cut\.npz"):
            load_data(str(tmp_path / "cut.npz"))


def test_absent_data_is_named():
    with pytest.raises(UserError, match=r"nowhere\.npz: no such file"):
        load_data("nowhere.npz")
    with pytest.raises(UserError, match="cifar10, cifar100, digits"):
        load_data("cifar11")


@pytest.mark.parametrize("options", [{"image_size": 16}, {"stream": "always"}])
def test_what_is_for_folders_is_refused_elsewhere(tmp_path, options):
    np.savez(tmp_path / "some.npz", **arrays())
    for source in ("digits", str(tmp_path / "some.npz")):
        with pytest.raises(UserError, match=r"--(image-size|stream always): .* it is for a folder of images"):
            load_data(source, **options)


def test_how_a_run_reads_its_folder_says_nothing_of_other_data(tmp_path):
    settings = {"data": "a folder", "image_size": 16, "stream": "always", "workers": 1}
    assert load_again(settings, "digits").image_shape == (3, 32, 32)


def test_failing_download_is_one_line(tmp_path, monkeypatch):
    from torchvision import datasets

    def fail(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets, "CIFAR10", fail)
    with pytest.raises(UserError, match=r"no route to host.*FILE\.npz"):
        load_data("cifar10", root=tmp_path)


def test_fingerprint_follows_every_pixel_and_label(tmp_path):
    seen = set()
    for name, content in {
        "a": arrays(),
        "b": arrays(y_test=np.array([0, 2, 2])),
        "c": arrays(x_test=arrays()["x_test"] ^ np.uint8(1)),
    }.items():
        np.savez(tmp_path / f"{name}.npz", **content)
        seen.add(load_data(str(tmp_path / f"{name}.npz")).fingerprint())
    assert len(seen) == 3
