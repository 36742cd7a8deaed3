"""`dainv evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.table import Table

from dainv.cli.console import console
from dainv.errors import UserError
from dainv.runs import CHECKPOINTS, RunDirectory

if TYPE_CHECKING:
    from dainv.data import ImageData


@click.command(short_help="Accuracy of a trained run.")
@click.argument("run_dir")
@click.option(
    "--checkpoint", type=click.Choice(CHECKPOINTS), default="newest", help="best has the highest test accuracy."
)
@click.option("--data", default=None, help="Other data than the run was trained on.")
@click.option("--data-root", default=None, help="Where downloads go.  [default: where those of the run went]")
@click.option("--image-size", type=int, default=None, help="Side of the images of a folder.  [default: the run's]")
@click.option("--batch-size", type=click.IntRange(1), default=500, help="Images at a time.")
@click.option("--device", default="auto", help="auto, cpu, cuda, ...")
def evaluate(
    run_dir: str,
    checkpoint: str,
    data: str | None,
    data_root: str | None,
    image_size: int | None,
    batch_size: int,
    device: str,
) -> None:
    """Accuracy and cross-entropy of a run's checkpoint, on training and test images as they are."""
    from dainv.data import load_data
    from dainv.devices import resolve_device
    from dainv.evaluation import accuracy
    from dainv.models.loading import model_from_run
    from dainv.models.tapped import TappedNetwork

    run = RunDirectory.open(run_dir, checkpoint)
    settings = run.config["settings"]
    images = load_data(
        data or settings["data"],
        root=data_root or settings["data_root"],
        image_size=settings["image_size"] if image_size is None else image_size,
        stream=settings.get("stream", "auto"),
        workers=settings.get("workers"),
    )
    _refuse_others(run, images)
    place = resolve_device(device)
    model = TappedNetwork(model_from_run(run), ()).to(place)
    table = Table(
        "images", "number", "accuracy", "cross-entropy", title=f"{run.name}, {checkpoint} checkpoint, on {images.name}"
    )
    for name, split in (("test", images.test), ("training", images.train)):
        result = accuracy(model, split.to(place), batch_size)
        table.add_row(name, str(len(split)), f"{100 * result['accuracy']:.2f} %", f"{result['loss']:.4f}")
    console.print(table)


def _refuse_others(run: RunDirectory, images: ImageData) -> None:
    """Images that the network of a run cannot classify.

    Raises:
        UserError: other channels or classes than it was trained on.
    """
    model = run.config["model"]
    for key, found, what in (
        ("in_channels", images.image_shape[0], "channels"),
        ("n_classes", len(images.classes), "classes"),
    ):
        if model[key] != found:
            raise UserError(f"{images.name} has {found} {what}, {run.name} was trained on {model[key]}")
