"""Draws docs/picture/distances.svg, the README's picture: the distances of a few views, without and with the objective.

    python docs/picture/draw.py BASELINE_RUN INVARIANCE_RUN

The runs are those of ``make demo``. The views are of test images, the first of each class, by the training scheme.
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path
from xml.sax.saxutils import escape

import torch
from torch import Tensor

import dainv
from dainv.data import load_data
from dainv.models.loading import load_model
from dainv.runs import RunDirectory
from dainv.taps import Taps, evaluating

HERE = Path(__file__).parent
IMAGES, VIEWS, CELL, GAP = 4, 4, 20, 70
SIDE = IMAGES * VIEWS * CELL
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1f2328 } .small { font-size: 12px; fill: #59636e }
.cell { fill: #0a66c2 } .group { fill: none; stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .cell { fill: #6cb6ff } .group { stroke: #e6edf3 }
}
"""


def views_of(data: str, data_root: str) -> Tensor:
    """``(IMAGES * VIEWS, C, H, W)`` views of test images, one image a class."""
    test = load_data(data, root=data_root, download=False).test
    chosen = torch.stack([(test.labels == label).nonzero()[0, 0] for label in range(IMAGES)])
    images = (test.images[chosen] / 255).repeat_interleave(VIEWS, dim=0)
    return dainv.augmentation("heavier")(images, torch.Generator().manual_seed(0))


def distances(run: str, layer: str, views: Tensor) -> Tensor:
    """``(B, B)`` distances at a layer (Eq. 1) over their mean over distinct pairs; Eq. 3 is then a mean in groups."""
    model = load_model(run)
    taps = Taps(model, [layer])
    with evaluating(model):
        model(views)
        matrix = dainv.pairwise_mse(taps.take()[layer])
    return matrix / (matrix.sum() / (len(views) * (len(views) - 1)))


def thumbnail(image: Tensor) -> str:
    """An image as a ``data:`` address."""
    from torchvision.transforms.functional import to_pil_image

    file = io.BytesIO()
    to_pil_image(image).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _definitions(views: Tensor) -> list[str]:
    size = f'width="{CELL - 2}" height="{CELL - 2}"'
    images = [f'<image id="view{n}" href="{thumbnail(view)}" {size}/>' for n, view in enumerate(views)]
    return ["<defs>", *images, "</defs>"]


def panel(x: int, title: str, matrix: Tensor) -> list[str]:
    """One matrix with its views at the left and above, its groups outlined, and its loss below."""
    darkest = 2.0  # times the mean distance; the same for both panels
    parts = [f'<g transform="translate({x} 34)">', f'<text x="{CELL + 8}" y="-14">{escape(title)}</text>']
    for row in range(len(matrix)):
        place = CELL + 8 + row * CELL
        parts += [f'<use href="#view{row}" y="{place}"/>', f'<use href="#view{row}" x="{place}"/>']
        for column, value in enumerate(matrix[row].tolist()):
            shade = min(value / darkest, 1)
            if shade:
                at = f'x="{CELL + 8 + column * CELL}" y="{place}"'
                parts.append(f'<rect class="cell" {at} width="{CELL}" height="{CELL}" fill-opacity="{shade:.2f}"/>')
    size = VIEWS * CELL
    for group in range(IMAGES):
        corner = CELL + 8 + group * size
        parts.append(f'<rect class="group" x="{corner}" y="{corner}" width="{size}" height="{size}"/>')
    inside = sum(float(block.sum()) for block in _blocks(matrix)) / (len(matrix) * (VIEWS - 1))
    parts.append(f'<text x="{CELL + 8}" y="{CELL + 8 + SIDE + 22}">mean in the squares: L = {inside:.2f}</text></g>')
    return parts


def _blocks(matrix: Tensor) -> list[Tensor]:
    return [matrix[start : start + VIEWS, start : start + VIEWS] for start in range(0, len(matrix), VIEWS)]


def main(baseline: str, invariance: str, layer: str = "layer8", out: Path = HERE / "distances.svg") -> None:
    """Draw the picture of two runs on the same data."""
    settings = RunDirectory.open(baseline).config["settings"]
    views = views_of(settings["data"], settings["data_root"])
    width, height = 2 * (SIDE + CELL + 8) + GAP, SIDE + CELL + 116
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 0 {width + 8} {height}" role="img">',
        f"<title>Distances between {VIEWS} views of each of {IMAGES} images at {layer}, in two networks</title>",
        f"<style>{STYLE}</style>",
        *_definitions(views),
        *panel(0, "trained without", distances(baseline, layer, views)),
        *panel(SIDE + CELL + 8 + GAP, "trained with the objective", distances(invariance, layer, views)),
        f'<text class="small" x="0" y="{height - 28}">Distances between all pairs of views at {layer} (Eq. 1), '
        "relative to their mean. Squares: views of the same image.</text>",
        f'<text class="small" x="0" y="{height - 10}">The objective (Eq. 3) is the mean in the squares. dainv takes '
        "it without the matrix, from sums of squares around means.</text>",
        "</svg>",
    ]
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("baseline")
    parser.add_argument("invariance")
    parser.add_argument("--layer", default="layer8")
    parser.add_argument("--out", type=Path, default=HERE / "distances.svg")
    given = parser.parse_args()
    main(given.baseline, given.invariance, given.layer, given.out)
