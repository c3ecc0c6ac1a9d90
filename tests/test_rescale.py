"""The rule against numbers worked by hand, and against what it is for: the function stays the same."""

import doctest

import numpy as np
import pytest
from reference import convolve

from vggnorm import rescale
from vggnorm.rescale import rescale_bias, rescale_depthwise_kernel, rescale_kernel, scale_from_mean


def test_the_worked_example_in_the_docstring_holds() -> None:
    found = doctest.testmod(rescale, extraglobs={"np": np})
    assert (found.failed, found.attempted) == (0, 7)


def test_two_tiny_layers_worked_by_hand() -> None:
    # Layer 1: one input channel, two 1x1 filters, 1*x + 1 and -1*x + 5. On x = 1, 3: (2, 4) and (4, 2); means 3 and 3.
    # Layer 2: one filter, 2*a + 1*b - 6. On (2, 4): 2; on (4, 2): 4; mean 3. Divided: weights 2*3/3, 1*3/3, bias -6/3.
    mean_1, mean_2 = np.array([3.0, 3.0]), np.array([3.0])
    np.testing.assert_array_equal(
        rescale_kernel(np.array([[[[1.0, -1.0]]]]), np.ones(1), mean_1), [[[[1 / 3, -1 / 3]]]]
    )
    np.testing.assert_array_equal(rescale_bias(np.array([1.0, 5.0]), mean_1), [1 / 3, 5 / 3])
    np.testing.assert_array_equal(rescale_kernel(np.array([[[[2.0], [1.0]]]]), mean_1, mean_2), [[[[2.0], [1.0]]]])
    np.testing.assert_array_equal(rescale_bias(np.array([-6.0]), mean_2), [-2.0])


def test_scales_go_to_the_right_axes() -> None:
    # Unequal scales and a kernel with all axes of other lengths: each weight by hand, by the formula.
    kernel = np.arange(1.0, 1 + 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    bias, scale_in, scale_out = np.arange(5.0), np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 10.0, 100.0, 0.5, 0.25])
    rescaled, rescaled_bias = rescale_kernel(kernel, scale_in, scale_out), rescale_bias(bias, scale_out)
    for y, x, c, i in np.ndindex(kernel.shape):
        assert rescaled[y, x, c, i] == pytest.approx(kernel[y, x, c, i] * scale_in[c] / scale_out[i], rel=1e-15)
    np.testing.assert_allclose(rescaled_bias, [0, 0.1, 0.02, 6, 16], rtol=1e-15)


def test_activations_are_divided_by_the_scales() -> None:
    random = np.random.default_rng(0)
    values = random.uniform(0, 2, (6, 5, 4))
    kernel, bias = random.normal(size=(3, 3, 4, 7)), random.normal(size=7)
    scale_in, scale_out = random.uniform(0.1, 900, 4), random.uniform(0.1, 900, 7)
    before = np.maximum(convolve(values, kernel, bias), 0)
    kernel, bias = rescale_kernel(kernel, scale_in, scale_out), rescale_bias(bias, scale_out)
    after = np.maximum(convolve(values / scale_in, kernel, bias), 0)
    np.testing.assert_allclose(after * scale_out, before, rtol=1e-12, atol=1e-12)


def test_a_silent_filter_keeps_its_scale() -> None:
    np.testing.assert_array_equal(scale_from_mean(np.array([0.0, 0.25, 900.0])), [1.0, 0.25, 900.0])


def test_the_smallest_mean_counts() -> None:
    tiny = np.nextafter(0, 1)
    assert scale_from_mean(np.array([tiny])) == tiny


def test_in_a_grouped_convolution_a_filter_sees_the_scales_of_its_group() -> None:
    # Four channels in two groups, six filters: the first three see channels 0 and 1, the others 2 and 3.
    kernel = np.ones((1, 1, 2, 6))
    rescaled = rescale_kernel(kernel, np.array([2.0, 3.0, 5.0, 7.0]), np.array([1.0, 1, 2, 1, 1, 4]))
    np.testing.assert_array_equal(rescaled[0, 0], [[2, 2, 1, 5, 5, 1.25], [3, 3, 1.5, 7, 7, 1.75]])


def test_a_depthwise_kernel_worked_by_hand() -> None:
    # Two channels, two filters each: the outputs are channel 0 by filters 0 and 1, channel 1 by filters 0 and 1.
    kernel = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    rescaled = rescale_depthwise_kernel(kernel, np.array([10.0, 100.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(rescaled, [[[[10, 10], [100, 100]]]])
