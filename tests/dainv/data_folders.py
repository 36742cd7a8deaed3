"""Image folders that tests make."""

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog")


def image_folder(root, sizes=((8, 8), (8, 8)), parts=("train", "test")):
    """A folder of random images, one of each size in each class of each part."""
    rng = np.random.default_rng(0)
    for part in parts:
        for label in CLASSES:
            (root / part / label).mkdir(parents=True)
            for number, size in enumerate(sizes):
                pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / label / f"{number}.png")
    return root
