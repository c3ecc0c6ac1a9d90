"""What VGG16 and VGG19 look like (Simonyan and Zisserman, ICLR 2015), told without Keras.

Each of the five blocks is a few convolutions of 3x3, all with the same number of filters, and a
pooling. The classifier is three dense layers; Keras calls it the top.
"""

NETWORKS = ("vgg16", "vgg19")

BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions in each block

BLOCK_FILTERS = (64, 128, 256, 512, 512)  # filters of each convolution of a block

TOP = "predictions"  # the last dense layer, which only a network with its classifier has

FIRST_DENSE_KERNEL = (7 * 7 * 512, 4096)  # for photos of 224 pixels


def filters_of(network: str) -> list[int]:
    """Give the number of filters of each convolution, in network order."""
    filters: list[int] = []
    for count, block_filters in zip(BLOCKS[network], BLOCK_FILTERS, strict=True):
        filters += [block_filters] * count
    return filters
