"""`dainv cka`."""

from __future__ import annotations

from pathlib import Path

import click

from dainv.cli import options
from dainv.cli.console import console, expect_writable, print_whole
from dainv.errors import UserError


@click.command(epilog=options.MODEL)
@click.argument("model")
@click.argument("other", required=False)
@options.data
@options.data_root
@options.image_size
@options.layers
@click.option("--other-layers", multiple=True, help="Of the second network.  [default: the same]")
@options.weights
@click.option("--other-weights", default=None, metavar="FILE", help="Of the second network, or 'pretrained'.")
@options.normalize
@click.option("--images", type=click.IntRange(4), default=None, help="Only so many test images.  [default: all]")
@options.form
@click.option("--out", multiple=True, metavar="FILE", help="Write .csv, .json, .png or .svg; may be repeated.")
@click.option("--batch-size", type=click.IntRange(4), default=128, help="Images in a batch, at least.")
@options.device
@options.seed
def cka(
    model: str,
    other: str | None,
    data: str | None,
    data_root: str | None,
    image_size: int | None,
    layers: tuple[str, ...],
    other_layers: tuple[str, ...],
    weights: str | None,
    other_weights: str | None,
    normalize: str | None,
    images: int | None,
    form: str,
    out: tuple[str, ...],
    batch_size: int,
    device: str,
    seed: int,
) -> None:
    """How similar the layers of a network are to each other, or to those of another network."""
    from dainv._version import __version__
    from dainv.devices import resolve_device
    from dainv.geometry.cka import linear_cka
    from dainv.geometry.files import FORMS, cka_csv, cka_json, cka_table, save_cka
    from dainv.geometry.images import images_by_class
    from dainv.models.loading import load_images
    from dainv.reporting import progress_bar
    from dainv.scores.fingerprint import weights_fingerprint
    from dainv.scores.network import network_for, random_weights_note
    from dainv.scores.settings import normalization

    for path in out:
        if Path(path).suffix not in FORMS:
            raise UserError(f"--out {path}: expected a name that ends in {', '.join(FORMS)}")
        expect_writable(Path(path))
    place = resolve_device(device)
    found = load_images(model, data, data_root, image_size)
    prepare = normalization(normalize, found.image_shape[0])
    network, names = network_for(model, found, layers, weights=weights, seed=seed)
    other_network = other_names = None
    if other is not None:
        other_network, other_names = network_for(other, found, other_layers or layers, weights=other_weights, seed=seed)
    chosen = images_by_class(found, images, seed)
    with progress_bar(console) as progress:
        result = linear_cka(
            network,
            found.test.batch(chosen),
            layers=names,
            prepare=prepare,
            other=other_network,
            other_layers=other_names,
            batch_size=batch_size,
            device=place,
            seed=seed,
            progress=progress,
        )
    labels = (Path(model).name, Path(other or model).name)
    about = {
        "dainv": __version__,
        "models": labels,
        "models_sha256": [weights_fingerprint(one.state_dict()) for one in (network, other_network or network)],
        "normalize": normalize,
        "data": found.name,
        "data_sha256": found.fingerprint(),
        "seed": seed,
    }
    for spec, given in ((model, weights), (other, other_weights)):
        if spec is not None and (note := random_weights_note(spec, given)):
            click.echo(f"warning: {note}", err=True)
    compared = labels[0] if other is None else f"{labels[0]} (rows) and {labels[1]} (columns)"
    title = f"linear CKA, {compared}, {result.n_images} images of {found.name}"
    if form == "table":
        print_whole(cka_table(result, title))
    else:
        click.echo((cka_csv(result) if form == "csv" else cka_json(result, about)).decode(), nl=False)
    for path in out:
        save_cka(result, Path(path), about, labels)
