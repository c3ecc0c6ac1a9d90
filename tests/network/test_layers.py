"""How each kind of layer lays out its weights for the rule, with numbers worked by hand."""

import numpy as np
from keras import layers

from vggnorm.network.layers import FILTERS


def test_in_a_grouped_convolution_a_filter_sees_the_scales_of_its_group() -> None:
    # Four channels in two groups, and six filters: the first three see channels 0 and 1, the others
    # see channels 2 and 3.
    weights = {"kernel": np.ones((1, 1, 2, 6)), "bias": np.full(6, 8.0)}
    scale_in = np.array([2.0, 3.0, 5.0, 7.0])
    rescaled = FILTERS[layers.Conv2D](weights, scale_in, np.array([1.0, 1, 2, 1, 1, 4]))
    np.testing.assert_array_equal(
        rescaled["kernel"], [[[[2, 2, 1, 5, 5, 1.25], [3, 3, 1.5, 7, 7, 1.75]]]]
    )
    np.testing.assert_array_equal(rescaled["bias"], [8, 8, 4, 8, 8, 2])


def test_a_depthwise_kernel_gives_the_filters_of_one_channel_after_the_other() -> None:
    # Two channels with two filters each. The outputs are filters 0 and 1 of channel 0, and then
    # filters 0 and 1 of channel 1.
    weights = {"kernel": np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), "bias": np.array([5.0, 6, 6, 8])}
    scale_in, scale_out = np.array([10.0, 100.0]), np.array([1.0, 2.0, 3.0, 4.0])
    rescaled = FILTERS[layers.DepthwiseConv2D](weights, scale_in, scale_out)
    np.testing.assert_array_equal(rescaled["kernel"], [[[[10, 10], [100, 100]]]])
    np.testing.assert_array_equal(rescaled["bias"], [5, 3, 2, 2])


def test_a_transposed_kernel_has_its_filters_before_its_channels() -> None:
    # Three filters, two channels: row i, column c is 1 * scale_in[c] / scale_out[i].
    weights = {"kernel": np.ones((1, 1, 3, 2)), "bias": np.array([1.0, 2.0, 4.0])}
    scale_in, scale_out = np.array([2.0, 12.0]), np.array([1.0, 2.0, 4.0])
    rescaled = FILTERS[layers.Conv2DTranspose](weights, scale_in, scale_out)
    np.testing.assert_array_equal(rescaled["kernel"], [[[[2, 12], [1, 6], [0.5, 3]]]])
    np.testing.assert_array_equal(rescaled["bias"], [1, 1, 1])


def test_a_separable_convolution_takes_scales_in_first_and_gives_them_out_last() -> None:
    # The depthwise kernel is multiplied by the scale of its channel, the pointwise one is divided
    # by that of its filter, and between the two nothing is rescaled.
    weights = {
        "depthwise_kernel": np.array([[[[1.0, 2.0], [3.0, 4.0]]]]),
        "pointwise_kernel": np.array([[[[6.0, 5.0]] * 4]]),
        "bias": np.array([3.0, 10.0]),
    }
    scale_in, scale_out = np.array([10.0, 100.0]), np.array([3.0, 5.0])
    rescaled = FILTERS[layers.SeparableConv2D](weights, scale_in, scale_out)
    np.testing.assert_array_equal(rescaled["depthwise_kernel"], [[[[10, 20], [300, 400]]]])
    np.testing.assert_array_equal(rescaled["pointwise_kernel"], [[[[2, 1]] * 4]])
    np.testing.assert_array_equal(rescaled["bias"], [1, 2])
