"""The layer that pads with reflections, which Keras does not have."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from vggnorm.errors import NetworkError
from vggnorm.means.recipe import Padding
from vggnorm.network import operations
from vggnorm.network.steps import Step


@keras.saving.register_keras_serializable(package="vggnorm")
class ReflectionPadding2D(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Pads maps with their own reflection: `a b c` becomes `c b a b c b a` with two a side.

    The outermost row or column is the mirror and is not repeated, as in PyTorch's layer of this
    name. The input is `(photos, height, width, channels)`, or with the channels first.
    """

    def __init__(
        self, padding: Sequence[int] = (1, 1), data_format: str | None = None, **options: Any
    ) -> None:
        """Make the layer.

        Args:
            padding: how many rows are added above and below, and how many columns left and right.
            data_format: `channels_last` or `channels_first`; by default that of Keras's settings.
            options: the options that every layer has.
        """
        super().__init__(**options)
        rows, columns = padding
        self.padding = operator.index(rows), operator.index(columns)
        if min(self.padding) < 0:
            raise ValueError(f"padding is {self.padding}; it must not be negative")
        self.data_format = data_format or keras.config.image_data_format()
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(f"data_format is {data_format!r}; it must be one of Keras's two")
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs: Any) -> Any:
        """Pad maps."""
        rows, columns = self.padding
        around = [(0, 0), (0, 0), (0, 0), (0, 0)]
        height, width = self._axes
        around[height], around[width] = (rows, rows), (columns, columns)
        return ops.pad(inputs, around, mode="reflect")

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Give the shape of the padded maps."""
        shape = list(input_shape)
        for axis, added in zip(self._axes, self.padding, strict=True):
            length = shape[axis]
            shape[axis] = None if length is None else length + 2 * added
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        """Give the settings, from which Keras can build the layer again."""
        return {
            **super().get_config(),
            "padding": list(self.padding),
            "data_format": self.data_format,
        }

    def require_fits(self, input_shape: Sequence[int | None]) -> None:
        """Require that maps are large enough: a side of `n` has `n - 1` positions to reflect.

        Args:
            input_shape: the shape of the input; a length that is None is taken to be large enough.

        Raises:
            NetworkError: a side is too short.
        """
        height, width = (input_shape[axis] for axis in self._axes)
        for length, added in zip((height, width), self.padding, strict=True):
            if length is not None and length <= added:
                raise NetworkError(
                    f"layer {self.name}: is given maps of {height} x {width} (height x width), too "
                    f"small to reflect {added} of their positions; use larger photos, or padding "
                    "with zeros"
                )

    @property
    def _axes(self) -> tuple[int, int]:
        """The axes of the height and the width."""
        return (2, 3) if self.data_format == "channels_first" else (1, 2)


def padding_in(layers: Iterable[keras.Layer]) -> Padding:
    """Tell how a network pads in front of its convolutions, from its layers."""
    reflects = any(type(layer) is ReflectionPadding2D for layer in layers)
    return "reflect" if reflects else "zeros"


def require_reflections_fit(model: keras.Model, steps: Sequence[Step], pixels: Any) -> None:
    """Require that photos of a size leave every map of a network large enough to be reflected.

    Args:
        model: the network.
        steps: the calls of its layers.
        pixels: the prepared photos, as a `keras.KerasTensor` of the size in question.

    Raises:
        NetworkError: a map is too small; the text names the layer.
    """
    padding = {step.layer.name: step for step in steps if _reflects(step)}
    if not padding:
        return
    inputs = {name: step.inputs[0] for name, step in padding.items()}
    shapes = keras.Model(model.inputs[0], inputs).compute_output_shape(pixels.shape)
    for name, step in padding.items():
        if operations.is_operation(step.layer):
            operations.require_reflection_fits(step, shapes[name])
        else:
            step.layer.require_fits(shapes[name])


def _reflects(step: Step) -> bool:
    return type(step.layer) is ReflectionPadding2D or operations.reflects(step)
