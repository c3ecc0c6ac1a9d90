"""Files of every container, layout and type: what is written comes back to the last bit."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from vgg_files import (
    DTYPES,
    bits,
    first_layers,
    first_weights,
    gatys_layers,
    need_torch_for,
    taken_as,
)

from vggnorm import vgg
from vggnorm.errors import OutputError
from vggnorm.files.formats import open_weights
from vggnorm.files.layouts import LAYOUTS
from vggnorm.files.npz import write_npz
from vggnorm.files.saving import save_weights
from vggnorm.files.tensor import Array, of_array
from vggnorm.files.vgg_weights import VggWeights
from vggnorm.files.weights_file import Kind

FLAT = [name for name in LAYOUTS if name != "matconvnet"]

KINDS = {
    ".safetensors": Kind.SAFETENSORS,
    ".npz": Kind.NPZ,
    ".pth": Kind.PYTORCH,
    ".mat": Kind.MAT,
    ".h5": Kind.KERAS2_MODEL,
}

# What each container can hold.
TYPES = {
    ".safetensors": ("float16", "bfloat16", "float32", "float64"),
    ".pth": ("float16", "bfloat16", "float32", "float64"),
    ".npz": ("float16", "float32", "float64"),
    ".mat": ("float32", "float64"),
    ".h5": ("float32",),
}


def cases() -> Iterator[tuple[str, str, str]]:
    """Give every ending, layout and type that there is."""
    for ending in (".safetensors", ".pth", ".npz"):
        yield from itertools.product([ending], FLAT, TYPES[ending])
    yield from itertools.product([".mat"], ["matconvnet"], TYPES[".mat"])
    yield ".h5", "keras", "float32"


def require_same_bits(path: Path, wanted: dict[str, Array]) -> None:
    with open_weights(path) as file:
        found = {
            f"{layer}/{part}": array
            for layer, arrays in file.arrays().items()
            for part, array in zip(("kernel", "bias"), arrays, strict=False)
        }
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert bits(found[name]) == bits(array), name


def own_convention(ending: str, layout: str) -> str:
    """Name the convention in which no arithmetic changes the first convolution."""
    if LAYOUTS[layout].colours is not None:
        return "adain"
    return "rgb255" if ending == ".mat" else "caffe"


# The bits


@pytest.mark.parametrize(("ending", "layout", "dtype"), list(cases()))
def test_what_is_written_is_read_and_written_again_the_same(
    ending: str, layout: str, dtype: str, tmp_path: Path
) -> None:
    need_torch_for(ending)
    known = "rgb255" if ending == ".mat" else "caffe"
    convention = own_convention(ending, layout)
    wanted = first_layers(dtype)
    first, second = tmp_path / f"first{ending}", tmp_path / f"second{ending}"
    given = taken_as(known, first_weights(dtype))
    save_weights(first, given, layout=layout, convention=convention)
    require_same_bits(first, wanted)
    with open_weights(first) as file:
        assert file.kind is KINDS[ending]
        assert file.vgg.layout == layout
        assert file.vgg.dtypes == [dtype]
        assert (file.vgg.network, len(file.vgg.places)) == ("vgg16", 2)
        again = taken_as(known, file.vgg)
        save_weights(second, again, layout=layout, convention=convention)
    require_same_bits(second, wanted)


@pytest.mark.parametrize("ending", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_from_any_container_into_any_other(ending: str, other: str, tmp_path: Path) -> None:
    # A .mat file has red first, and an .h5 file blue first: the colours may turn round twice.
    need_torch_for(ending)
    need_torch_for(other)
    names = [f"first{ending}", f"second{other}", f"third{ending}", "last.h5"]
    given = first_weights()
    for name in names:
        known = save_weights(tmp_path / name, given).convention
        with open_weights(tmp_path / name) as file:
            assert file.taken_as.convention in (None, known)
            given = loaded(taken_as(known, file.vgg))
    require_same_bits(tmp_path / "last.h5", first_layers())


def loaded(weights: VggWeights) -> VggWeights:
    """Read weights into memory, so that their file can be closed."""
    layers = {
        layer: [of_array(tensor.read()) for tensor in tensors]
        for layer, tensors in weights.layers.items()
    }
    return replace(weights, layers=layers)


@pytest.mark.parametrize("ending", KINDS)
@pytest.mark.parametrize("name", ["odd", "odd.h5", "odd.npy", "odd.pth"])
def test_what_a_file_is_stands_in_it_and_not_in_its_name(
    name: str, ending: str, tmp_path: Path
) -> None:
    need_torch_for(ending)
    path = tmp_path / f"vgg{ending}"
    weights = taken_as("rgb255" if ending == ".mat" else "caffe", first_weights())
    save_weights(path, weights)
    path.rename(tmp_path / name)
    require_same_bits(tmp_path / name, first_layers())


def test_what_numpy_reads_of_an_npz(tmp_path: Path) -> None:
    save_weights(tmp_path / "vgg.npz", first_weights())
    wanted = first_layers()
    with np.load(tmp_path / "vgg.npz", allow_pickle=False) as file:
        assert list(file) == ["arr_0", "arr_1", "arr_2", "arr_3", "arr_4"]
        assert int(file["arr_0"]) == 4
        np.testing.assert_array_equal(file["arr_1"], wanted["block1_conv1/kernel"])
        np.testing.assert_array_equal(file["arr_4"], wanted["block1_conv2/bias"])


def test_what_another_reader_reads_of_a_safetensors_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    save_weights(tmp_path / "vgg.safetensors", first_weights(), layout="gatys")
    found = load_file(tmp_path / "vgg.safetensors")
    wanted = gatys_layers()
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_pytorch_reads_of_a_pth(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save_weights(tmp_path / "vgg.pth", first_weights(), layout="gatys")
    found = torch.load(tmp_path / "vgg.pth", weights_only=True)
    wanted = gatys_layers()
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name].numpy(), array)


def test_what_scipy_reads_of_a_mat(tmp_path: Path) -> None:
    from scipy.io import loadmat

    save_weights(tmp_path / "vgg.mat", first_weights(), convention="rgb255")
    content = loadmat(tmp_path / "vgg.mat")
    # As anishathalye/neural-style takes them, field by field.
    layers, mean_image = content["layers"][0], content["normalization"][0][0][0]
    kernel, bias = layers[0][0][0][0][0]
    assert [str(layer[0][0]["name"][0]) for layer in layers[:4]] == [
        "conv1_1",
        "relu1_1",
        "conv1_2",
        "relu1_2",
    ]
    np.testing.assert_allclose(mean_image.mean(axis=(0, 1)), [123.68, 116.779, 103.939])
    wanted = first_layers()
    # Width before height, and red first.
    in_keras = kernel.transpose(1, 0, 2, 3)[:, :, ::-1]
    np.testing.assert_array_equal(in_keras, wanted["block1_conv1/kernel"])
    np.testing.assert_array_equal(bias.reshape(-1), wanted["block1_conv1/bias"])


@pytest.mark.usefixtures("small_vgg")
@pytest.mark.parametrize("ending", KINDS)
def test_a_whole_network_with_its_dense_layers(ending: str, tmp_path: Path) -> None:
    need_torch_for(ending)
    arrays: dict[str, Array] = {}
    channels = 3
    for place in vgg.places_of("vgg19"):
        filters = vgg.BLOCK_FILTERS[place[0] - 1]
        arrays[f"{vgg.convolution_name(place)}/kernel"] = np.zeros((3, 3, channels, filters))
        arrays[f"{vgg.convolution_name(place)}/bias"] = np.zeros(filters)
        channels = filters
    for name, shape in {"fc1": (24, 4), "fc2": (4, 4), "predictions": (4, 7)}.items():
        arrays[f"{name}/kernel"], arrays[f"{name}/bias"] = np.zeros(shape), np.zeros(shape[1])
    random = np.random.default_rng(0)
    arrays = {
        name: random.normal(size=array.shape).astype(np.float32) for name, array in arrays.items()
    }
    write_npz(tmp_path / "given.npz", arrays)
    path = tmp_path / f"vgg{ending}"
    layout = "torchvision" if ending in (".npz", ".pth") else None
    known = "rgb255" if ending == ".mat" else "caffe"
    with open_weights(tmp_path / "given.npz") as file:
        save_weights(path, taken_as(known, file.vgg), layout=layout, with_classifier=True)
    require_same_bits(path, arrays)


# Types that a container does not have


@pytest.mark.parametrize(
    ("ending", "dtype"),
    [(".npz", "bfloat16"), (".mat", "bfloat16"), (".mat", "float16")],
)
def test_a_type_that_a_container_cannot_hold_is_refused(
    ending: str, dtype: str, tmp_path: Path
) -> None:
    path = tmp_path / f"vgg{ending}"
    weights = taken_as("rgb255" if ending == ".mat" else "caffe", first_weights(dtype))
    with pytest.raises(OutputError, match=f"cannot hold {dtype} .*--dtype float32"):
        save_weights(path, weights)
    assert list(tmp_path.iterdir()) == []
    save_weights(path, weights, dtype="float32")  # as it says
    wanted = {name: array.astype(np.float32) for name, array in first_layers(dtype).items()}
    require_same_bits(path, wanted)


@pytest.mark.parametrize("convention", ["caffe", "torch"])
def test_a_mat_file_has_the_convention_that_its_mean_colour_says(
    convention: str, tmp_path: Path
) -> None:
    path = tmp_path / "vgg.mat"
    with pytest.raises(OutputError, match="takes photos as rgb255; leave out --convention"):
        save_weights(path, first_weights(), convention=convention)
    assert list(tmp_path.iterdir()) == []
    save_weights(path, first_weights())  # as it says
    with open_weights(path) as file:
        assert file.taken_as.convention == "rgb255"


def test_h5_is_always_float32(tmp_path: Path) -> None:
    save_weights(tmp_path / "vgg.h5", first_weights("bfloat16"))
    wanted = {name: array.astype(np.float32) for name, array in first_layers("bfloat16").items()}
    require_same_bits(tmp_path / "vgg.h5", wanted)


def test_the_types_of_the_tests_are_those_of_files() -> None:
    assert set(DTYPES) == {dtype for types in TYPES.values() for dtype in types}
