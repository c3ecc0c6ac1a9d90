"""The means that come with the program."""

from pathlib import Path

from vggnorm.files.formats import load_means
from vggnorm.means.filter_means import FilterMeans

PACKAGED_MEANS = Path(__file__).parents[1] / "data" / "vgg16_coco751.npy"


def packaged_means() -> FilterMeans:
    """Give the means of Keras's VGG16, with its ImageNet weights, over 751 photos of COCO.

    They were measured in float32 at the default geometry, with max pooling and without the dense
    layers. `normalize` refuses any other network with them: the digest of the weights decides.
    """
    return load_means(PACKAGED_MEANS)
