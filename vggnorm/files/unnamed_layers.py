"""The names of layers, in files that do not hold them.

TensorFlow 2.12 to 2.15 and the first versions of Keras 3 wrote such files: `.weights.h5`, and the
weights in a `.keras` archive. There is a group for each layer, called after the layer's kind and a
count: `conv2d`, `conv2d_1`, and so on. The count says the place among the layers of this kind, in
the order of the model. So the names come from the model's configuration, or from a model.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from vggnorm.files.tensor import Layers, Tensor

KindAndName = tuple[str, str]  # a layer's class, and its name


def named_in_order(layers: Layers, model: Iterable[KindAndName]) -> dict[str, list[Tensor]] | None:
    """Give the weights under the names of a model's layers.

    Args:
        layers: group -> weights, the groups of each kind in the order of their counts.
        model: the layers of the model, in its order.

    Returns:
        Layer name -> weights; None if the file has more or fewer layers of a kind that has weights.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for kind, name in model:
        names[kind_in_file(kind)].append(name)
    groups: dict[str, list[list[Tensor]]] = defaultdict(list)
    for group, tensors in layers.items():
        groups[_without_count(group)].append(list(tensors))
    named: dict[str, list[Tensor]] = {}
    for kind, weights in groups.items():
        if len(weights) == len(names[kind]):
            named |= zip(names[kind], weights, strict=True)
        elif any(weights):
            return None
    return named


def kind_in_file(class_name: str) -> str:
    """Write the name of a class as Keras does in such a file: `conv2d_transpose`."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", class_name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _without_count(group: str) -> str:
    return re.sub(r"_\d+$", "", group)
