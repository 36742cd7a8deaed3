"""`dainv rdm`."""

from __future__ import annotations

from pathlib import Path

import click

from dainv.cli import options
from dainv.cli.console import console, expect_writable
from dainv.errors import UserError


@click.command(epilog=options.MODEL)
@click.argument("model")
@options.data
@options.data_root
@options.image_size
@options.layers
@options.weights
@options.normalize
@click.option("--images", type=click.IntRange(2), default=100, help="Number of test images, drawn by the seed.")
@click.option("--indices", default=None, metavar="I,J,...", help="These test images, in this order, instead.")
@click.option("--out", default="rdm.npz", help="The .npz file to write.")
@options.batch_size
@options.device
@options.seed
def rdm(
    model: str,
    data: str | None,
    data_root: str | None,
    image_size: int | None,
    layers: tuple[str, ...],
    weights: str | None,
    normalize: str | None,
    images: int,
    indices: str | None,
    out: str,
    batch_size: int,
    device: str,
    seed: int,
) -> None:
    """Representational dissimilarity matrices: Eq. 1 between every two of some images, at every layer.

    Images that are drawn come class by class.
    """
    from dainv._version import __version__
    from dainv.devices import resolve_device
    from dainv.geometry.images import images_by_class
    from dainv.geometry.rdm import rdms
    from dainv.models.loading import load_images
    from dainv.reporting import progress_bar
    from dainv.scores.fingerprint import weights_fingerprint
    from dainv.scores.network import network_for, random_weights_note
    from dainv.scores.settings import normalization

    expect_writable(Path(out))
    place = resolve_device(device)
    found = load_images(model, data, data_root, image_size)
    prepare = normalization(normalize, found.image_shape[0])
    network, names = network_for(model, found, layers, weights=weights, seed=seed)
    chosen = images_by_class(found, images, seed, _numbers(indices))
    with progress_bar(console) as progress:
        result = rdms(
            network,
            found.test.batch(chosen),
            layers=names,
            prepare=prepare,
            batch_size=batch_size,
            device=place,
            progress=progress,
        )
    about = {
        "dainv": __version__,
        "model": Path(model).name,
        "model_sha256": weights_fingerprint(network.state_dict()),
        "normalize": normalize,
        "data": found.name,
        "data_sha256": found.fingerprint(),
        "seed": seed,
    }
    result.save(Path(out), chosen.tolist(), found.test.labels[chosen].tolist(), about)
    if note := random_weights_note(model, weights):
        click.echo(f"warning: {note}", err=True)
    console.print(f"{len(result.layers)} RDMs of {len(chosen)} images: {out}", soft_wrap=True)


def _numbers(text: str | None) -> list[int]:
    if text is None:
        return []
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--indices: expected numbers as in 3,17,5, got {text!r}") from None
