"""What the VGG networks look like (Simonyan and Zisserman, ICLR 2015), told without Keras.

Each of the five blocks is a few convolutions of 3x3, all with the same number of filters, and a
pooling. The classifier is three dense layers; Keras calls it the top. Layers are named as Keras
names them in VGG16 and VGG19.
"""

from collections.abc import Sequence

NETWORKS = ("vgg16", "vgg19")  # those of keras.applications

# Convolutions in each block. Those that people use come first.
BLOCKS = {
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg11": (1, 1, 2, 2, 2),
}

BLOCK_FILTERS = (64, 128, 256, 512, 512)  # filters of each convolution of a block

COLOURS = 3  # channels of a photo

LAST_SIDE = 7  # of the map that the first dense layer takes, for photos of 224 pixels

FLAT = LAST_SIDE * LAST_SIDE * BLOCK_FILTERS[-1]  # inputs of the first dense layer

DENSE = ("fc1", "fc2", "predictions")

TOP = DENSE[-1]  # the last dense layer, which only a network with its classifier has

DENSE_UNITS = 4096  # of the first two dense layers

CLASSES = 1000  # of ImageNet, and so the units of the last one

FIRST_DENSE_KERNEL = (FLAT, DENSE_UNITS)

# Of the variance, in the networks with batch normalization: that of PyTorch, where they come from.
NORMALIZATION_EPSILON = 1e-5

NORMALIZATION_WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")

Place = tuple[int, int]  # a convolution's block, and its number in the block, both from 1


def filters_of(network: str) -> list[int]:
    """Give the number of filters of each convolution, in network order."""
    return [BLOCK_FILTERS[block - 1] for block, _ in places_of(network)]


def places_of(network: str) -> list[Place]:
    """Give the place of each convolution, in network order."""
    return [
        (block, number)
        for block, count in enumerate(BLOCKS[network], start=1)
        for number in range(1, count + 1)
    ]


def networks_with(filters: Sequence[int]) -> list[str]:
    """Name the networks whose first convolutions have these numbers of filters.

    If there are several, all have these convolutions at the same places.
    """
    if not filters:
        return []
    count = len(filters)
    return [network for network in BLOCKS if filters_of(network)[:count] == list(filters)]


def convolution_name(place: Place) -> str:
    """Name a convolution as Keras does: `block1_conv2`."""
    block, number = place
    return f"block{block}_conv{number}"


def normalization_name(place: Place) -> str:
    """Name the batch normalization behind a convolution: `block1_conv2_bn`."""
    return f"{convolution_name(place)}_bn"


def ends_block(place: Place, network: str) -> bool:
    """Tell whether a pooling follows a convolution."""
    block, number = place
    return number == BLOCKS[network][block - 1]
