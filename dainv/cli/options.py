"""Options that several commands have, in the same words."""

from __future__ import annotations

import click

from dainv.names import CHECKPOINTS

MODEL = (
    "MODEL is allcnn, cifar-resnet18, wrn-28-10 (or another depth and width), a torchvision name, timm:NAME, "
    "module:function of your own, a run directory, or a TorchScript (.pt) or torch.export file (.pt2)."
)

data = click.option(
    "--data", default=None, help="cifar10, cifar100, digits, FILE.npz or a folder of images.  [default: the run's]"
)
data_root = click.option("--data-root", default=None, help="Where downloads go.  [default: the run's, or data]")
image_size = click.option(
    "--image-size",
    type=click.IntRange(1),
    default=None,
    help="Resize the images of a folder to this side.  [default: the run's]",
)
images = click.option(
    "--images",
    type=click.IntRange(2),
    default=None,
    help="Only so many test images, drawn by the seed.  [default: all]",
)
layers = click.option(
    "--layers",
    multiple=True,
    metavar="PATTERN",
    help="Layers by name or pattern; may be repeated.  [default: the model's own]",
)
weights = click.option("--weights", default=None, metavar="FILE", help="Weights to load, or 'pretrained'.")
normalize = click.option("--normalize", default=None, metavar="MEAN/STD", help="What the model expects; or 'imagenet'.")
checkpoint = click.option(
    "--checkpoint",
    type=click.Choice(CHECKPOINTS),
    default="newest",
    help="Which one of a run; best: that of the highest test accuracy.",
)
repeats = click.option("--repeats", type=click.IntRange(1), default=5, help="Transformations of each image.")
batch_size = click.option("--batch-size", type=click.IntRange(1), default=256, help="Images at a time.")
device = click.option("--device", default="auto", help="auto, cpu, cuda, ...")
seed = click.option("--seed", type=click.IntRange(0), default=0, help="Of all that is random.")
form = click.option(
    "--format", "form", type=click.Choice(("table", "json", "csv")), default="table", help="What is printed."
)
