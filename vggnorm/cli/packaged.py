"""What `vggnorm normalize` says and refuses where no means are given."""

import shlex
from typing import TYPE_CHECKING

from vggnorm import vgg
from vggnorm.errors import MeansError
from vggnorm.files.packaged import PACKAGED_MEANS
from vggnorm.means.filter_means import FilterMeans
from vggnorm.report.text import summarize
from vggnorm.run.progress import say

if TYPE_CHECKING:
    import keras


def refuse_other_options(means: FilterMeans, network: str | None, pooling: str | None) -> None:
    """Refuse what cannot be the network of the packaged means, before anything is loaded.

    Raises:
        MeansError: the options name another network or another pooling.
    """
    if network in vgg.NETWORKS and network != means.recipe.network:
        raise _no_means_of(network, f"--network {network}")
    if pooling not in (None, means.recipe.pooling):
        raise _no_means_of(f"{pooling} pooling", *_options(network), f"--pooling {pooling}")


def refuse_other_network(
    means: FilterMeans, model: "keras.Model", network: str | None, weights: str
) -> None:
    """Refuse a network that is not the one of the packaged means.

    These means hold no digest of what the network computes. So only the network that Keras builds
    is accepted: another one with the same weights may have other strides.

    Raises:
        MeansError: the weights differ, or the network is not VGG16 as Keras builds it.
    """
    from vggnorm.network.applications import is_application
    from vggnorm.network.weights import weights_sha256

    if weights_sha256(model) == means.recipe.weights_sha256 and is_application(model):
        return
    is_file = network is not None and network not in vgg.NETWORKS
    raise _no_means_of(str(network if is_file else weights), *_options(network, weights))


def say_how_well_known(means: FilterMeans) -> None:
    """Say where the packaged means come from, how well they are known, and how to get others."""
    places = vgg.places_of(means.recipe.network)
    early = [vgg.convolution_name(place) for place in places if place[0] <= 4]
    last = list(means.mean)[-1]
    say(
        f"using the means that come with vggnorm, over {means.image_count} photos of COCO: "
        f"{PACKAGED_MEANS}"
    )
    say(
        f"their relative standard error is {_std_error(means, early)} in blocks 1 to 4 and "
        f"{_std_error(means, [last])} in {last}, in the median filter"
    )
    say(
        "for better ones, measure a few thousand photos with 'vggnorm compute-means --data "
        "PHOTOS', and give --means means.npy"
    )


def _std_error(means: FilterMeans, layers: list[str]) -> str:
    summary = summarize(means.of_layers(layers))
    return f"{summary['all_layers']['relative_std_error']:.0%}"


def _options(network: str | None, weights: str = "imagenet") -> list[str]:
    """Give the options that name a network, as a shell takes them."""
    options = [] if network is None else [f"--network {shlex.quote(network)}"]
    if weights != "imagenet":
        options.append(f"--weights {shlex.quote(weights)}")
    return options


def _no_means_of(what: str, *options: str) -> MeansError:
    command = " ".join(("vggnorm compute-means --data PHOTOS", *options))
    return MeansError(
        f"no means of {what} come with vggnorm, only those of Keras's VGG16 with its ImageNet "
        f"weights and max pooling; run {command}, then add --means means.npy to this command"
    )
