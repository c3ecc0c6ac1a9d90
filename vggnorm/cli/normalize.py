"""The command `vggnorm normalize`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from vggnorm.cli.options import (
    force_option,
    load_original,
    network_to_normalize_option,
    output_option,
    refuse_nan,
    warn_of_unknown_architecture,
    weights_option,
    writing_options,
)
from vggnorm.cli.packaged import (
    refuse_other_network,
    refuse_other_options,
    say_how_well_known,
)
from vggnorm.files.formats import load_means
from vggnorm.files.packaged import packaged_means
from vggnorm.files.saving import save_weights
from vggnorm.files.writing import check_weights_output
from vggnorm.means.recipe import Recipe
from vggnorm.report.printable import echo
from vggnorm.run.progress import say
from vggnorm.run.startup import import_keras


@click.command("normalize")
@click.option(
    "--means",
    "means_file",
    type=click.Path(path_type=Path),
    help="Means file written by compute-means; it names the network.  [default: the means of "
    "Keras's VGG16 that come with vggnorm, for that network alone]",
)
@network_to_normalize_option
@weights_option
@click.option(
    "--pooling",
    type=click.Choice(("max", "avg")),
    help="As for compute-means.  [default: as measured]",
)
@click.option(
    "--keep-output",
    is_flag=True,
    help="Leave the output of the network as it was: the filters that give it keep their means.",
)
@click.option(
    "--max-scale",
    type=click.FloatRange(0, 1e30, min_open=True),
    callback=refuse_nan,
    metavar="S",
    help="Multiply no filter's activation by more than S, such as 20. A filter that barely fired "
    "in the photos measured is then left with a mean below 1.  [default: no bound]",
)
@writing_options
@force_option
@output_option(
    None,
    "File to write: .h5, .safetensors, .pth, .pt, .npz or .mat.  [default: vgg16_norm.h5, by the "
    "network's name]",
)
def command(
    *,
    means_file: Path | None,
    network: str | None,
    weights: str,
    pooling: str | None,
    keep_output: bool,
    max_scale: float | None,
    force: bool,
    output: Path | None,
    **how: Any,
) -> None:
    """Rescale a network with measured means.

    The result computes what the network computes, with the activation of every filter divided by
    its mean. In an .h5 file, it is a model of Keras. Its weights load in Keras 2 and 3, also
    through keras.applications. The whole model loads in TensorFlow 1.15 to 2.15, in tf_keras, and
    in Keras 3.4 and later. Files for other programs are written as vggnorm convert writes them.
    """
    if means_file is None:
        means = packaged_means()
        refuse_other_options(means, network, pooling)
    else:
        means = load_means(means_file)
    means = means.with_max_scale(max_scale)
    if output is None:
        output = Path(f"{Path(means.recipe.network).stem}_norm.h5")
    check_weights_output(output, how["file_format"], force=force)
    import_keras()
    from vggnorm import normalization
    from vggnorm.network.family import weights_of
    from vggnorm.network.operations import operations_in
    from vggnorm.network.storage import save_network

    model = load_original(means.recipe, network, weights, pooling)
    if means_file is None:
        refuse_other_network(means, model, network, weights)
    warn_of_unknown_architecture(model, means)
    means = normalization.means_for(model, means, say)
    take = normalization.keep_output if keep_output else normalization.with_output_layers
    means = take(model, means)
    normalized = normalization.normalize(model, means)
    if means_file is None:
        say_how_well_known(means)
    if _is_for_keras(output, how):
        save_network(normalized, output, means, force=force)
    else:
        named = weights_of(normalized, means.recipe.preprocessing, means)
        written = save_weights(output, named, force=force, say=say, **how)
        say(f"layout {written.layout}, taking photos as {written.convention}")
    echo(
        f"{means.recipe.network}, {means.filter_count} filters in {len(means.mean)} layers, "
        f"normalized with means over {means.image_count} photos, saved as {output}"
    )
    operations = operations_in(normalized)
    if operations and output.name.endswith(".h5"):
        say(
            f"{output} holds operations ({', '.join(operations)}); Keras 3.11 and later load it, "
            "and Keras 2 does not"
        )
    if means.recipe.output_layers and (keep_output or _is_for_keras(output, how)):
        say(_what_became_of_output(means.recipe))
    if max_scale is not None:
        echo(f"filters left smaller than 1 by --max-scale {max_scale:g}: {means.left_smaller}")
    if means.recipe.padding == "reflect" and output.name.endswith(".h5"):
        echo(
            f"the means are those of reflection padding; {output} holds the network with zero "
            "padding, because Keras has no layer for the other"
        )


def _what_became_of_output(recipe: Recipe) -> str:
    layers = ", ".join(recipe.output_layers)
    if recipe.keep_output:
        return f"the network's output, of {layers}, is as it was; the means there are not 1"
    return (
        f"the network's output is divided by the means of {layers}; --keep-output leaves it as it "
        "was"
    )


def _is_for_keras(output: Path, how: Mapping[str, Any]) -> bool:
    """Tell whether a model of Keras is wanted, which may be any network and stays as it is."""
    is_usual = how["file_format"] in (None, "h5") and how["layout"] in (None, "keras")
    changes = [value for name, value in how.items() if name not in ("file_format", "layout")]
    return output.name.endswith(".h5") and is_usual and not any(changes)
