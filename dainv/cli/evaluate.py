"""`dainv evaluate`."""

from __future__ import annotations

import click
from rich.table import Table

from dainv.cli.console import console
from dainv.runs import CHECKPOINTS


@click.command(short_help="Accuracy of a trained run.")
@click.argument("run_dir")
@click.option(
    "--checkpoint", type=click.Choice(CHECKPOINTS), default="newest", help="best has the highest test accuracy."
)
@click.option("--data", default=None, help="Other data than the run was trained on.")
@click.option("--data-root", default=None, help="Where downloads go.  [default: where those of the run went]")
@click.option("--batch-size", default=500, help="Images at a time.")
@click.option("--device", default="auto", help="auto, cpu, cuda, ...")
def evaluate(
    run_dir: str, checkpoint: str, data: str | None, data_root: str | None, batch_size: int, device: str
) -> None:
    """Accuracy and cross-entropy of a run's checkpoint, on training and test images as they are."""
    from dainv.data import load_data
    from dainv.devices import resolve_device
    from dainv.evaluation import accuracy
    from dainv.models.loading import model_from_run
    from dainv.runs import RunDirectory

    run = RunDirectory.open(run_dir, checkpoint)
    settings = run.config["settings"]
    images = load_data(
        data or settings["data"], root=data_root or settings["data_root"], image_size=settings["image_size"]
    )
    place = resolve_device(device)
    model = model_from_run(run).to(place)
    table = Table(
        "images", "number", "accuracy", "cross-entropy", title=f"{run.name}, {checkpoint} checkpoint, on {images.name}"
    )
    for name, split in (("test", images.test), ("training", images.train)):
        result = accuracy(model, split.to(place), batch_size)
        table.add_row(name, str(len(split)), f"{100 * result['accuracy']:.2f} %", f"{result['loss']:.4f}")
    console.print(table)
