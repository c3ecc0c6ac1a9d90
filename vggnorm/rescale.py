"""The rule: how a layer's weights change so that every filter's mean activation becomes 1.

The source is section 2 of Gatys, Ecker and Bethge, "Image Style Transfer Using Convolutional Neural Networks",
CVPR 2016: a network of rectified linear units and pooling computes the same function when the weights into a filter
are divided, and the weights out of it multiplied, by the same positive number.
"""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating]


def scale_from_mean(mean: Float64) -> Float64:
    """Give the positive number that each filter's activation is to be divided by.

    It is the filter's mean activation. A filter that never fired (mean exactly 0) keeps the scale 1, so that nothing
    is divided by zero and the network still computes what it did.

    Args:
        mean: `(filters,)`, the mean activation of each filter, 0 or more.

    Returns:
        `(filters,)`, all positive.
    """
    return np.where(mean > 0, mean, 1.0)


def rescale_kernel(kernel: Floats, scale_in: Float64, scale_out: Float64) -> Float64:
    """Rescale the kernel of a convolution or dense layer, given the scales of what comes in and of what is to go out.

    With the activations `a[c]` that come in replaced by `a[c] / scale_in[c]`, the rescaled layer gives the activations
    `b[i]` it gave before, replaced by `b[i] / scale_out[i]`, if its bias is rescaled, too:

        W'[y, x, c, i] = W[y, x, c, i] * scale_in[c] / scale_out[i]
        b'[i] = b[i] / scale_out[i]

    Two layers of one 1x1 filter, by hand. The first has weight 2 and bias 1; on the inputs 1 and 3 its activations
    are 3 and 7, their mean 5. The second has weight 4 and bias -10; it gives relu(4*3 - 10) = 2 and
    relu(4*7 - 10) = 18, their mean 10. Normalized, the first becomes 2/5 and 1/5, the second 4 * 5/10 = 2 and
    -10/10 = -1:

    >>> one, mean_1, mean_2 = np.ones(1), np.array([5.0]), np.array([10.0])
    >>> kernel_1, bias_1 = np.full((1, 1, 1, 1), 2.0), np.array([1.0])
    >>> kernel_2, bias_2 = np.full((1, 1, 1, 1), 4.0), np.array([-10.0])
    >>> rescale_kernel(kernel_1, one, mean_1).item(), rescale_bias(bias_1, mean_1).item()
    (0.4, 0.2)
    >>> rescale_kernel(kernel_2, mean_1, mean_2).item(), rescale_bias(bias_2, mean_2).item()
    (2.0, -1.0)
    >>> first = [0.4 * x + 0.2 for x in (1, 3)]  # 0.6 and 1.4: mean 1
    >>> [round(2.0 * a - 1.0, 9) for a in first]  # 2/10 and 18/10: mean 1
    [0.2, 1.8]

    Args:
        kernel: `(..., channels_in / groups, filters)`, as Keras keeps it: `(height, width, channels_in, filters)` for
            an ordinary convolution, `(channels_in, filters)` for a dense layer. In a grouped convolution, the first
            `filters / groups` filters see the first `channels_in / groups` channels, and so on.
        scale_in: `(channels_in,)`, what the incoming channels were divided by; ones for the photo itself.
        scale_out: `(filters,)`, what the layer's activations are to be divided by; positive.

    Returns:
        The rescaled kernel, in float64, of the shape given.
    """
    *_, channels, filters = kernel.shape
    groups = len(scale_in) // channels
    seen = np.repeat(scale_in.reshape(groups, channels).T, filters // groups, axis=1)  # (channels, filters)
    return kernel * seen / scale_out  # (h, w, c, i) * (c, i) / (i,)


def rescale_bias(bias: Floats, scale_out: Float64) -> Float64:
    """Rescale a bias, `(filters,)`, by what the layer's activations are to be divided by, `(filters,)`."""
    return bias / scale_out


def rescale_depthwise_kernel(kernel: Floats, scale_in: Float64, scale_out: Float64) -> Float64:
    """Rescale the kernel of a depthwise convolution: filter `m` on channel `c` is its output `c * multiplier + m`.

    Args:
        kernel: `(..., channels_in, multiplier)`, as Keras keeps it.
        scale_in: `(channels_in,)`, see `rescale_kernel`.
        scale_out: `(channels_in * multiplier,)`.

    Returns:
        The rescaled kernel, in float64, of the shape given.
    """
    *_, channels, multiplier = kernel.shape
    return kernel * scale_in[:, np.newaxis] / scale_out.reshape(channels, multiplier)
