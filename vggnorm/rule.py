"""The rule: how the weights of a layer change so that every filter has mean activation 1.

The source is section 2 of Gatys, Ecker and Bethge, "Image Style Transfer Using Convolutional Neural
Networks", CVPR 2016. A network of rectified linear units and pooling computes the same function
after the weights into a filter are divided by a positive number and the weights out of it are
multiplied by the same number.
"""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating]


def rescale(
    kernel: Floats, bias: Floats, scale_in: Float64, scale_out: Float64
) -> tuple[Float64, Float64]:
    """Rescale the weights of a layer by the scales of its inputs and of its outputs.

    A scale is what an activation is divided by. If the activation of each incoming channel `c` is
    divided by `scale_in[c]`, then with the new weights the activation of each filter `i` is the old
    one divided by `scale_out[i]`:

        W'[y, x, c, i] = W[y, x, c, i] * scale_in[c] / scale_out[i]
        b'[i] = b[i] / scale_out[i]

    An example by hand, with two layers of one filter each. The first has weight 2 and bias 1. For
    the inputs 1 and 3, its activations are relu(2 * 1 + 1) = 3 and relu(2 * 3 + 1) = 7, with mean
    5. The second has weight 4 and bias -10. Its activations are relu(4 * 3 - 10) = 2 and
    relu(4 * 7 - 10) = 18, with mean 10. The photo itself keeps the scale 1.

    >>> one, mean_1, mean_2 = np.array([1.0]), np.array([5.0]), np.array([10.0])
    >>> kernel_1, bias_1 = rescale(np.array([[2.0]]), np.array([1.0]), one, mean_1)
    >>> kernel_1.item(), bias_1.item()  # 2 * 1 / 5 and 1 / 5
    (0.4, 0.2)
    >>> kernel_2, bias_2 = rescale(np.array([[4.0]]), np.array([-10.0]), mean_1, mean_2)
    >>> kernel_2.item(), bias_2.item()  # 4 * 5 / 10 and -10 / 10
    (2.0, -1.0)

    With the new weights, the activations of both layers have mean 1:

    >>> first = [0.4 * x + 0.2 for x in (1, 3)]
    >>> [round(a, 9) for a in first]  # 3 / 5 and 7 / 5
    [0.6, 1.4]
    >>> [round(2.0 * a - 1.0, 9) for a in first]  # 2 / 10 and 18 / 10
    [0.2, 1.8]

    Args:
        kernel: `(..., channels_in, filters)`, where every filter sees every channel. For a
            convolution that is `(height, width, channels_in, filters)`, for a dense layer
            `(channels_in, filters)`. `vggnorm.network.layers` lays out other kernels in this way.
        bias: `(filters,)`.
        scale_in: `(channels_in,)`, positive.
        scale_out: `(filters,)`, positive.

    Returns:
        The new kernel and the new bias, of the same shapes, in float64.
    """
    kernel = kernel * scale_in[:, np.newaxis]  # what comes in was divided by scale_in
    kernel = kernel / scale_out  # what goes out is to be divided by scale_out
    return kernel, bias / scale_out


def scale_from_mean(mean: Float64, largest_factor: float | None = None) -> Float64:
    """Give the positive number to divide each filter's activation by: its mean activation.

    A filter that never fires (its mean is exactly 0) gets the scale 1. So nothing is divided by
    zero, and the network still computes the same function.

    Args:
        mean: `(filters,)`, the mean activation of each filter, 0 or more.
        largest_factor: the largest number that an activation may be multiplied by, if any. A filter
            that would need a larger one is left with a mean below 1.

    Returns:
        `(filters,)`, all positive.
    """
    scale = mean if largest_factor is None else np.maximum(mean, 1 / largest_factor)
    return np.where(mean > 0, scale, 1.0)
