"""The advice of `vggnorm.verify` and its report, followed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from advice_texts import refused, said
from measuring import measure
from PIL import Image
from zoo import chain, conv

import vggnorm
from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.photo_list import PhotoList

Chain = Callable[..., Any]
OPTIONS: dict[str, Any] = {"size": 16, "batch_size": 1, "preprocessing": "caffe"}


@pytest.fixture
def photos(photo_folder: Path) -> PhotoList:
    """Nine photos in random order."""
    return vggnorm.find_photos(photo_folder).shuffled(0)


def test_networks_with_the_same_padding_are_verified(
    make_chain: Chain, photos: PhotoList, tmp_path: Path
) -> None:
    model = make_chain((3, 4))
    vggnorm.save_network(model, tmp_path / "chain.h5")
    reflecting = vggnorm.load_network(tmp_path / "chain.h5", padding="reflect")
    means = measure(reflecting, photos, **OPTIONS)
    vggnorm.save_network(vggnorm.normalize(reflecting, means), tmp_path / "norm.h5", means)
    with refused("load both with the same padding (a saved network has zeros)"):
        vggnorm.verify(reflecting, vggnorm.load_network(tmp_path / "norm.h5"), photos, means)
    normalized = vggnorm.load_network(tmp_path / "norm.h5", padding="reflect")
    assert vggnorm.verify(reflecting, normalized, photos, means).passed


def lines_of(model: Any, photos: PhotoList, means: FilterMeans) -> list[str]:
    """Normalize and verify, and give the lines of the report."""
    normalized = vggnorm.normalize(model, means)
    return str(vggnorm.verify(model, normalized, photos, means)).splitlines()


def test_the_output_is_kept(make_chain: Chain, photos: PhotoList) -> None:
    model = make_chain((3, 4))
    means = measure(model, photos, **OPTIONS)
    assert said(lines_of(model, photos, means), "normalize --keep-output leaves it as it was")
    kept = lines_of(model, photos, vggnorm.keep_output(model, means))
    assert not said(kept, "normalize --keep-output leaves it as it was")


def for_white() -> Any:
    """A network of a filter that fires where a photo is white, and of one that always fires."""
    model = chain(conv(2, 1, name="conv"))
    kernel = np.zeros((1, 1, 3, 2), np.float32)
    kernel[..., 0] = 0.25
    model.get_layer("conv").set_weights([kernel, np.array([-127, 1], np.float32)])
    return model


def white_and_black(folder: Path, white: int, black: int) -> PhotoList:
    for number in range(white + black):
        colour = "white" if number < white else "black"
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (56, 40), colour).save(folder / f"{number}.png")
    return vggnorm.find_photos(folder).shuffled(0)


def test_a_filter_that_never_fires_is_measured_on_more_photos(tmp_path: Path) -> None:
    model = for_white()
    options: dict[str, Any] = {"preprocessing": "none"}
    black = white_and_black(tmp_path / "black", 0, 3)
    lines = lines_of(model, black, measure(model, black, **options))
    assert said(lines, "measure on more photos")
    more = white_and_black(tmp_path / "more", 3, 3)
    lines = lines_of(model, more, measure(model, more, **options))
    assert not said(lines, "measure on more photos")


def test_a_filter_that_barely_fires_is_measured_on_more_photos_or_left_smaller(
    tmp_path: Path,
) -> None:
    model = for_white()
    options: dict[str, Any] = {"preprocessing": "none"}
    few = white_and_black(tmp_path / "few", 1, 9)
    means = measure(model, few, **options)
    assert said(
        lines_of(model, few, means),
        "measure more photos, or leave such filters smaller than 1 with vggnorm normalize "
        "--max-scale",
    )
    more = white_and_black(tmp_path / "more", 10, 10)
    for photos, known in (more, measure(model, more, **options)), (few, means.with_max_scale(0.01)):
        assert not said(
            lines_of(model, photos, known),
            "measure more photos, or leave such filters smaller than 1 with vggnorm normalize "
            "--max-scale",
        )
