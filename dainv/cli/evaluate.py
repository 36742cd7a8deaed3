"""`dainv evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.table import Table

from dainv.cli import options
from dainv.cli.console import console
from dainv.errors import UserError

if TYPE_CHECKING:
    from dainv.data import ImageData
    from dainv.runs import RunDirectory


@click.command()
@click.argument("run_dir")
@options.checkpoint
@options.data
@options.data_root
@options.image_size
@options.batch_size
@options.device
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
    from dainv.data import load_again
    from dainv.devices import resolve_device
    from dainv.evaluation import accuracy
    from dainv.models.loading import model_from_run
    from dainv.models.tapped import TappedNetwork
    from dainv.runs import RunDirectory
    from dainv.training.precision import set_precision

    run = RunDirectory.open(run_dir, checkpoint)
    images = load_again(run.config["settings"], data, data_root, image_size)
    _refuse_others(run, images)
    if data is None and images.fingerprint() != run.config["data"]["sha256"]:
        click.echo(f"warning: {images.name} has changed since {run.name} was trained on it", err=True)
    set_precision(run.config["settings"].get("precision", "fp32"))  # as the run's own evaluations
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
