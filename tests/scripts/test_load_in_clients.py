"""Loading files into plain PyTorch networks, and telling a wrong network from a right one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import load_in_clients  # noqa: E402
import programs  # noqa: E402
from load_in_clients import largest_difference, names_of  # noqa: E402

Arrays = dict[str, Any]


@pytest.fixture(scope="module")
def weights() -> Arrays:
    """Return random weights for VGG16: `1_2` -> kernel (height, width, in, out) and bias."""
    random = np.random.default_rng(0)
    found: Arrays = {}
    channels = 3
    for place in names_of("vgg16"):
        filters = programs.FILTERS[int(place[4]) - 1]
        spread = np.sqrt(2 / (9 * channels))
        kernel = random.normal(0, spread, (3, 3, channels, filters)).astype(np.float32)
        found[place.removeprefix("relu")] = (
            kernel,
            random.normal(0, 0.1, filters).astype(np.float32),
        )
        channels = filters
    return found


@pytest.fixture(scope="module")
def photo() -> Any:
    return np.random.default_rng(1).integers(0, 256, (48, 32, 3), dtype=np.uint8)


def convolved(pixels: Any, kernel: Any, bias: Any) -> Any:
    """Convolve with zeros around, position by position, and rectify."""
    height, width, _ = pixels.shape
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)))
    result = np.empty((height, width, len(bias)))
    for row in range(height):
        for column in range(width):
            window = padded[row : row + 3, column : column + 3]
            result[row, column] = np.tensordot(window, kernel, 3) + bias
    return np.maximum(result, 0)


@pytest.fixture(scope="module")
def expected(weights: Arrays, photo: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the photo and what a network sees in it, computed in numpy."""
    # BGR, less the mean
    features = photo[:, :, ::-1] - np.array([103.939, 116.779, 123.68])
    arrays = {}
    block = "1"
    for name, (kernel, bias) in weights.items():
        if name[0] != block:
            height, width, filters = features.shape
            features = features.reshape(height // 2, 2, width // 2, 2, filters).max(axis=(1, 3))
            block = name[0]
        features = convolved(features, kernel.astype(np.float64), bias)
        arrays[f"relu{name}"] = features.astype(np.float32)
    path = tmp_path_factory.mktemp("expected") / "vgg16.npz"
    np.savez(path, photo=photo, **arrays)
    return path


def in_keras_layout(weights: Arrays) -> Arrays:
    arrays = {}
    for name, (kernel, bias) in weights.items():
        arrays[f"block{name[0]}_conv{name[2]}/kernel"] = kernel
        arrays[f"block{name[0]}_conv{name[2]}/bias"] = bias
    return arrays


def in_list(weights: Arrays) -> Arrays:
    flat = [array for pair in weights.values() for array in pair]
    return {"arr_0": np.array(len(flat))} | {f"arr_{i}": each for i, each in enumerate(flat, 1)}


def in_list_without_count(weights: Arrays) -> Arrays:
    arrays = {}
    for index, (kernel, bias) in enumerate(weights.values()):
        arrays[f"arr_{2 * index}"] = kernel.transpose(3, 2, 0, 1)
        arrays[f"arr_{2 * index + 1}"] = bias
    return arrays


def in_gatys_layout(weights: Arrays) -> Arrays:
    arrays = {}
    for name, (kernel, bias) in weights.items():
        arrays[f"conv{name}.weight"] = kernel.transpose(3, 2, 0, 1)
        arrays[f"conv{name}.bias"] = bias
    return arrays


def colours() -> tuple[Any, Any]:
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[0, 2] = kernel[1, 1] = kernel[2, 0] = 255
    return kernel, np.array([-103.939, -116.779, -123.68], np.float32)


def in_wct_layout(weights: Arrays) -> Arrays:
    arrays = {f"seq.{name}": array for name, array in in_gatys_layout(weights).items()}
    arrays["preprocess_weight"], arrays["preprocess_bias"] = colours()
    return arrays


SLOTS = {
    "torchvision": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "adain": (2, 5, 9, 12, 16, 19, 22, 26, 29, 32, 36, 39, 42),
}


def in_slots(weights: Arrays, layout: str, prefix: str) -> Arrays:
    arrays = {}
    for slot, (kernel, bias) in zip(SLOTS[layout], weights.values(), strict=True):
        arrays[f"{prefix}{slot}.weight"] = kernel.transpose(3, 2, 0, 1)
        arrays[f"{prefix}{slot}.bias"] = bias
    return arrays


def in_torchvision_layout(weights: Arrays) -> Arrays:
    return in_slots(weights, "torchvision", "features.")


def in_adain_layout(weights: Arrays) -> Arrays:
    arrays = in_slots(weights, "adain", "")
    arrays["0.weight"], arrays["0.bias"] = colours()
    return arrays


LAYOUTS = {
    "keras": (in_keras_layout, "caffe"),
    "list": (in_list, "caffe"),
    "list-oihw": (in_list_without_count, "caffe"),
    "gatys": (in_gatys_layout, "caffe"),
    "torchvision": (in_torchvision_layout, "caffe"),
    "wct": (in_wct_layout, "adain"),
    "adain": (in_adain_layout, "adain"),
}


def results(
    path: Path, layout: str, convention: str, expected: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """Do one job as the program does it."""
    job = {"client": "plain network", "file": str(path), "network": "vgg16", "layout": layout}
    job |= {"convention": convention, "expected": str(expected)}
    jobs = path.with_name("jobs.json")
    jobs.write_text(json.dumps([job]))
    load_in_clients.main(str(jobs))
    return dict(json.loads(capsys.readouterr().out)[0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_what_numpy_computes(
    layout: str,
    weights: Arrays,
    expected: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrange, convention = LAYOUTS[layout]
    path = tmp_path / "network.npz"
    np.savez(path, **arrange(weights))
    found = results(path, layout, convention, expected, capsys)
    assert found["layers"] == ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    assert found["difference"] < 1e-5  # 13 layers of float32


def test_turned_kernels_and_another_order_of_colours_differ(
    weights: Arrays, expected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "network.pth"
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(array))
        for name, array in in_gatys_layout(weights).items()
    }
    torch.save(tensors, path)
    assert results(path, "gatys", "rgb255", expected, capsys)["difference"] > 1e-2
    turned = dict(tensors, **{"conv3_2.weight": tensors["conv3_2.weight"].transpose(2, 3)})
    torch.save(turned, path)
    assert results(path, "gatys", "caffe", expected, capsys)["difference"] > 1e-2


def test_a_surplus_tensor_is_an_error_of_its_job(
    weights: Arrays, expected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "network.npz"
    np.savez(path, surplus=np.zeros(1), **in_gatys_layout(weights))
    found = results(path, "gatys", "caffe", expected, capsys)
    assert "surplus" in found["error"]


def test_the_border_is_what_sees_the_padding(weights: Arrays, tmp_path: Path) -> None:
    """Put other colours than zeros around a photo, and see how far activations change."""
    path = tmp_path / "network.npz"
    np.savez(path, **in_gatys_layout(weights))
    network = programs.load(path, "gatys", "vgg16").double()
    alone = torch.rand(1, 3, 256, 256, dtype=torch.float64)
    inside = torch.nn.functional.pad(alone, (16, 16, 16, 16), value=0.7)
    with torch.inference_mode():
        for name, module in network.named_children():
            alone, inside = module(alone), module(inside)
            if name.endswith("_1") and name.startswith("relu"):
                extra = (inside.shape[-1] - alone.shape[-1]) // 2
                part = inside[..., extra:-extra, extra:-extra]
                middle = alone.shape[-1] // 2
                changed = ((alone - part)[0, :, :, middle].abs() > 1e-9).any(dim=0)
                upper = changed[:middle]
                assert int(upper.sum()) == programs.border_of(name, "vgg16"), name
                assert upper[: int(upper.sum())].all()  # from the border on, without a gap


def test_only_the_inside_is_compared_and_the_shape_must_fit() -> None:
    expected = np.full((5, 4, 1), 10.0)
    found = expected.copy()
    found[0] += 3
    found[2, 2] += 1
    assert largest_difference(found, expected, 0) == pytest.approx(0.3)
    assert largest_difference(found, expected, 1) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="too small"):
        largest_difference(found, expected, 2)
    with pytest.raises(ValueError, match="shape"):
        largest_difference(found[1:], expected, 0)
