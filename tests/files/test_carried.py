"""Means and conventions that travel with weights, in a file or beside it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from vgg_files import bits, first_layers, first_weights, gatys_layers, need_torch_for

from vggnorm.errors import MeansError
from vggnorm.files.formats import load_means, open_weights
from vggnorm.files.means_npy import save_means
from vggnorm.files.npz import write_npz
from vggnorm.files.safetensors import write_safetensors
from vggnorm.files.saving import save_weights
from vggnorm.means.filter_means import FilterMeans

ENDINGS = [".safetensors", ".npz", ".pth", ".mat", ".h5"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_means_travel_along(ending: str, some_means: FilterMeans, tmp_path: Path) -> None:
    need_torch_for(ending)
    path, again = tmp_path / f"vgg{ending}", tmp_path / f"again{ending}"
    save_weights(path, replace(first_weights(), means=some_means))
    with open_weights(path) as file:
        require_same_means(file.means, some_means)
        assert file.taken_as.source == "the file"
        save_weights(again, file)
    with open_weights(again) as file:
        require_same_means(file.means, some_means)
    beside = path.with_name(f"{path.name}.means.npy")
    assert beside.exists() == (ending in (".pth", ".npz", ".mat"))


def require_same_means(found: FilterMeans | None, wanted: FilterMeans) -> None:
    assert found is not None
    assert (found.recipe, found.image_count) == (wanted.recipe, wanted.image_count)
    assert found.skipped == wanted.skipped
    for layer, mean in wanted.mean.items():
        assert bits(found.mean[layer]) == bits(mean)
        assert bits(found.squared_deviation[layer]) == bits(wanted.squared_deviation[layer])


@pytest.mark.parametrize("convention", ["caffe", "rgb255", "torch"])
@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pth"])
def test_the_convention_travels_with_the_means(
    ending: str, convention: str, some_means: FilterMeans, tmp_path: Path
) -> None:
    need_torch_for(ending)
    path = tmp_path / f"vgg{ending}"
    save_weights(path, replace(first_weights(), means=some_means), convention=convention)
    with open_weights(path) as file:
        assert file.taken_as.convention == convention


def test_safetensors_tell_people_how_they_were_made(
    some_means: FilterMeans, tmp_path: Path
) -> None:
    path = tmp_path / "vgg.safetensors"
    save_weights(path, replace(first_weights(), means=some_means), layout="gatys")
    with safe_open(path, framework="numpy") as file:
        told = json.loads(file.metadata()["vggnorm"])
    assert (told["layout"], told["convention"], told["image_count"]) == ("gatys", "caffe", 3)
    assert told["recipe"]["network"] == "chain"


def test_without_means_nothing_is_told_of_them(tmp_path: Path) -> None:
    for ending in (".safetensors", ".npz"):
        path = tmp_path / f"vgg{ending}"
        save_weights(path, first_weights())
        with open_weights(path) as file:
            assert file.means is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vgg.npz", "vgg.safetensors"]


def test_means_of_another_file_are_refused(some_means: FilterMeans, tmp_path: Path) -> None:
    path = tmp_path / "vgg.npz"
    save_weights(path, replace(first_weights(), means=some_means))
    write_npz(path, first_layers(seed=1))
    reason = r"vgg\.npz\.means\.npy: holds the means of another file than vgg\.npz is now; remove"
    with pytest.raises(MeansError, match=reason), open_weights(path):
        pass
    path.with_name("vgg.npz.means.npy").unlink()  # as it says
    with open_weights(path) as file:
        assert file.means is None


def test_means_that_compute_means_wrote_are_not_taken_as_those_of_a_file(
    some_means: FilterMeans, tmp_path: Path
) -> None:
    save_weights(tmp_path / "vgg.npz", first_weights())
    save_means(some_means, tmp_path / "vgg.npz.means.npy")
    with open_weights(tmp_path / "vgg.npz") as file:
        assert file.means is None
    save_weights(tmp_path / "vgg.npz", first_weights(seed=1), force=True)
    assert load_means(tmp_path / "vgg.npz.means.npy").image_count == some_means.image_count


def test_damaged_metadata_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vgg.safetensors"
    other_pooling = '{"convention": "caffe", "pooling": "min"}'
    for told in ("", "[]", "{}", '{"convention": "bgr"}', other_pooling, "[" * 100_000):
        write_safetensors(path, gatys_layers(), {"vggnorm": told})
        with pytest.raises(MeansError, match="what it says of its making"), open_weights(path):
            pass
    told = '{"convention": "caffe"}'
    for means in ("!", "AAAA"):
        write_safetensors(path, gatys_layers(), {"vggnorm": told, "vggnorm.means": means})
        with (
            pytest.raises(MeansError, match=r"^[^\n]*vgg\.safetensors: [^\n]*$"),
            open_weights(path),
        ):
            pass
