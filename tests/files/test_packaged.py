"""The means that come with the program are those that were measured, and known as well as said."""

import json

import numpy as np
import pytest

import vggnorm
from vggnorm import vgg
from vggnorm.files.packaged import PACKAGED_MEANS


def test_they_are_the_means_of_every_convolution_of_vgg16() -> None:
    means = vggnorm.packaged_means()
    filters = {layer: len(mean) for layer, mean in means.mean.items()}
    names = [vgg.convolution_name(place) for place in vgg.places_of("vgg16")]
    assert filters == dict(zip(names, vgg.filters_of("vgg16"), strict=True))
    assert means.image_count == 751
    assert not means.skipped
    assert not any(len(indices) for indices in means.silent.values())


def test_their_standard_errors_are_those_that_were_published_with_them() -> None:
    """Mean 91.57, standard deviation 98.91; 2.0, 1.1 to 2.1, 2.7 to 3.2, and 7.1 %, by layer.

    Read with numpy alone. The file is of version 0.1.0: its vectors are records of layers.
    """
    record = np.load(PACKAGED_MEANS)
    count = int(record["image_count"])
    assert json.loads(str(record["recipe"]))["precision"] == "float32"
    layers = record["mean"].dtype.names
    every = np.concatenate([record["mean"][layer] for layer in layers])
    assert every.mean() == pytest.approx(91.57, abs=0.005)
    assert every.std() == pytest.approx(98.91, abs=0.005)
    errors = {}
    for layer in layers:
        variance = record["squared_deviation"][layer] / (count - 1)
        relative = np.sqrt(variance / count) / record["mean"][layer]
        errors[layer] = round(100 * float(np.median(relative)), 1)
    first, *early = list(errors.values())[:9]
    assert first == 2.0
    assert (min(early), max(early)) == (1.1, 2.1)
    late = [error for layer, error in errors.items() if layer not in list(layers)[:9]]
    assert (min(late[:-1]), max(late[:-1]), late[-1]) == (2.7, 3.2, 7.1)
