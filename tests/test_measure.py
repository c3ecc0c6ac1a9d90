"""The means over a folder, against the naive loop; which photos count; what is refused."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from photo_files import decode_file
from reference import filter_means, reference_layers

import vggnorm
from vggnorm.errors import NetworkError, PhotoError
from vggnorm.measure import compute_means, geometry_for
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry
from vggnorm.run.options import Compute, Labels, Until, Watch

MakeChain = Callable[..., Any]


@pytest.mark.parametrize(
    ("geometry", "batch_size"),
    [
        (Geometry(48), 4),
        (Geometry(33, "stretch", "nearest"), 32),
        (Geometry(40, "crop", "lanczos"), 1),
    ],
)
def test_means_agree_with_the_naive_loop(
    geometry: Geometry, batch_size: int, make_chain: MakeChain, photo_folder: Path
) -> None:
    model = make_chain((6, 5, 4, 3))
    means = compute_means(
        model,
        photo_folder,
        geometry=Geometry(geometry.size, fit=geometry.fit, interpolation=geometry.interpolation),
        compute=Compute(batch_size=batch_size),
    )
    photos = [decode_file(path, geometry) for path in photo_folder.iterdir()]
    assert means.image_count == len(photos) == 9
    for layer, expected in filter_means(photos, reference_layers(model)).items():
        np.testing.assert_allclose(means.mean[layer], expected, rtol=1e-5, atol=1e-6, err_msg=layer)


def test_the_spread_over_photos_is_that_of_single_photos(
    make_chain: MakeChain, photo_folder: Path
) -> None:
    model, geometry = make_chain(), Geometry(40)
    means = compute_means(model, photo_folder, geometry=Geometry(40), compute=Compute(batch_size=4))
    singles = [
        filter_means([decode_file(path, geometry)], reference_layers(model))
        for path in photo_folder.iterdir()
    ]
    for layer, values in means.std_error.items():
        per_photo = np.array([single[layer] for single in singles])
        np.testing.assert_allclose(values, per_photo.std(axis=0, ddof=1) / 3, rtol=1e-4, atol=1e-6)


def test_33_photos_count_33_times_whatever_the_batch_size(
    make_chain: MakeChain, tmp_path: Path
) -> None:
    # Every photo has a grey value of its own, so the mean shows how often each was counted.
    from PIL import Image

    for index in range(33):
        Image.new("RGB", (32, 32), (index * 7,) * 3).save(tmp_path / f"{index}.png")
    model = make_chain((2,))
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[1, 1, 0, 0] = 1  # the first channel is blue minus 103.939
    model.get_layer("conv1").set_weights([kernel, np.array([103.939, 1], np.float32)])
    for batch_size in (1, 7, 32, 64):
        means = compute_means(
            model, tmp_path, geometry=Geometry(32), compute=Compute(batch_size=batch_size)
        )
        assert means.image_count == 33
        np.testing.assert_allclose(
            means.mean["conv1"], [16 * 7, 1], rtol=1e-6
        )  # 0, 7, …, 224: the middle one


def test_the_photos_that_cannot_be_used_are_named(
    make_chain: MakeChain, photo_folder: Path, tmp_path: Path
) -> None:
    for path in photo_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no image")
    means = compute_means(make_chain(), tmp_path, geometry=Geometry(32))
    assert means.image_count == 9
    assert {photo.photo: photo.reason for photo in means.skipped} == {
        "empty.jpg": "is empty",
        "text.png": "is not an image, but text",
    }
    without = compute_means(make_chain(), photo_folder, geometry=Geometry(32))
    for layer in means.mean:
        np.testing.assert_allclose(means.mean[layer], without.mean[layer], rtol=1e-6)
    with pytest.raises(
        PhotoError,
        match=r"(empty\.jpg: is empty|text\.png: is not an image).*; without --strict it is left",
    ):
        compute_means(make_chain(), tmp_path, geometry=Geometry(32), until=Until(strict=True))


def test_a_folder_of_unusable_photos_is_an_error(make_chain: MakeChain, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(
        PhotoError, match=r"none of its 1 photos can be used; the first, empty\.jpg, is empty"
    ):
        compute_means(make_chain(), tmp_path, geometry=Geometry(32))


def test_a_limit_is_a_seeded_sample(make_chain: MakeChain, photo_folder: Path) -> None:
    def run(limit: int | None, seed: int) -> Any:
        return compute_means(
            make_chain(),
            find_photos(photo_folder).shuffled(seed),
            geometry=Geometry(32),
            until=Until(limit=limit),
        )

    assert run(4, 0).image_count == 4
    assert (
        run(4, 0).recipe.photos_sha256
        == run(4, 0).recipe.photos_sha256
        != run(4, 1).recipe.photos_sha256
    )
    np.testing.assert_array_equal(run(4, 0).mean["conv1"], run(4, 0).mean["conv1"])
    assert not np.allclose(run(4, 0).mean["conv1"], run(4, 1).mean["conv1"])
    np.testing.assert_allclose(run(None, 0).mean["conv1"], run(99, 1).mean["conv1"], rtol=1e-6)


def test_the_recipe_says_what_was_done(make_chain: MakeChain, photo_folder: Path) -> None:
    model = make_chain()
    recipe = compute_means(
        model,
        find_photos(photo_folder).shuffled(3),
        geometry=Geometry(32, fit="stretch", interpolation="nearest"),
        labels=Labels(weights="w.h5"),
    ).recipe
    assert recipe.geometry == Geometry(32, "stretch", "nearest")
    assert (recipe.network, recipe.weights, recipe.seed, recipe.pooling) == (
        "chain",
        "w.h5",
        3,
        "max",
    )
    assert recipe.photos == f"{photo_folder.parent.name}/{photo_folder.name}"
    assert (recipe.annotations, recipe.categories, recipe.limit) == ("", (), None)
    assert recipe.version == vggnorm.__version__
    names = find_photos(photo_folder).names
    taken = sum(int(hashlib.sha256(name.encode()).hexdigest(), 16) for name in names)
    assert recipe.taken_sha256 == f"{taken % 2**256:064x}"
    sizes = b"".join(
        f"{name}\0{(photo_folder / name).stat().st_size}\0".encode() for name in sorted(names)
    )
    assert (recipe.listed, recipe.listed_sha256) == (9, hashlib.sha256(sizes).hexdigest())
    assert (recipe.shard, recipe.tolerance, recipe.accuracy, recipe.batch_size) == (
        None,
        None,
        None,
        32,
    )


def test_photos_are_taken_in_the_order_that_they_were_given(
    make_chain: MakeChain, photo_folder: Path
) -> None:
    photos, model = find_photos(photo_folder).shuffled(5), make_chain()
    three = compute_means(model, photos, geometry=Geometry(32), until=Until(limit=3))
    taken = sum(int(hashlib.sha256(name.encode()).hexdigest(), 16) for name in photos.names[:3])
    assert three.recipe.taken_sha256 == f"{taken % 2**256:064x}"
    assert (three.recipe.seed, three.recipe.listed) == (5, 9)


def test_progress_is_told_after_each_batch(make_chain: MakeChain, photo_folder: Path) -> None:
    told: list[tuple[int, int, float | None]] = []
    means = compute_means(
        make_chain(),
        photo_folder,
        geometry=Geometry(32),
        compute=Compute(batch_size=4),
        watch=Watch(progress=lambda *said: told.append(said)),
    )
    assert [said[:2] for said in told] == [(0, 9), (4, 9), (8, 9), (9, 9)]
    assert told[0][2] is None
    assert told[-1][2] == means.uncertainty


@pytest.mark.parametrize(
    ("options", "batch_size", "shapes"),
    [
        ({}, 4, [4, 4, 1]),  # 9 photos
        ({}, 6, [6, 4]),
        ({}, 100_000, [16]),
        ({"precision": "bfloat16", "control": 2}, 4, [4, 2, 4, 1]),
    ],
    ids=str,
)
def test_a_batch_is_filled_up_to_a_size_that_depends_on_its_own_number_of_photos(
    options: dict[str, Any],
    batch_size: int,
    shapes: list[int],
    make_chain: MakeChain,
    photo_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    predict = keras.Model.predict_on_batch

    def look(measuring: keras.Model, pixels: Any) -> Any:
        seen.append(pixels.shape[0])
        return predict(measuring, pixels)

    monkeypatch.setattr(keras.Model, "predict_on_batch", look)
    monkeypatch.setattr("vggnorm.means.recipe.MAX_BATCH", 100_000)
    means = compute_means(
        make_chain(),
        photo_folder,
        geometry=Geometry(32),
        compute=Compute(batch_size=batch_size, **options),
    )
    assert means.image_count == 9
    assert seen == shapes


def test_damaged_weights_are_noticed(make_chain: MakeChain, photo_folder: Path) -> None:
    model = make_chain()
    kernel, bias = model.get_layer("conv2").get_weights()
    bias[0] = np.inf
    model.get_layer("conv2").set_weights([kernel, bias])
    with pytest.raises(
        NetworkError,
        match="layer conv2 has activations that are not finite; the weights are damaged",
    ):
        compute_means(model, photo_folder, geometry=Geometry(32))


def test_the_default_size_is_not_taken_for_another_one(make_chain: MakeChain) -> None:
    model = make_chain()
    assert geometry_for(model).size == 224
    assert geometry_for(model, 48, fit="stretch") == Geometry(48, "stretch")
    with pytest.raises(ValueError, match="size is 0; it must be at least 1"):
        geometry_for(model, 0)


def test_a_size_that_the_network_does_not_take_is_refused(photo_folder: Path) -> None:
    pixels = keras.Input((48, 48, 3))
    model = keras.Model(pixels, keras.layers.Conv2D(2, 3, activation="relu")(pixels), name="fixed")
    assert geometry_for(model).size == 48
    text = "fixed: takes photos of 48 x 48 pixels .height x width., not of 32"
    with pytest.raises(NetworkError, match=text):
        compute_means(model, photo_folder, geometry=Geometry(32))


def test_a_bug_keeps_its_traceback(
    make_chain: MakeChain, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("x")

    monkeypatch.setattr(keras.Model, "predict_on_batch", fail)
    with pytest.raises(RuntimeError, match="x"):
        compute_means(make_chain(), photo_folder, geometry=Geometry(32))
