import hashlib
import shutil

import numpy as np
import pytest
import torch
from data_folders import image_folder
from PIL import Image

from dainv import UserError
from dainv.data import ImageSplit, StreamedSplit, load_data
from dainv.data.decoding import read_image
from dainv.evaluation import accuracy


def test_image_folder(tmp_path):
    data = load_data(str(image_folder(tmp_path)))
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    pixels = np.asarray(Image.open(tmp_path / "train" / "dog" / "1.png"))
    assert torch.equal(data.train.images[3], torch.from_numpy(pixels.transpose(2, 0, 1).copy()))


def test_image_folder_of_mixed_sizes_needs_image_size(tmp_path):
    image_folder(tmp_path, sizes=((8, 8), (8, 12)))
    with pytest.raises(UserError, match="--image-size"):
        load_data(str(tmp_path))
    assert load_data(str(tmp_path), image_size=6).image_shape == (3, 6, 6)


def test_corrupt_image_is_named(tmp_path):
    image_folder(tmp_path)
    (tmp_path / "test" / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UserError, match=r"cat/1\.png: not a readable image"):
        load_data(str(tmp_path))


def test_folder_without_train_is_named(tmp_path):
    with pytest.raises(UserError, match="train"):
        load_data(str(tmp_path))


@pytest.mark.parametrize("streamed", ["always", "never"])
@pytest.mark.parametrize("part", ["test", "val", "."])
def test_where_nothing_is_trained_test_images_are_enough(tmp_path, part, streamed):
    whole = load_data(str(image_folder(tmp_path / "whole")))
    shutil.copytree(tmp_path / "whole" / "test", tmp_path / "only" / part)
    data = load_data(str(tmp_path / "only"), test_only=True, stream=streamed)
    assert (data.classes, data.image_shape, len(data.train)) == (whole.classes, whole.image_shape, 0)
    everything = torch.arange(len(whole.test))
    assert torch.equal(data.test.batch(everything), whole.test.batch(everything))
    assert torch.equal(data.test.labels, whole.test.labels)
    assert data.fingerprint() != whole.fingerprint()
    with pytest.raises(UserError, match="no such folder"):
        load_data(str(tmp_path / "only"))


def test_the_shorter_side_is_resized_and_the_middle_kept(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    whole = np.asarray(Image.fromarray(pixels).resize((12, 4), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(read_image(tmp_path / "wide.png", 4) - whole[:, 4:8]).max() <= 1
    assert np.array_equal(read_image(tmp_path / "wide.png", None), pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_images_of_any_colour_mode_become_rgb(tmp_path, mode):
    name = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.new("RGB", (8, 8), (9, 99, 199)).convert(mode).save(name)
    assert read_image(name, None).shape == (8, 8, 3)


def test_grey_images_of_16_bits_keep_their_shades(tmp_path):
    """Pillow's own conversion would make nearly all of them white."""
    shades = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(shades * 257).save(tmp_path / "deep.png")
    assert np.array_equal(read_image(tmp_path / "deep.png", None), np.stack([shades] * 3, axis=2))


def test_images_of_32_bits_have_no_white_and_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match=r"float\.tif: not a readable image \(.*mode F; expected 8 or 16 bits"):
        read_image(tmp_path / "float.tif", None)


@pytest.mark.parametrize("part", ["val", "valid"])
def test_the_test_images_may_be_called_otherwise(tmp_path, part):
    data = load_data(str(image_folder(tmp_path, parts=("train", part))))
    assert len(data.test) == 4


def test_tiny_imagenets_layout(tmp_path):
    for label in ("n01", "n02"):
        (tmp_path / "train" / label / "images").mkdir(parents=True)
        (tmp_path / "train" / label / f"{label}_boxes.txt").write_text(f"{label}_0.JPEG\t0\t0\t9\t9\n")
        Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "train" / label / "images" / f"{label}_0.JPEG")
    (tmp_path / "test" / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "test" / "images" / "test_0.JPEG")
    (tmp_path / "val" / "images").mkdir(parents=True)
    for number, value in enumerate((40, 240)):
        Image.new("RGB", (8, 8), (value, 0, 0)).save(tmp_path / "val" / "images" / f"val_{number}.JPEG")
    annotations = tmp_path / "val" / "val_annotations.txt"
    annotations.write_text("val_1.JPEG\tn02\t0\t0\t9\t9\nval_0.JPEG\tn01\t0\t0\t9\t9\n")
    data = load_data(str(tmp_path))
    assert data.classes == ("n01", "n02")
    assert data.train.labels.tolist() == [0, 1]
    assert data.test.labels.tolist() == [1, 0]
    assert data.test.images[0].amax() > 200
    annotations.write_text("val_1.JPEG\tn03\n")
    with pytest.raises(UserError, match=r"val_annotations\.txt, line 1: expected a file and a class"):
        load_data(str(tmp_path))


def test_other_classes_in_the_test_set_are_named(tmp_path):
    image_folder(tmp_path)
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "wolf")
    with pytest.raises(UserError, match=r"train/ and test/ have different classes: only one of them has dog"):
        load_data(str(tmp_path))


def test_test_images_without_classes_are_answered_in_one_line(tmp_path):
    image_folder(tmp_path, parts=("train",))
    with pytest.raises(UserError, match="no test images; expected a folder test/ or val/"):
        load_data(str(tmp_path))
    (tmp_path / "val").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "val" / "ILSVRC2012_val_00000001.png")
    with pytest.raises(UserError, match="no subfolders; expected one a class"):
        load_data(str(tmp_path))


def test_streamed_images_are_those_in_memory(tmp_path):
    folder = str(image_folder(tmp_path, sizes=((8, 8), (10, 12), (16, 9))))
    kept = load_data(folder, image_size=6, stream="never")
    streamed = load_data(folder, image_size=6, stream="always", workers=2)
    assert isinstance(kept.train, ImageSplit)
    assert isinstance(streamed.train, StreamedSplit)
    assert (streamed.image_shape, len(streamed.train)) == (kept.image_shape, len(kept.train)) == ((3, 6, 6), 6)
    indices = torch.tensor([5, 0, 3, 0])
    assert torch.equal(streamed.test.batch(indices), kept.test.batch(indices))
    assert torch.equal(streamed.test.labels, kept.test.labels)
    assert torch.equal(streamed.train.first(2).batch(torch.arange(2)), kept.train.first(2).batch(torch.arange(2)))


def test_folders_are_streamed_where_their_pixels_would_not_fit(tmp_path, monkeypatch):
    folder = str(image_folder(tmp_path))
    assert not load_data(folder).streamed
    monkeypatch.setattr("dainv.data.folders.STREAM_ABOVE", 8 * 8 * 8 * 3 - 1)
    assert load_data(folder).streamed
    assert not load_data(folder, stream="never").streamed
    with pytest.raises(ValueError, match="stream: expected one of auto, always, never"):
        load_data(folder, stream="maybe")


def test_streamed_images_are_classified_like_those_in_memory(tmp_path):
    folder = str(image_folder(tmp_path))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    results = [accuracy(network, load_data(folder, stream=stream).test, 3) for stream in ("never", "always")]
    assert results[0] == results[1]


def test_the_fingerprint_of_streamed_data_follows_names_sizes_and_labels(tmp_path):
    def fingerprint(image_size=None):
        return load_data(str(tmp_path), stream="always", image_size=image_size).fingerprint()

    image_folder(tmp_path)
    seen = {fingerprint(), fingerprint(image_size=8)}
    path = tmp_path / "test" / "dog" / "1.png"
    path.write_bytes(path.read_bytes() + b"\0")
    seen.add(fingerprint())
    path.rename(path.with_name("2.png"))
    seen.add(fingerprint())
    path.with_name("2.png").rename(tmp_path / "test" / "cat" / "2.png")
    seen.add(fingerprint())
    assert len(seen) == 5
    assert fingerprint() == fingerprint()


def test_the_fingerprint_of_images_in_memory_stays_what_it_was(tmp_path):
    data = load_data(str(image_folder(tmp_path)))
    digest = hashlib.sha256()
    for split in (data.train, data.test):
        digest.update(split.images.numpy().tobytes() + split.labels.numpy().tobytes())
    assert data.fingerprint() == digest.hexdigest()


def test_a_streamed_image_that_is_corrupt_or_of_another_size_is_named(tmp_path):
    image_folder(tmp_path)
    (tmp_path / "train" / "dog" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    Image.new("RGB", (5, 8)).save(tmp_path / "train" / "dog" / "1.png")
    for workers in (0, 3):
        train = load_data(str(tmp_path), stream="always", workers=workers).train
        with pytest.raises(UserError, match=r"dog/0\.png: not a readable image"):
            train.batch(torch.tensor([0, 2]))
        with pytest.raises(UserError, match=r"dog/1\.png: 5 x 8 pixels, others have 8 x 8; pass --image-size"):
            train.batch(torch.tensor([3, 0]))
