"""Which layers are recognized as those of a VGG, by shapes alone."""

import pytest

from vggnorm import vgg
from vggnorm.files.tensor import Array, Shape, Tensor
from vggnorm.files.unnamed_layers import kind_in_file, named_in_order
from vggnorm.files.vgg_by_order import names_by_order


def never_read() -> Array:
    raise AssertionError("no weight must be read")


def weights(*shapes: Shape) -> list[Tensor]:
    return [Tensor(shape, "float32", never_read) for shape in shapes]


# The layers of VGGFace's VGG16 (Parkhi, Vedaldi and Zisserman, "Deep Face Recognition", 2015) in
# Keras: filters as in table 3 there, 2,622 persons.
FILTERS = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
NAMES = [f"{block}_{number}" for block, number in vgg.places_of("vgg16")]


def vggface() -> dict[str, list[Tensor]]:
    layers = {"input_1": weights()}
    channels = 3
    for name, filters in zip(NAMES, FILTERS, strict=True):
        layers[f"conv{name}"] = weights((3, 3, channels, filters), (filters,))
        channels = filters
    return {
        **layers,
        "flatten": weights(),
        "fc6": weights((25088, 4096), (4096,)),
        "fc6/relu": weights(),
        "fc7": weights((4096, 4096), (4096,)),
        "fc8": weights((4096, 2622), (2622,)),
    }


def test_vggface() -> None:
    convolutions = {f"conv{name}": f"block{name[0]}_conv{name[2]}" for name in NAMES}
    dense = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    assert names_by_order(vggface()) == {**convolutions, **dense}


def test_another_classifier_keeps_its_names() -> None:
    layers = vggface()
    layers["fc7"] = weights((4096, 128), (128,))
    found = names_by_order(layers)
    assert found is not None
    assert not {"fc6", "fc7", "fc8"} & found.keys()


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        ("conv3_2", [(3, 3, 256, 255), (255,)]),  # other filters
        ("conv3_2", [(5, 5, 256, 256), (256,)]),  # a larger kernel
        ("conv3_2", [(3, 3, 256, 256)]),  # no bias
        ("conv1_1", [(3, 3, 4, 64), (64,)]),  # photos of four colours
        ("conv3_2", []),  # a layer less
        ("flatten", [(3, 3, 512, 512), (512,)]),  # and one more
    ],
)
def test_what_is_no_vgg_is_not_recognized(layer: str, shapes: list[Shape]) -> None:
    layers = vggface()
    layers[layer] = weights(*shapes)
    assert names_by_order(layers) is None


def test_a_layer_between_the_convolutions_is_not_passed_over() -> None:
    layers = list(vggface().items())
    layers.insert(5, ("scale", weights((128,), (128,))))
    assert names_by_order(dict(layers)) is None


def test_names_of_keras_are_left_alone() -> None:
    layers = vggface()
    layers["block1_conv1"] = layers.pop("conv1_1")
    assert names_by_order({"block1_conv1": layers.pop("block1_conv1"), **layers}) is None


# Files without names


def test_layers_without_names_are_named_kind_by_kind() -> None:
    first, second, third = weights((1, 1)), weights((2, 2)), weights((3, 3))
    counted = {"activation": weights(), "conv2d": first, "conv2d_1": second, "dense": third}
    in_twos = {"conv2d": first, "conv2d_2": second, "dense": third}  # TensorFlow 2.12 and 2.13
    model = [("Conv2D", "b"), ("Activation", "r"), ("Dense", "d"), ("Conv2D", "a")]
    for groups in (counted, in_twos):
        found = named_in_order(groups, model)
        assert found is not None
        assert (found["b"], found["a"], found["d"]) == (first, second, third)
    assert named_in_order(counted, model[1:]) is None


@pytest.mark.parametrize(
    ("class_name", "kind"),
    [
        ("Conv2D", "conv2d"),
        ("Conv2DTranspose", "conv2d_transpose"),
        ("BatchNormalization", "batch_normalization"),
        ("PReLU", "p_re_lu"),
        ("SeparableConv2D", "separable_conv2d"),
    ],
)
def test_kinds_are_written_as_keras_writes_them(class_name: str, kind: str) -> None:
    assert kind_in_file(class_name) == kind
