"""The rule: how a layer's weights change so that every filter's mean activation becomes 1.

The source is section 2 of Gatys, Ecker and Bethge, "Image Style Transfer Using Convolutional Neural Networks",
CVPR 2016: a network of rectified linear units and pooling computes the same function when the weights into a filter
are divided, and the weights out of it multiplied, by the same positive number.
"""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


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


def rescale_weights(
    kernel: NDArray[np.floating], bias: NDArray[np.floating], scale_in: Float64, scale_out: Float64
) -> tuple[Float64, Float64]:
    """Rescale one convolution, given the scales of what comes in and of what is to go out.

    With the activations `a[c]` of the layer before replaced by `a[c] / scale_in[c]`, the rescaled layer gives the
    activations `b[i]` it gave before, replaced by `b[i] / scale_out[i]`:

        W'[y, x, c, i] = W[y, x, c, i] * scale_in[c] / scale_out[i]
        b'[i] = b[i] / scale_out[i]

    Two layers of one 1x1 filter, by hand. The first has weight 2 and bias 1; on the inputs 1 and 3 its activations
    are 3 and 7, their mean 5. The second has weight 4 and bias -10; it gives relu(4*3 - 10) = 2 and
    relu(4*7 - 10) = 18, their mean 10. Normalized, the first becomes 2/5 and 1/5, the second 4 * 5/10 = 2 and
    -10/10 = -1:

    >>> one, mean_1, mean_2 = np.ones(1), np.array([5.0]), np.array([10.0])
    >>> kernel_1, bias_1 = rescale_weights(np.full((1, 1, 1, 1), 2.0), np.array([1.0]), one, mean_1)
    >>> kernel_2, bias_2 = rescale_weights(np.full((1, 1, 1, 1), 4.0), np.array([-10.0]), mean_1, mean_2)
    >>> kernel_1.item(), bias_1.item(), kernel_2.item(), bias_2.item()
    (0.4, 0.2, 2.0, -1.0)
    >>> first = [0.4 * x + 0.2 for x in (1, 3)]  # 0.6 and 1.4: mean 1
    >>> [round(2.0 * a - 1.0, 9) for a in first]  # 2/10 and 18/10: mean 1
    [0.2, 1.8]

    Args:
        kernel: `(height, width, channels_in, filters)`, as Keras keeps it.
        bias: `(filters,)`.
        scale_in: `(channels_in,)`, what the incoming channels were divided by; ones for the photo itself.
        scale_out: `(filters,)`, what the layer's activations are to be divided by; positive.

    Returns:
        The rescaled kernel and bias, in float64, of the shapes given.
    """
    kernel_rescaled = kernel * scale_in[:, np.newaxis] / scale_out  # (h, w, c, i) * (c, 1) / (i,)
    bias_rescaled = bias / scale_out
    return kernel_rescaled, bias_rescaled


def recover_scale(
    kernel: NDArray[np.floating],
    bias: NDArray[np.floating],
    kernel_rescaled: NDArray[np.floating],
    bias_rescaled: NDArray[np.floating],
    scale_in: Float64,
) -> Float64:
    """Find the scale of each filter from the weights before and after: the inverse of `rescale_weights`.

    With `v[i]` the weights of filter `i`, bias included, the incoming scale multiplied in, and `v'[i]` those of the
    rescaled filter, it is the least-squares solution of `v[i] = scale[i] * v'[i]`.

    Args:
        kernel: `(height, width, channels_in, filters)`.
        bias: `(filters,)`.
        kernel_rescaled: as `kernel`.
        bias_rescaled: as `bias`.
        scale_in: `(channels_in,)`, found for the layer before.

    Returns:
        `(filters,)`; 1 where all rescaled weights are 0.
    """
    filters = len(bias)
    before = np.vstack([(kernel * scale_in[:, np.newaxis]).reshape(-1, filters), bias])  # (weights, filters) float64
    after = np.vstack([kernel_rescaled.reshape(-1, filters), bias_rescaled]).astype(np.float64)
    squares = (after**2).sum(axis=0)
    scale: Float64 = np.divide((before * after).sum(axis=0), squares, out=np.ones(filters), where=squares > 0)
    return scale
