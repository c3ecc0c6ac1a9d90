"""What strangers' files are: made from VGG16's first layers as other programs have them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from command_line import failed, run
from safetensors.numpy import save_file
from vgg_parts import (
    IN_ADAIN,
    IN_KERAS,
    IN_TORCHVISION,
    Arrays,
    Part,
    in_adain,
    in_pytorch,
    in_torch_convention,
    random_part,
)

import vggnorm
from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.geometry import Geometry
from vggnorm.run.options import Until

IN_GATYS = {name: name for name in IN_KERAS}

EXACTLY = "It is normalized with exactly the means given (8 photos)."


@pytest.fixture(scope="module")
def genuine(vgg16: Any) -> Part:
    """The first three convolutions of VGG16."""
    weights = {name: vgg16.get_layer(layer).get_weights() for name, layer in IN_KERAS.items()}
    return {name: (kernel, bias) for name, (kernel, bias) in weights.items()}


@pytest.fixture(scope="module")
def original(genuine: Part, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their file, which does not say how it takes photos."""
    path = tmp_path_factory.mktemp("original") / "original.safetensors"
    save_file(in_pytorch(genuine, IN_GATYS), path)
    return path


@pytest.fixture(scope="module")
def means(original: Path, sample_photos: Path) -> FilterMeans:
    """The original's means, under which every filter fires."""
    model = vggnorm.load_network(original)
    geometry, until = Geometry(64), Until(limit=8)
    return vggnorm.compute_means(model, sample_photos, geometry=geometry, until=until)


@pytest.fixture(scope="module")
def normalized(genuine: Part, means: FilterMeans) -> Part:
    """The rule by hand: kernels over the mean out, times the mean in."""
    part = {}
    mean_in = np.ones(3)
    for name, (kernel, bias) in genuine.items():
        mean_out = means.mean[IN_KERAS[name]]
        mean_out = np.where(mean_out > 0, mean_out, 1)
        scaled = kernel * mean_in[:, np.newaxis] / mean_out
        part[name] = scaled.astype(np.float32), (bias / mean_out).astype(np.float32)
        mean_in = mean_out
    return part


def in_rgb(part: Part) -> Part:
    kernel, bias = part["conv1_1"]
    return {**part, "conv1_1": (kernel[:, :, ::-1], bias)}


def gatys(part: Part) -> Arrays:
    return in_pytorch(part, IN_GATYS)


def torchvision(part: Part) -> Arrays:
    return in_pytorch(part, IN_TORCHVISION)


# What a stranger's file may be: its arrays, and what is said of it besides.
STRANGERS: dict[str, tuple[Callable[[Part], Arrays], str | None, str | None]] = {
    "gatys": (gatys, None, None),
    "torchvision, caffe": (torchvision, None, None),
    "torchvision, rgb255": (lambda part: torchvision(in_rgb(part)), "rgb255", None),
    "torchvision, torch": (lambda part: torchvision(in_torch_convention(part)), "torch", None),
    "adain": (in_adain, None, "0.weight"),
    "adain without colours": (lambda part: in_pytorch(part, IN_ADAIN), None, None),
}


@pytest.fixture(params=STRANGERS)
def stranger(request: pytest.FixtureRequest) -> Any:
    return STRANGERS[request.param]


def said_of(stranger: Any) -> list[str]:
    """Say what is added to the verdict."""
    _, converted, prepended = stranger
    said = []
    if converted is not None:
        said.append(f"It takes photos as {converted}; the original was converted to that before")
    if prepended is not None:
        said.append(f"Its first layer follows {prepended}, a 1x1 convolution that prepares the")
    return said


def test_a_normalized_file_and_its_means(
    stranger: Any, normalized: Part, original: Path, means: FilterMeans, tmp_path: Path
) -> None:
    make, converted, prepended = stranger
    save_file(make(normalized), tmp_path / "strange.safetensors")
    found = vggnorm.identify(tmp_path / "strange.safetensors", original, means)
    assert found.sentence.startswith(EXACTLY)
    assert (found.kind, found.intact) == ("normalized", True), found.sentence
    assert (found.converted, found.prepended) == (converted, prepended)
    for text in said_of(stranger):
        assert text in found.sentence
    assert ("It takes" in found.sentence) == (converted is not None)
    for layer, mean in means.mean.items():
        scale = np.where(mean > 0, mean, 1)
        np.testing.assert_allclose(found.recovery.layers[layer].scale, scale, rtol=1e-5)


def test_the_original_itself(
    stranger: Any, genuine: Part, original: Path, means: FilterMeans, tmp_path: Path
) -> None:
    make, converted, prepended = stranger
    save_file(make(genuine), tmp_path / "strange.safetensors")
    found = vggnorm.identify(tmp_path / "strange.safetensors", original, means)
    assert (found.kind, found.intact) == ("original", True), found.sentence
    assert found.sentence.startswith("It is the original, not rescaled.")
    assert (found.converted, found.prepended) == (converted, prepended)


def test_without_means_the_weights_leave_it_open(
    stranger: Any, normalized: Part, original: Path, tmp_path: Path
) -> None:
    save_file(stranger[0](normalized), tmp_path / "strange.safetensors")
    found = vggnorm.identify(tmp_path / "strange.safetensors", original)
    assert (found.kind, found.intact) == ("possibly normalized", True), found.sentence
    assert "Photos or means can tell: give --data FOLDER or --means." in found.sentence


def test_photos_can_tell(
    stranger: Any, normalized: Part, original: Path, sample_photos: Path, tmp_path: Path
) -> None:
    """The advice of the last test: the original is measured as its own numbers say."""
    path = tmp_path / "strange.safetensors"
    save_file(stranger[0](normalized), path)
    options = "--original", original, "--data", sample_photos, "--limit", "8"
    result = run("identify", path, *options, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["kind"], found["intact"]) == ("normalized", True), found["sentence"]
    assert "with means of other photos, or of photos cropped in another way" in found["sentence"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_files_of_16_bits(
    dtype: str,
    stranger: Any,
    normalized: Part,
    original: Path,
    means: FilterMeans,
    tmp_path: Path,
) -> None:
    numbers = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}[dtype]
    arrays = {name: array.astype(numbers) for name, array in stranger[0](normalized).items()}
    save_file(arrays, tmp_path / "strange.safetensors")
    found = vggnorm.identify(tmp_path / "strange.safetensors", original, means)
    assert found.kind == "normalized", found.sentence
    assert f"Its weights are {dtype} numbers." in found.sentence
    assert found.intact, found.sentence


def test_other_weights(original: Path, means: FilterMeans, tmp_path: Path) -> None:
    save_file(in_adain(random_part()), tmp_path / "strange.safetensors")
    found = vggnorm.identify(tmp_path / "strange.safetensors", original, means)
    assert (found.kind, found.intact) == ("something else", False)
    assert found.sentence.startswith(
        "It is something else: 3 of its 3 layers have weights that are not a rescaling of the orig"
    )


def test_one_layer_of_other_weights(
    normalized: Part, original: Path, means: FilterMeans, tmp_path: Path
) -> None:
    mixed = {**normalized, "conv1_2": random_part()["conv1_2"]}
    save_file(gatys(mixed), tmp_path / "strange.safetensors")
    found = vggnorm.identify(tmp_path / "strange.safetensors", original, means)
    assert not found.intact
    assert "block1_conv2" in found.sentence


def test_the_wrong_original(
    normalized: Part, vgg19_file: Path, tmp_path: Path, means: FilterMeans
) -> None:
    """VGG19's first layers have the shapes of VGG16's, and other weights."""
    save_file(gatys(normalized), tmp_path / "strange.safetensors")
    found = vggnorm.identify(tmp_path / "strange.safetensors", vgg19_file)
    assert found.kind == "something else", found.sentence
    with pytest.raises(vggnorm.MeansError, match="the means were measured on other weights than"):
        vggnorm.identify(tmp_path / "strange.safetensors", vgg19_file, means)


def test_means_that_travel_with_the_file_do_not_vouch_for_another_original(
    original: Path, means: FilterMeans, vgg19_file: Path, tmp_path: Path
) -> None:
    model = vggnorm.normalize(vggnorm.load_network(original), means)
    weights = vggnorm.weights_of(model, "caffe", means)
    vggnorm.save_weights(tmp_path / "norm.npz", weights, layout="gatys", convention="torch")
    own = vggnorm.identify(tmp_path / "norm.npz", original)
    assert own.sentence.startswith("It is normalized with exactly the means that the file has (8 p")
    assert (own.intact, own.converted) == (True, "torch")
    other = vggnorm.identify(tmp_path / "norm.npz", vgg19_file)
    assert other.kind == "something else", other.sentence


@pytest.mark.parametrize("ending", ["safetensors", "npz", "pth"])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_truncated_file(
    share: float, ending: str, genuine: Part, original: Path, tmp_path: Path
) -> None:
    whole, path = tmp_path / f"whole.{ending}", tmp_path / f"strange.{ending}"
    if ending == "safetensors":
        save_file(gatys(genuine), whole)
    elif ending == "npz":
        np.savez(whole, allow_pickle=False, **gatys(genuine))
    else:
        torch = pytest.importorskip("torch")
        torch.save({name: torch.from_numpy(array) for name, array in gatys(genuine).items()}, whole)
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    text = failed(run("identify", path, "--original", original))
    assert text.startswith(f"{path}: is ")
    assert "damaged: " in text
    assert "get the file again" in text


def test_every_layer_of_gatys_file(
    vgg16: Any, imagenet_file: Path, sample_photos: Path, tmp_path: Path
) -> None:
    """The whole network, rescaled by vggnorm and rid of all that it says of itself."""
    photos = Until(limit=4)
    means = vggnorm.compute_means(vgg16, sample_photos, geometry=Geometry(96), until=photos)
    weights = vggnorm.weights_of(vggnorm.normalize(vgg16, means), "caffe", means)
    path = tmp_path / "vgg_conv.npz"
    vggnorm.save_weights(path, weights, layout="gatys", convention="torch")
    Path(f"{path}.means.npy").unlink()
    found = vggnorm.identify(path, imagenet_file, means)
    assert found.sentence.startswith("It is normalized with exactly the means given (4 photos).")
    assert (found.intact, found.converted, len(found.recovery.layers)) == (True, "torch", 13)
