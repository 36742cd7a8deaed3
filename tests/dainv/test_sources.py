import itertools

import pytest
import torch
from data_folders import image_folder

from dainv import UserError
from dainv.data import ImageSplit, SourceSampler, load_data
from dainv.sources import source_batches

SIZES = ((8, 8), (10, 12), (16, 9), (8, 8), (9, 9))  # 10 training images


def in_memory(n=10):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return ImageSplit(images, torch.arange(n) % 3)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    folder = image_folder(tmp_path_factory.mktemp("streamed"), sizes=SIZES)
    return load_data(str(folder), image_size=6, stream="always", workers=2).train


def batches(split, first_step=0, n=5, share=slice(None)):
    found = source_batches(split, SourceSampler(len(split), 4, seed=3), first_step, share)
    taken = list(itertools.islice(found, n))
    found.close()
    return taken


def assert_equal(one, other):
    assert len(one) == len(other) > 0
    for (images, labels), (other_images, other_labels) in zip(one, other, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_images_in_memory_come_as_the_sampler_says():
    split, sampler = in_memory(), SourceSampler(10, 4, seed=3)
    for step, (images, labels) in enumerate(batches(split)):
        assert images.dtype == torch.uint8
        assert torch.equal(images, split.images[sampler.indices(step)])
        assert torch.equal(labels, split.labels[sampler.indices(step)])


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_images_come_in_the_same_order_as_those_in_memory(streamed, workers):
    split = ImageSplit(streamed.decoded(torch.arange(10)), streamed.labels)
    taken = batches(load_data(str(streamed.folder), image_size=6, stream="always", workers=workers).train)
    assert_equal(taken, batches(split))


@pytest.mark.parametrize("kind", ["memory", "streamed"])
def test_who_begins_later_gets_the_same_batches(kind, streamed):
    split = in_memory() if kind == "memory" else streamed
    assert_equal(batches(split, first_step=3, n=2), batches(split)[3:])


@pytest.mark.parametrize("kind", ["memory", "streamed"])
def test_shares_make_up_the_batch(kind, streamed):
    split = in_memory() if kind == "memory" else streamed
    parts = [batches(split, share=share) for share in (slice(0, 3), slice(3, 4))]
    joined = [tuple(torch.cat(pair) for pair in zip(*both, strict=True)) for both in zip(*parts, strict=True)]
    assert_equal(joined, batches(split))


@pytest.mark.parametrize("kind", ["memory", "streamed"])
def test_no_random_number_is_drawn(kind, streamed):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(in_memory() if kind == "memory" else streamed)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_named_when_its_batch_is_due(tmp_path, workers):
    image_folder(tmp_path, sizes=SIZES)
    data = load_data(str(tmp_path), image_size=6, stream="always", workers=workers)
    (tmp_path / "train" / "cat" / "2.png").write_bytes(b"broken")
    bad = next(step for step in itertools.count() if 2 in SourceSampler(10, 4, seed=3).indices(step))
    found = source_batches(data.train, SourceSampler(10, 4, seed=3))
    assert len(list(itertools.islice(found, bad))) == bad
    with pytest.raises(UserError, match=r"cat/2\.png: not a readable image") as caught:
        next(found)
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [False, True])
def test_the_host_does_not_wait_for_the_gpu(resident):
    split = in_memory().to("cuda") if resident else in_memory()
    found = source_batches(split, SourceSampler(10, 4, seed=3), device="cuda")
    next(found)
    torch.cuda.set_sync_debug_mode("error")
    try:
        taken = list(itertools.islice(found, 4))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_equal([(images.cpu(), labels.cpu()) for images, labels in taken], batches(in_memory())[1:])
