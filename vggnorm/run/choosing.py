"""Which precision a run measures in, and the models for it."""

import keras

from vggnorm.network.bfloat16 import bfloat16_copy
from vggnorm.network.graph import Graph, read_graph
from vggnorm.network.instruments import Instruments, measuring_model
from vggnorm.network.memory import is_on_cpu
from vggnorm.network.precision import photos_per_second
from vggnorm.photos.geometry import Geometry, Preprocessing
from vggnorm.processor import lacks_bfloat16_units
from vggnorm.run.options import Compute, Say

# With `auto`, float32's correction must be known this well: its standard error relative to the
# mean, in the median over the filters. Half of the filters are then within 3e-4 of float32's mean.
ACCURACY = 4e-4

SLOW_BFLOAT16 = (
    "precision bfloat16 is slower than float32 on this processor, which has no units for it; use "
    "--precision float32, with --fresh if a run has begun"
)


def choose_instruments(
    graph: Graph,
    *,
    preprocessing: Preprocessing,
    dense: bool,
    geometry: Geometry,
    compute: Compute,
    share_in_both: float,
    say: Say,
) -> Instruments:
    """Make the models that measure. With `auto`, take the fast one only if it pays here.

    Args:
        graph: the network.
        preprocessing: what the network takes photos as.
        dense: whether hidden dense layers are measured, too.
        geometry: what the photos are made into.
        compute: the precision wanted, and the batch size.
        share_in_both: the share of the photos that bfloat16 would have to run in float32, too.
        say: is told what `auto` took, and why; and that bfloat16 is slow here.
    """
    shape = geometry.height, geometry.width
    exact = measuring_model(graph, preprocessing, shape)
    if compute.precision == "float32":
        return Instruments(exact, None, compute.batch_size)
    if compute.precision == "bfloat16" and is_on_cpu(exact) and lacks_bfloat16_units():
        say(SLOW_BFLOAT16)
    copy = read_graph(bfloat16_copy(graph), dense=dense)
    fast = measuring_model(copy, preprocessing, shape)
    if compute.precision == "auto" and not _pays(fast, exact, shape, share_in_both, say):
        return Instruments(exact, None, compute.batch_size)
    return Instruments(exact, fast, compute.batch_size)


def _pays(
    fast: keras.Model,
    exact: keras.Model,
    shape: tuple[int, int],
    share_in_both: float,
    say: Say,
) -> bool:
    """Time both precisions, and tell whether the fast one pays although some photos run twice."""
    share = min(share_in_both, 1)
    fast_rate = photos_per_second(fast, *shape)
    exact_rate = photos_per_second(exact, *shape)
    pays = 1 / fast_rate + share / exact_rate < 1 / exact_rate
    taken = "bfloat16" if pays else "float32"
    say(
        f"precision {taken}: the network alone runs {fast_rate:.1f} photos/s in bfloat16 here and "
        f"{exact_rate:.1f} in float32, in which {share:.0%} of them would have to run as well"
    )
    return pays
