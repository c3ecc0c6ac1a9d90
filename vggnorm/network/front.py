"""Networks that prepare the photos themselves, in front of their first filter."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.files.conventions import CONVENTIONS, Convention
from vggnorm.network.copies import fitting_shapes
from vggnorm.network.keras_private import calls_in
from vggnorm.network.layers import FILTERS

FROM_ZERO_TO_ONE = Convention(False, (1 / 255, 1 / 255, 1 / 255), (0.0, 0.0, 0.0))

# What networks make of colours from 0 to 255 before their first filter.
PREPARED = [FROM_ZERO_TO_ONE, *(CONVENTIONS[name] for name in ("caffe", "rgb255", "torch", "tf"))]

# How far a colour may be off, relative to the largest: float32 and its constants round.
CLOSE = 1e-5


def prepares_photos(model: keras.Model) -> bool:
    """Tell whether a network makes colours from 0 to 255 into what networks take by itself.

    Such a network takes photos as `none`. It is found out by its numbers: a picture of noise is run
    through what stands in front of the first filter.

    Args:
        model: a functional or sequential model of one input, with the channels last.
    """
    photos = model.inputs[0]
    tensors = _before_filters(model)
    if len(photos.shape) != 4 or photos.shape[-1] != 3 or not tensors:
        return False
    front = keras.Model(photos, tensors)
    try:
        (shape,) = fitting_shapes(front)
    except NetworkError:  # it takes photos of any size, but none that is tried
        return False
    picture = np.random.default_rng(0).integers(0, 256, shape)
    given = front(keras.ops.convert_to_tensor(picture.astype(str(photos.dtype))), training=False)
    found = [keras.ops.convert_to_numpy(values) for values in keras.tree.flatten(given)]
    return any(_is_prepared(values, picture) for values in found)


def _before_filters(model: keras.Model) -> list[Any]:
    """List the tensors that depend on no filter, apart from the photo itself."""
    tensors: list[Any] = []
    raw = {id(model.inputs[0])}
    for call in calls_in(model):
        has_filters = type(call.operation) in FILTERS or isinstance(call.operation, keras.Model)
        if call.is_input or has_filters or not all(id(tensor) in raw for tensor in call.inputs):
            continue
        raw.update(id(tensor) for tensor in call.outputs)
        tensors += call.outputs
    return tensors


def _is_prepared(values: NDArray[Any], picture: NDArray[Any]) -> bool:
    if values.shape != picture.shape:
        return False
    for convention in PREPARED:
        order = slice(None, None, -1) if convention.reverses else slice(None)
        factor = convention.in_own_order(convention.factor)
        wanted = factor * picture[..., order] - convention.in_own_order(convention.offset)
        if np.allclose(values, wanted, rtol=0, atol=CLOSE * np.abs(wanted).max()):
            return True
    return False
