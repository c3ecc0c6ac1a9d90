"""The advice about means, followed: measuring, adding up parts, and normalizing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from advice_texts import refused
from keras import layers
from measuring import measure
from vgg_files import first_layers
from zoo import chain, conv, settle

import vggnorm
from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.photo_list import PhotoList

Chain = Callable[..., Any]


@pytest.fixture
def photos(photo_folder: Path) -> PhotoList:
    """Nine photos in random order."""
    return vggnorm.find_photos(photo_folder).shuffled(0)


def of_part(model: Any, photos: PhotoList, number: int, count: int, **options: Any) -> FilterMeans:
    return measure(model, photos, shard=(number, count), **OPTIONS, **options)


OPTIONS: dict[str, Any] = {"size": 16, "batch_size": 1, "preprocessing": "caffe"}


def spread(means: FilterMeans) -> list[float]:
    return [float(value) for values in means.mean.values() for value in values]


# Adding up


def test_parts_are_given_once_and_all(make_chain: Chain, photos: PhotoList) -> None:
    model = make_chain((3,))
    one, two = (of_part(model, photos, number, 2) for number in (1, 2))
    with refused("give each part once"):
        vggnorm.merge_means({"a": one, "b": one})
    with refused("measure them, or give their files"):
        vggnorm.merge_means({"a": one})
    assert vggnorm.merge_means({"a": one, "b": two}).image_count == 9


def test_means_of_all_photos_need_no_merging(make_chain: Chain, photos: PhotoList) -> None:
    model = make_chain((3,))
    means = measure(model, photos, **OPTIONS)
    with refused("it needs no merging"):
        vggnorm.merge_means({"a": means})
    vggnorm.normalize(model, means)


def test_a_part_that_is_not_finished_is_run_again(
    make_chain: Chain, photos: PhotoList, tmp_path: Path
) -> None:
    model = make_chain((3,))
    two = of_part(model, photos, 2, 2)
    checkpoint, calls = tmp_path / "checkpoint", iter(range(100))
    with pytest.raises(vggnorm.StoppedError):
        of_part(model, photos, 1, 2, checkpoint=checkpoint, stop=lambda: next(calls) > 1)
    with refused("run its command again"):
        vggnorm.merge_means({"a": vggnorm.load_means(checkpoint), "b": two})
    again = of_part(model, photos, 1, 2, checkpoint=checkpoint)
    assert vggnorm.merge_means({"a": again, "b": two}).image_count == 9


def test_parts_are_measured_alike(make_chain: Chain, photos: PhotoList) -> None:
    model = make_chain((3,))
    one = of_part(model, photos, 1, 2)
    other = measure(model, photos, shard=(2, 2), **{**OPTIONS, "size": 20})
    with refused("measure all parts alike"):
        vggnorm.merge_means({"a": one, "b": other})
    vggnorm.merge_means({"a": one, "b": of_part(model, photos, 2, 2)})


def test_parts_of_one_division_are_given(make_chain: Chain, photos: PhotoList) -> None:
    model = make_chain((3,))
    half, third = of_part(model, photos, 1, 2), of_part(model, photos, 2, 3)
    with refused("they overlap"):
        vggnorm.merge_means({"a": half, "b": third})
    vggnorm.merge_means({"a": half, "b": of_part(model, photos, 2, 2)})


def test_a_part_is_added_up_with_the_others_before_it_is_used(
    make_chain: Chain, photos: PhotoList
) -> None:
    model = make_chain((3,))
    one, two = (of_part(model, photos, number, 2) for number in (1, 2))
    with refused("add up all parts with merge-means first"):
        vggnorm.normalize(model, one)
    vggnorm.normalize(model, vggnorm.merge_means({"a": one, "b": two}))


def test_parts_of_an_old_version_are_measured_again(make_chain: Chain, photos: PhotoList) -> None:
    model = make_chain((3,))
    one, two = (of_part(model, photos, number, 2) for number in (1, 2))
    old = replace(one, recipe=replace(one.recipe, batches_per_block=None))
    with refused("measure all parts again"):
        vggnorm.merge_means({"a": old, "b": two})
    assert vggnorm.merge_means({"a": one, "b": two}).image_count == 9


# Normalizing


def test_means_go_with_the_network_that_was_measured(make_chain: Chain, photos: PhotoList) -> None:
    model, other = make_chain((3,)), make_chain((3,), seed=1)
    means = measure(model, photos, **OPTIONS)
    with refused("give the same --weights, or measure these"):
        vggnorm.normalize(other, means)
    vggnorm.normalize(model, means)
    vggnorm.normalize(other, measure(other, photos, **OPTIONS))


def test_means_of_other_layers_are_measured_anew(make_chain: Chain, photos: PhotoList) -> None:
    means, other = measure(make_chain((3,)), photos, **OPTIONS), make_chain((4,))
    with refused("measure this network with compute-means"):
        vggnorm.normalize(other, means)
    vggnorm.normalize(other, measure(other, photos, **OPTIONS))


def test_pooling_and_padding_are_those_of_the_means(chain_file: Path, photos: PhotoList) -> None:
    model = vggnorm.load_network(chain_file)
    means = measure(model, photos, **OPTIONS)
    averaging = vggnorm.load_network(chain_file, pooling="avg")
    with refused("give the same --pooling, or measure this one"):
        vggnorm.normalize(averaging, means)
    reflecting = vggnorm.load_network(chain_file, padding="reflect")
    with refused("load it with the same padding, or measure this one"):
        vggnorm.normalize(reflecting, means)
    vggnorm.normalize(model, means)
    for other in averaging, reflecting:
        vggnorm.normalize(other, measure(other, photos, **OPTIONS))


def test_means_of_a_network_with_another_slope(photos: PhotoList) -> None:
    def leaky(slope: float) -> Any:
        named = conv(3, activation=None, name="conv")
        return settle(chain(named, layers.LeakyReLU(slope, name="leak")))

    model = leaky(0.2)
    means = measure(model, photos, batch_size=1, preprocessing="caffe")
    other = leaky(0.1)
    with refused("give that network, or measure this one"):
        vggnorm.normalize(other, means)
    vggnorm.normalize(model, means)
    vggnorm.normalize(other, measure(other, photos, batch_size=1, preprocessing="caffe"))


def test_implausible_means_are_measured_again(make_chain: Chain, photos: PhotoList) -> None:
    model = make_chain((3, 3))
    means = measure(model, photos, **OPTIONS)
    tiny = {layer: np.full_like(values, 1e-45) for layer, values in means.mean.items()}
    measured = replace(means.measured, mean=tiny)
    with refused("its means are not plausible"):
        vggnorm.normalize(model, replace(means, measured=measured))
    vggnorm.normalize(model, means)


def test_more_photos_are_run_in_float32(make_chain: Chain, mixed_folder: Path) -> None:
    """Two of the eleven photos are empty; they stand first in the order of this seed."""
    model = make_chain((3,))
    photos = vggnorm.find_photos(mixed_folder)
    seed = next(
        seed
        for seed in range(1000)
        if {Path(name).name for name in photos.shuffled(seed).names[:2]} == {"a.jpg", "b.jpg"}
    )
    options = {**OPTIONS, "precision": "bfloat16", "seed": seed}
    with refused("give a larger --control"):
        measure(model, photos, control=2, **options)
    assert measure(model, photos, control=5, **options).image_count == 9


def test_a_bound_is_positive(make_chain: Chain, photos: PhotoList) -> None:
    model = make_chain((3,))
    means = measure(model, photos, **OPTIONS)
    with refused("it must be a positive number"):
        means.with_max_scale(0)
    vggnorm.normalize(model, means.with_max_scale(2))


def test_an_output_is_kept_where_something_else_is_normalized(
    make_chain: Chain, photos: PhotoList
) -> None:
    alone, model = make_chain((3,)), make_chain((3, 4))
    means = measure(alone, photos, **OPTIONS)
    with refused("normalize it with its output"):
        vggnorm.keep_output(alone, means)
    vggnorm.normalize(alone, means)
    means = measure(model, photos, **OPTIONS)
    recipe = replace(means.recipe, keep_output=True, output_layers=("conv1",))
    with refused("use vggnorm.keep_output with this network"):
        vggnorm.normalize(model, replace(means, recipe=recipe))
    vggnorm.normalize(model, vggnorm.keep_output(model, means))


# Files of means


def test_a_file_of_means_is_measured_again(
    make_chain: Chain, photos: PhotoList, tmp_path: Path
) -> None:
    means = measure(make_chain((3,)), photos, **OPTIONS)
    path = tmp_path / "means.npy"
    np.save(path, np.zeros(3))
    with refused("give a file that compute-means wrote"):
        vggnorm.load_means(path)
    vggnorm.save_means(means, path, force=True)
    record = np.load(path)
    record["image_count"] = 0
    np.save(path, record)
    with refused("measure again with compute-means"):
        vggnorm.load_means(path)
    vggnorm.save_means(means, path, force=True)
    assert spread(vggnorm.load_means(path)) == spread(means)


def test_pickled_weights_are_saved_as_arrays(tmp_path: Path) -> None:
    path = tmp_path / "weights.npy"
    np.save(path, np.array(first_layers(), dtype=object))
    with refused("if they are weights, save them as arrays with numpy.savez"):
        vggnorm.load_means(path)
    arrays = np.load(path, allow_pickle=True).item()
    np.savez(tmp_path / "weights.npz", **arrays)
    with vggnorm.open_weights(tmp_path / "weights.npz") as file:
        assert file.vgg.network


def test_means_are_read_from_a_file_that_has_them(
    make_chain: Chain, photos: PhotoList, tmp_path: Path
) -> None:
    model = make_chain((3,))
    means = measure(model, photos, **OPTIONS)
    vggnorm.save_network(model, tmp_path / "chain.h5")
    with refused("give a file that vggnorm compute-means or normalize wrote"):
        vggnorm.load_means(tmp_path / "chain.h5")
    normalized = vggnorm.normalize(model, means)
    vggnorm.save_network(normalized, tmp_path / "chain_norm.h5", means)
    vggnorm.load_means(tmp_path / "chain_norm.h5")
