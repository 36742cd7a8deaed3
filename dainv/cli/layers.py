"""`dainv layers`."""

from __future__ import annotations

import click
from rich.table import Table

from dainv.cli.console import console


@click.command(short_help="The layers of a model.")
@click.argument("model")
@click.option("--pattern", default="*", help="Shell-style pattern of layer names.")
@click.option("--image-size", default=32, help="Side of the image to try the model with.")
@click.option("--channels", default=3, help="Channels of that image.")
def layers(model: str, pattern: str, image_size: int, channels: int) -> None:
    """Names, types, output shapes and dimensions D of a model's layers.

    MODEL is allcnn, a run directory, a torchvision name, or module:function.
    """
    from dainv.models.layers import describe_layers
    from dainv.models.loading import load_model

    table = Table("layer", "type", "output", "D", title=model)
    for layer in describe_layers(load_model(model), pattern, (channels, image_size, image_size)):
        table.add_row(layer.name, layer.type, " × ".join(map(str, layer.shape)), f"{layer.dimension:,}")
    console.print(table)
