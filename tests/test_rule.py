"""The rule against numbers worked by hand, and the network's function, which must stay the same."""

import ast
import doctest
from pathlib import Path

import numpy as np
import pytest
from reference import convolve

from vggnorm import rule
from vggnorm.rule import rescale, scale_from_mean


def test_the_file_opens_with_the_three_lines() -> None:
    tree = ast.parse(Path(rule.__file__).read_text(encoding="utf-8"))
    first = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    _docstring, *lines = first.body
    assert first.name == "rescale"
    assert [ast.unparse(line) for line in lines] == [
        "kernel = kernel * scale_in[:, np.newaxis]",
        "kernel = kernel / scale_out",
        "return (kernel, bias / scale_out)",
    ]


def test_the_worked_example_in_the_docstring_holds() -> None:
    found = doctest.testmod(rule, extraglobs={"np": np})
    assert (found.failed, found.attempted) == (0, 8)


def test_two_tiny_layers_worked_by_hand() -> None:
    # Layer 1 has one input channel and two 1x1 filters, 1*x + 1 and -1*x + 5. For x = 1 and 3 it
    # gives (2, 4) and (4, 2), so both means are 3. Layer 2 has one filter, 2*a + 1*b - 6. It gives
    # 2*2 + 4 - 6 = 2 and 2*4 + 2 - 6 = 4, so its mean is 3. Divided, its weights are 2*3/3 and
    # 1*3/3, and its bias is -6/3.
    mean_1, mean_2 = np.array([3.0, 3.0]), np.array([3.0])
    kernel, bias = rescale(np.array([[[[1.0, -1.0]]]]), np.array([1.0, 5.0]), np.ones(1), mean_1)
    np.testing.assert_array_equal(kernel, [[[[1 / 3, -1 / 3]]]])
    np.testing.assert_array_equal(bias, [1 / 3, 5 / 3])
    kernel, bias = rescale(np.array([[[[2.0], [1.0]]]]), np.array([-6.0]), mean_1, mean_2)
    np.testing.assert_array_equal(kernel, [[[[2.0], [1.0]]]])
    np.testing.assert_array_equal(bias, [-2.0])


def test_scales_go_to_the_right_axes() -> None:
    # The axes of the kernel all have different lengths, and the scales all differ.
    kernel = np.arange(1.0, 1 + 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    scale_in = np.array([1.0, 2.0, 3.0, 4.0])
    scale_out = np.array([1.0, 10.0, 100.0, 0.5, 0.25])
    rescaled, bias = rescale(kernel, np.arange(5.0), scale_in, scale_out)
    for y, x, c, i in np.ndindex(kernel.shape):
        expected = kernel[y, x, c, i] * scale_in[c] / scale_out[i]
        assert rescaled[y, x, c, i] == pytest.approx(expected, rel=1e-15)
    np.testing.assert_allclose(bias, [0, 0.1, 0.02, 6, 16], rtol=1e-15)


def test_activations_are_divided_by_the_scales() -> None:
    random = np.random.default_rng(0)
    values = random.uniform(0, 2, (6, 5, 4))
    kernel, bias = random.normal(size=(3, 3, 4, 7)), random.normal(size=7)
    scale_in, scale_out = random.uniform(0.1, 900, 4), random.uniform(0.1, 900, 7)
    before = np.maximum(convolve(values, kernel, bias), 0)
    kernel, bias = rescale(kernel, bias, scale_in, scale_out)
    after = np.maximum(convolve(values / scale_in, kernel, bias), 0)
    np.testing.assert_allclose(after * scale_out, before, rtol=1e-12, atol=1e-12)


def test_float32_weights_are_rescaled_in_float64() -> None:
    weight = np.float32(0.1)
    kernel, bias = rescale(np.full((1, 1), weight), np.full(1, weight), np.ones(1), np.full(1, 3.0))
    assert kernel.item() == bias.item() == float(weight) / 3


def test_a_silent_filter_keeps_its_scale() -> None:
    np.testing.assert_array_equal(scale_from_mean(np.array([0.0, 0.25, 900.0])), [1.0, 0.25, 900.0])


def test_a_bound_leaves_a_filter_smaller_and_a_silent_one_alone() -> None:
    # A mean of 0.25 would have to be multiplied by 4. With 2, it becomes 0.5: a scale of 1 / 2.
    mean = np.array([0.0, 0.25, 0.5, 900.0])
    np.testing.assert_array_equal(scale_from_mean(mean, 2.0), [1.0, 0.5, 0.5, 900.0])
    np.testing.assert_array_equal(scale_from_mean(-mean, 2.0), [1.0, 1.0, 1.0, 1.0])


def test_the_smallest_mean_counts() -> None:
    tiny = np.nextafter(0, 1)
    assert scale_from_mean(np.array([tiny])) == tiny
