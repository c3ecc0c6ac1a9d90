"""Style transfer with a small network: what it reads, minimizes, writes and refuses."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import descent
import numpy as np
import pytest
import style_transfer
from click.testing import CliRunner, Result
from PIL import Image

from vggnorm.errors import OutputError, PhotoError

OPTIMIZERS: dict[str, Callable[..., np.ndarray]] = {
    "lbfgs": descent.minimize_lbfgs,
    "adam": partial(descent.minimize_adam, learning_rate=10.0),
}


@pytest.fixture(scope="module")
def network(make_chain: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "chain.keras"
    make_chain().save(path)
    return path


@pytest.fixture
def pictures(photo_folder: Path, tmp_path: Path) -> list[str]:
    """Return the arguments for two pictures and an output."""
    return [
        str(photo_folder / "0.jpg"),
        str(photo_folder / "1.jpg"),
        "-o",
        str(tmp_path / "out.png"),
    ]


@pytest.fixture
def run(network: Path, pictures: list[str]) -> Callable[..., Result]:
    layers = ["--content-layer", "conv3", "--style-layer", "conv1", "--style-layer", "conv2=0.5"]
    small = [
        "--network",
        str(network),
        *layers,
        "--size",
        "48",
        "--iterations",
        "6",
        "--style-weight",
        "1e-4",
    ]
    return lambda *arguments: CliRunner().invoke(
        style_transfer.main, [*pictures, *small, *arguments]
    )


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def losses(table: str) -> dict[str, float]:
    rows = (line.split() for line in table.splitlines())
    return {
        f"{row[0]} {row[1]}": float(row[2])
        for row in rows
        if row and row[0] in ("content", "style")
    }


class Distance:
    """Half the squared distance to a target, in the place of the loss.

    Where the target leaves 0..255, the bounds are nearest to it.
    """

    target = np.array([[[-50.0, 100, 300], [20, 200, 255]]])

    def value_and_gradient(self, picture: np.ndarray) -> tuple[float, np.ndarray]:
        difference = picture - self.target
        return float((difference**2).sum() / 2), difference.astype(np.float32)


# Minimizing


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_minimum_within_the_bounds_is_found(optimizer: str) -> None:
    seen = []
    found = OPTIMIZERS[optimizer](
        Distance(),
        np.full((1, 2, 3), 128.0),
        100,
        lambda *told: seen.append((told[0], told[1].copy())),
    )
    np.testing.assert_allclose(found, [[[0, 100, 255], [20, 200, 255]]], atol=0.5)
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    np.testing.assert_allclose(seen[-1][1], found)
    assert all((picture >= 0).all() and (picture <= 255).all() for _, picture in seen)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_more_iterations_than_asked_for(optimizer: str) -> None:
    seen = []
    OPTIMIZERS[optimizer](Distance(), np.full((1, 2, 3), 128.0), 2, lambda *told: seen.append(told))
    assert len(seen) <= 2


def test_a_tiny_gradient_is_not_taken_for_the_end() -> None:
    class Tiny(Distance):
        def value_and_gradient(self, picture: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = super().value_and_gradient(picture)
            return value * 1e-9, gradient * 1e-9

    found = descent.minimize_lbfgs(Tiny(), np.full((1, 2, 3), 128.0), 100, lambda *_: None)
    np.testing.assert_allclose(found, [[[0, 100, 255], [20, 200, 255]]], atol=0.5)


# Pictures


def test_a_picture_keeps_its_proportions_and_is_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (200, 100))
    image.paste((255, 0, 0), (0, 0, 100, 100))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise: the left comes to the top
    image.save(tmp_path / "turned.png", exif=exif)
    picture = style_transfer.read_picture(tmp_path / "turned.png", 80)
    assert picture.shape == (80, 40, 3)
    np.testing.assert_array_equal(picture[:30], np.broadcast_to([255.0, 0, 0], (30, 40, 3)))
    assert not picture[50:].any()


def test_a_picture_too_oblong_for_the_network(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 100)).save(tmp_path / "strip.png")
    with pytest.raises(
        PhotoError, match=r"strip.png: would be 256 x 26 pixels, .* 32 .* a larger size"
    ):
        style_transfer.read_picture(tmp_path / "strip.png", 256)


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PhotoError, match=r"text.png: is not an image, but text"):
        style_transfer.read_picture(tmp_path / "text.png", 256)


def test_pixels_are_rounded_and_clipped(tmp_path: Path) -> None:
    style_transfer.write_picture(
        np.array([[[-1.0, 0.4, 0.6], [254.6, 255.0, 256.0]]]), tmp_path / "out.png"
    )
    np.testing.assert_array_equal(pixels(tmp_path / "out.png"), [[[0, 0, 1], [255, 255, 255]]])


@pytest.mark.parametrize("name", ["out.h5", "out"])
def test_an_output_that_is_no_picture(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match=f"{name}: does not end in .png, .jpg, .jpeg; give a name that does"
    ):
        style_transfer.check_picture_output(tmp_path / name, force=False)


def test_noise_is_seeded() -> None:
    content = np.zeros((40, 40, 3))
    one, again, other = (style_transfer.first_picture("noise", content, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.99
    assert one.mean() == pytest.approx(127.5, abs=5)
    assert style_transfer.first_picture("content", content, 1) is content


# Options


def test_layers_with_and_without_a_weight() -> None:
    assert style_transfer.read_style_layers(["conv1", "conv2=0.5"]) == {"conv1": 1.0, "conv2": 0.5}


@pytest.mark.parametrize("value", ["conv1=much", "conv1=-1", "conv1=inf", "conv1=nan"])
def test_weights_that_are_none(value: str) -> None:
    with pytest.raises(click.BadParameter, match=f"{value}: give NAME=WEIGHT"):
        style_transfer.read_style_layers([value])


def test_some_layer_must_count() -> None:
    with pytest.raises(click.BadParameter, match="must have a weight above 0"):
        style_transfer.read_style_layers(["conv1=0", "conv2=0"])


# The whole


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_losses_fall(optimizer: str, run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("--optimizer", optimizer)
    assert result.exit_code == 0, result.output
    before, after = map(losses, result.stdout.split("losses at the end"))
    assert set(before) == set(after) == {"content conv3", "style conv1", "style conv2"}
    assert before["content conv3"] == 0
    assert after["style conv1"] < before["style conv1"]
    assert after["style conv2"] < before["style conv2"]
    assert max(pixels(tmp_path / "out.png").shape) == 48


def test_from_noise_the_content_comes_back(run: Callable[..., Result]) -> None:
    result = run("--start", "noise", "--style-weight", "0", "--iterations", "30")
    before, after = map(losses, result.stdout.split("losses at the end"))
    assert after["content conv3"] < before["content conv3"] / 10


def test_pictures_on_the_way(run: Callable[..., Result], tmp_path: Path) -> None:
    assert run("--every", "2", "--optimizer", "adam").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.png",
        "out_0002.png",
        "out_0004.png",
    ]
    early, late, last = (
        pixels(tmp_path / name) for name in ("out_0002.png", "out_0004.png", "out.png")
    )
    assert (early != late).any()
    assert (late != last).any()


def test_average_pooling_changes_the_losses(run: Callable[..., Result]) -> None:
    options = "--iterations", "1", "--style-layer", "conv3", "--force"
    with_max = losses(run(*options, "--pooling", "max").stdout)
    with_average = losses(run(*options, "--pooling", "avg").stdout)
    assert with_max["style conv3"] != with_average["style conv3"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--style-layer", "conv9"],
            "has no layer conv9; it has pixels, conv1, conv2, pool2, conv3",
        ),
        (["--network", "missing.h5"], "missing.h5: there is no such file"),
        (["--weights", "missing.h5"], "a model file has its own weights"),
        (["-o", "out.txt"], "out.txt: does not end in .png"),
    ],
)
def test_what_a_user_can_fix_is_one_line(
    arguments: list[str], told: str, run: Callable[..., Result]
) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["out.png", "out_0002.png"])
def test_an_existing_picture_is_kept_without_force(
    name: str, run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / name).write_text("precious")
    result = run("--every", "2")
    assert result.exit_code == 1
    assert f"{name}: exists already" in result.stderr
    assert (tmp_path / name).read_text() == "precious"
    assert run("--every", "2", "--force").exit_code == 0
