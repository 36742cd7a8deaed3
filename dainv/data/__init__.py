"""Labelled images: where they come from, and which of them make up a batch."""

from dainv.data.choice import choose_images
from dainv.data.load import load_again, load_data
from dainv.data.sampler import SourceSampler
from dainv.data.splits import ImageData, ImageSplit, Split, StreamedSplit

__all__ = [
    "ImageData",
    "ImageSplit",
    "SourceSampler",
    "Split",
    "StreamedSplit",
    "choose_images",
    "load_again",
    "load_data",
]
