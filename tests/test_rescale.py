"""The rule against numbers worked by hand, and against what it is for: the function stays the same."""

import doctest

import numpy as np
import pytest
from reference import convolve

from vggnorm import rescale
from vggnorm.rescale import recover_scale, rescale_weights, scale_from_mean


def test_the_worked_example_in_the_docstring_holds() -> None:
    found = doctest.testmod(rescale, extraglobs={"np": np})
    assert (found.failed, found.attempted) == (0, 6)


def test_two_tiny_layers_worked_by_hand() -> None:
    # Layer 1: one input channel, two 1x1 filters, 1*x + 1 and -1*x + 5. On x = 1, 3: (2, 4) and (4, 2); means 3 and 3.
    # Layer 2: one filter, 2*a + 1*b - 6. On (2, 4): 2; on (4, 2): 4; mean 3. Divided: weights 2*3/3, 1*3/3, bias -6/3.
    mean_1, mean_2 = np.array([3.0, 3.0]), np.array([3.0])
    kernel, bias = rescale_weights(np.array([[[[1.0, -1.0]]]]), np.array([1.0, 5.0]), np.ones(1), mean_1)
    np.testing.assert_array_equal(kernel, [[[[1 / 3, -1 / 3]]]])
    np.testing.assert_array_equal(bias, [1 / 3, 5 / 3])
    kernel, bias = rescale_weights(np.array([[[[2.0], [1.0]]]]), np.array([-6.0]), mean_1, mean_2)
    np.testing.assert_array_equal(kernel, [[[[2.0], [1.0]]]])
    np.testing.assert_array_equal(bias, [-2.0])


def test_scales_go_to_the_right_axes() -> None:
    # Unequal scales and a kernel with all axes of other lengths: each weight by hand, by the formula.
    kernel = np.arange(1.0, 1 + 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    bias, scale_in, scale_out = np.arange(5.0), np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 10.0, 100.0, 0.5, 0.25])
    rescaled, rescaled_bias = rescale_weights(kernel, bias, scale_in, scale_out)
    for y, x, c, i in np.ndindex(kernel.shape):
        assert rescaled[y, x, c, i] == pytest.approx(kernel[y, x, c, i] * scale_in[c] / scale_out[i], rel=1e-15)
    np.testing.assert_allclose(rescaled_bias, [0, 0.1, 0.02, 6, 16], rtol=1e-15)


def test_activations_are_divided_by_the_scales() -> None:
    random = np.random.default_rng(0)
    values = random.uniform(0, 2, (6, 5, 4))
    kernel, bias = random.normal(size=(3, 3, 4, 7)), random.normal(size=7)
    scale_in, scale_out = random.uniform(0.1, 900, 4), random.uniform(0.1, 900, 7)
    before = np.maximum(convolve(values, kernel, bias), 0)
    after = np.maximum(convolve(values / scale_in, *rescale_weights(kernel, bias, scale_in, scale_out)), 0)
    np.testing.assert_allclose(after * scale_out, before, rtol=1e-12, atol=1e-12)


def test_a_silent_filter_keeps_its_scale() -> None:
    np.testing.assert_array_equal(scale_from_mean(np.array([0.0, 0.25, 900.0])), [1.0, 0.25, 900.0])


def test_the_smallest_mean_counts() -> None:
    tiny = np.nextafter(0, 1)
    assert scale_from_mean(np.array([tiny])) == tiny


def test_recover_scale_undoes_the_rule() -> None:
    random = np.random.default_rng(0)
    kernel, bias = random.normal(size=(3, 3, 4, 6)), random.normal(size=6)
    scale_in, scale_out = random.uniform(0.1, 900, 4), random.uniform(0.1, 900, 6)
    rescaled = [array.astype(np.float32) for array in rescale_weights(kernel, bias, scale_in, scale_out)]
    # float32 rounds each of the 37 weights of a filter by at most 6e-8
    np.testing.assert_allclose(recover_scale(kernel, bias, *rescaled, scale_in), scale_out, rtol=1e-7)


def test_recover_scale_of_a_filter_that_became_zero() -> None:
    kernel, bias = np.ones((1, 1, 1, 2)), np.ones(2)
    dead = np.array([[[[0.5, 0.0]]]]), np.array([0.5, 0.0])
    np.testing.assert_array_equal(recover_scale(kernel, bias, *dead, np.ones(1)), [2.0, 1.0])
