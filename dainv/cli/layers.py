"""`dainv layers`."""

from __future__ import annotations

import click
from rich.table import Table

from dainv.cli import options
from dainv.cli.console import console, print_whole
from dainv.errors import UserError


@click.command(epilog=options.MODEL)
@click.argument("model")
@click.option("--pattern", default="*", help="Shell-style pattern of layer names.")
@options.weights
@click.option(
    "--image-size",
    default=None,
    type=click.IntRange(1),
    help="Side of the image to try it with.  [default: the run's, or 32]",
)
@click.option(
    "--channels", default=None, type=click.IntRange(1), help="Channels of that image.  [default: the run's, or 3]"
)
@click.option(
    "--classes", default=None, type=click.IntRange(1), help="Number of outputs.  [default: what the model has]"
)
def layers(
    model: str, pattern: str, weights: str | None, image_size: int | None, channels: int | None, classes: int | None
) -> None:
    """Names, types, output shapes and dimensions D of a model's layers, in the order in which they run.

    Layers that do not run are left out. One that puts out a tuple cannot be tapped, but those inside it can; nor can
    one whose output is overwritten in place, but the layer that overwrites it can.
    """
    from dainv.models.layers import TENSOR, describe_layers
    from dainv.models.loading import image_shape_of, layers_of, load_model

    shape = image_shape_of(model, image_size, channels)
    network = load_model(model, n_classes=classes, in_channels=shape[0], image_size=shape[1:], weights=weights)
    table = Table("layer", "type", "output", "D", title=model)
    table.columns[-1].justify = "right"
    for layer in describe_layers(network, pattern, shape):
        if layer.output == TENSOR:
            shown = " × ".join(map(str, layer.shape)) + (", overwritten in place" if layer.overwritten else "")
            table.add_row(layer.name, layer.type, shown, f"{layer.dimension:,}")
        else:
            table.add_row(layer.name, layer.type, f"a {layer.output}", "none")
    print_whole(table)
    try:
        console.print("tapped if none are named:", ", ".join(layers_of(model, network)), soft_wrap=True)
    except UserError as error:
        console.print(str(error))
