"""The command `vggnorm normalize`."""

from pathlib import Path

import click

from vggnorm.cli.options import (
    force_option,
    load_original,
    network_file_option,
    output_option,
    warn_of_unknown_architecture,
    weights_option,
)
from vggnorm.files.formats import load_means
from vggnorm.files.keras_h5 import check_h5_output
from vggnorm.report.printable import echo
from vggnorm.run.startup import import_keras


@click.command("normalize")
@click.option(
    "--means",
    "means_file",
    required=True,
    type=click.Path(path_type=Path),
    help="Means file written by compute-means; it names the network.",
)
@network_file_option
@weights_option
@click.option(
    "--pooling",
    type=click.Choice(("max", "avg")),
    help="As for compute-means.  [default: as measured]",
)
@force_option
@output_option(None, "File to write.  [default: vgg16_norm.h5, by the network's name]")
def command(
    *,
    means_file: Path,
    network: str | None,
    weights: str,
    pooling: str | None,
    force: bool,
    output: Path | None,
) -> None:
    """Rescale a network with measured means.

    The result computes what the network computes, with the activation of every filter divided by
    its mean. It is a Keras model file. Its weights load in Keras 2 and 3, also through
    keras.applications. The whole model loads in TensorFlow 1.15 to 2.15, in tf_keras, and in Keras
    3.4 and later.
    """
    means = load_means(means_file)
    if output is None:
        output = Path(f"{Path(means.recipe.network).stem}_norm.h5")
    check_h5_output(output, force=force)
    import_keras()
    from vggnorm.network.storage import save_network
    from vggnorm.normalization import normalize

    model = load_original(means.recipe, network, weights, pooling)
    warn_of_unknown_architecture(model, means)
    save_network(normalize(model, means), output, means, force=force)
    echo(
        f"{means.recipe.network}, {means.filter_count} filters in {len(means.mean)} layers, "
        f"normalized with means over {means.image_count} photos, saved as {output}"
    )
