"""Labelled images: where they come from, and which of them make up a batch."""

from dainv.data.load import load_data
from dainv.data.sampler import ViewSampler
from dainv.data.splits import ImageData, ImageSplit, Split, StreamedSplit

__all__ = ["ImageData", "ImageSplit", "Split", "StreamedSplit", "ViewSampler", "load_data"]
