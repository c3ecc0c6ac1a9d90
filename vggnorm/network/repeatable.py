"""A check that a network gives the same for the same photo, before any photo is measured."""

import keras
import numpy as np

from vggnorm.errors import NetworkError
from vggnorm.network.graph import Graph
from vggnorm.network.instruments import Instruments

# How far two runs may differ, relative to a layer's largest mean: a GPU may add in another order.
SAME = 1e-4


def require_repeatable(graph: Graph, instruments: Instruments, size: tuple[int, int]) -> None:
    """Require that a network gives the same twice for a picture of noise.

    Keras's own layers draw random numbers in training only. So nothing is run if a network has no
    others.

    Args:
        graph: the network.
        instruments: the models that measure it.
        size: the height and width of the photos.

    Raises:
        NetworkError: a layer gives something else; the text names it.
    """
    own = [step.layer.name for step in graph.steps if not _is_known(step.layer)]
    if not own:
        return
    noise = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    first, second = instruments.measure_exactly(noise), instruments.measure_exactly(noise)
    for name, means in first.items():
        if not np.allclose(second[name], means, rtol=0, atol=SAME * np.abs(means).max()):
            raise NetworkError(
                f"layer {name}: gives something else every time for the same photo, because a "
                f"layer of your own ({', '.join(own)}) draws random numbers or keeps state when "
                "the network is used; let it do so only if its argument training is true"
            )


def _is_known(layer: keras.Layer) -> bool:
    return type(layer).__module__.startswith(("keras.", "vggnorm."))
