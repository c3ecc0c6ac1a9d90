"""The commands, from end to end on a VGG16 with random weights, and every way in which they can be used wrongly."""

import inspect
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import vggnorm
from vggnorm import images, network
from vggnorm.cli import main
from vggnorm.h5file import read_means
from vggnorm.means import load_means

COMMANDS: dict[str, click.Command] = main.commands


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def failed(result: Result) -> str:
    """Give the one line on stderr of a run that the user can mend."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    *found, line = result.stderr.splitlines()
    assert all(" photos in " in told for told in found)  # which folders the photos are in is said before
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Default outputs go to the current folder; nothing but whole results may be in it in the end."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield
    assert {path.name for path in Path().iterdir()} <= {"means.npy", "vgg16_norm.h5"}


@pytest.fixture(scope="module")
def made(random_vgg16: Path, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with means.npy and vgg16_norm.h5, made by the commands."""
    folder = tmp_path_factory.mktemp("made")
    measured = run(
        "compute-means", "--data", photo_folder, "--weights", random_vgg16, "--size", "48", "-o", folder / "means.npy"
    )
    assert measured.exit_code == 0, measured.output
    normalized = run(
        "normalize", "--means", folder / "means.npy", "--weights", random_vgg16, "-o", folder / "vgg16_norm.h5"
    )
    assert normalized.exit_code == 0, normalized.output
    return folder


# What the commands do


def test_compute_means_saves_and_sums_up(photo_folder: Path, random_vgg16: Path) -> None:
    result = run("compute-means", "--data", photo_folder, "--weights", random_vgg16, "--size", "32", "--limit", "5")
    assert result.exit_code == 0
    means = load_means("means.npy")
    assert means.image_count == 5
    assert means.recipe.weights == "random_vgg16.h5"
    assert re.search(r"photos +5 used, 0 skipped", result.stdout)
    assert re.search(r"geometry +32 x 32, crop, bilinear", result.stdout)
    row = re.search(r"^block1_conv1 +64 +(\S+) +(\S+) +(\S+) +(\S+)% +(\d+)$", result.stdout, re.MULTILINE)
    assert row is not None
    values = means.mean["block1_conv1"]
    assert [float(cell) for cell in row.groups()[:3]] == pytest.approx(
        [values.min(), np.median(values), values.max()], abs=5e-4
    )
    assert float(row[4]) == pytest.approx(100 * np.median(means.std_error["block1_conv1"] / values), abs=0.05)
    assert "5/5 photos" in result.stderr


def test_every_option_of_compute_means_reaches_the_recipe(photo_folder: Path, random_vgg16: Path) -> None:
    options = {"--size": "40", "--fit": "stretch", "--interpolation": "nearest", "--seed": "7", "--batch-size": "2"}
    arguments = [word for option in options.items() for word in option]
    result = run("compute-means", "--data", photo_folder, "--weights", random_vgg16, *arguments, "-o", "means.npy")
    assert result.exit_code == 0
    recipe = load_means("means.npy").recipe
    assert (recipe.size, recipe.fit, recipe.interpolation, recipe.seed) == (40, "stretch", "nearest", 7)


def test_the_batch_size_reaches_the_network(
    photo_folder: Path, random_vgg16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    batches = images.PhotoReader.batches

    def spy(self: images.PhotoReader, batch_size: int, after: images.Taken) -> Any:
        asked.append(batch_size)
        return batches(self, batch_size, after)

    monkeypatch.setattr(images.PhotoReader, "batches", spy)
    run("compute-means", "--data", photo_folder, "--weights", random_vgg16, "--size", "32", "--batch-size", "5")
    assert asked == [5]


def test_annotations_and_categories_choose_photos(photo_folder: Path, random_vgg16: Path, tmp_path: Path) -> None:
    listed = [{"id": index, "file_name": f"{index}.jpg"} for index in (1, 2, 3, 77)]
    shown = [{"id": 1, "image_id": 1, "category_id": 5}, {"id": 2, "image_id": 3, "category_id": 6}]
    categories = [{"id": 5, "name": "person"}, {"id": 6, "name": "dog"}, {"id": 7, "name": "cat"}]
    annotations = tmp_path / "instances.json"
    annotations.write_text(json.dumps({"images": listed, "annotations": shown, "categories": categories}))
    common = "compute-means", "--data", photo_folder, "--weights", random_vgg16, "--size", "32"
    result = run(*common, "--annotations", annotations)
    assert result.exit_code == 0
    assert load_means("means.npy").image_count == 3
    assert f"1 photo listed in {annotations} is not in {photo_folder}" in result.stderr
    assert ", listed in instances.json" in result.stdout
    result = run(*common, "--annotations", annotations, "--category", "person", "--category", "dog", "--force")
    assert result.exit_code == 0
    means = load_means("means.npy")
    assert means.image_count == 2
    assert (means.recipe.annotations, means.recipe.categories) == ("instances.json", ("person", "dog"))
    assert ", listed in instances.json, showing person or dog" in result.stdout
    chosen = "--annotations", annotations, "--category", "person", "--category", "dog", "--weights", random_vgg16
    assert run("normalize", "--means", "means.npy", "--weights", random_vgg16).exit_code == 0
    result = run("verify", "vgg16_norm.h5", "--data", photo_folder, *chosen)
    assert "on the photos measured" in result.stdout, result.output
    text = failed(run(*common, "--annotations", annotations, "--category", "persn", "--force"))
    assert "has no category 'persn'; did you mean person?" in text
    assert load_means("means.npy").image_count == 2


def test_normalize_says_what_it_did(made: Path, random_vgg16: Path) -> None:
    result = run("normalize", "--means", made / "means.npy", "--weights", random_vgg16)
    assert result.exit_code == 0
    assert result.stdout == (
        "vgg16, 4224 filters in 13 layers, normalized with means over 9 photos, saved as vgg16_norm.h5\n"
    )
    assert read_means(Path("vgg16_norm.h5")).image_count == 9


def test_verify_passes_and_fails(made: Path, random_vgg16: Path, photo_folder: Path, tmp_path: Path) -> None:
    common = "--data", photo_folder, "--weights", random_vgg16
    result = run("verify", made / "vgg16_norm.h5", *common)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("pass  ") == 3
    result = run("verify", made / "vgg16_norm.h5", *common, "--json", "--limit", "3")
    assert json.loads(result.stdout)["photos"] == 3

    import h5py

    broken = tmp_path / "broken.h5"
    shutil.copy(made / "vgg16_norm.h5", broken)
    with h5py.File(broken, "r+") as file:
        file["model_weights/block3_conv2/block3_conv2/bias:0"][...] *= 1.1
    result = run("verify", broken, *common)
    assert result.exit_code == 1
    assert result.stdout.count("FAIL  ") == 2


def test_inspect_tells_the_same_of_both_files(made: Path) -> None:
    of_means, of_network = run("inspect", made / "means.npy"), run("inspect", made / "vgg16_norm.h5")
    assert of_means.exit_code == of_network.exit_code == 0
    assert of_means.stdout.startswith(f"{made / 'means.npy'}: means\nmeasured by vggnorm {vggnorm.__version__}\n")
    assert of_network.stdout.startswith(f"{made / 'vgg16_norm.h5'}: a network normalized with the means below\n")
    assert of_means.stdout.splitlines()[1:] == of_network.stdout.splitlines()[1:]
    assert "9 used, 0 skipped" in of_means.stdout


def test_inspect_gives_all_of_it_as_json(made: Path) -> None:
    read = json.loads(run("inspect", made / "means.npy", "--json").stdout)
    means = load_means(made / "means.npy")
    assert read["image_count"] == 9
    assert read["recipe"] == json.loads(json.dumps(means.recipe.to_dict()))
    for layer, values in means.mean.items():
        assert read["layers"][layer]["means"] == values.tolist()
        assert read["layers"][layer]["std_errors"] == means.std_error[layer].tolist()
    everything = np.concatenate(list(means.mean.values()))
    assert read["all_layers"]["standard_deviation"] == pytest.approx(everything.std())


def test_inspect_compares_with_the_original(made: Path, random_vgg16: Path, photo_folder: Path) -> None:
    common = "inspect", made / "vgg16_norm.h5", "--original", random_vgg16
    own = run(*common)
    assert own.exit_code == 0, own.output
    assert own.stdout.startswith(
        f"{made / 'vgg16_norm.h5'}: It is normalized, exactly by the means that the file has (9 photos).\n"
    )
    given = json.loads(run(*common, "--means", made / "means.npy", "--json").stdout)
    assert (given["kind"], given["intact"], given["means"]["source"]) == (
        "normalized",
        True,
        "the means given (9 photos)",
    )
    measured = run(*common, "--data", photo_folder, "--limit", "3")  # of another size: other means
    assert measured.exit_code == 0, measured.output
    assert "by means that were measured on other photos, or photos cut in another way" in measured.stdout
    assert "(3 photos)" in measured.stdout
    assert "It is the original" in run("inspect", random_vgg16, "--original", random_vgg16).stdout


def test_inspect_needs_the_original_to_compare(made: Path, random_vgg16: Path, tmp_path: Path) -> None:
    file = made / "vgg16_norm.h5"
    for arguments, text in (
        (("--data", tmp_path), "--data and --means need --original"),
        (("--means", made / "means.npy"), "--data and --means need --original"),
        (("--original", random_vgg16, "--data", tmp_path, "--means", file), "give --data or --means, and not both"),
    ):
        result = run("inspect", file, *arguments)
        assert (result.exit_code, text in result.stderr) == (2, True)
    assert "there is no such file" in failed(run("inspect", file, "--original", tmp_path / "missing.keras"))
    assert "cannot be read" in failed(run("inspect", file, "--original", tmp_path / "missing.h5"))
    assert "is no HDF5 file" in failed(run("inspect", made / "means.npy", "--original", random_vgg16))


def test_inspect_measures_no_model_file_of_unknown_preprocessing(
    make_chain: Callable[..., Any], photo_folder: Path, tmp_path: Path
) -> None:
    make_chain().save(tmp_path / "chain.keras")
    original = tmp_path / "chain.keras"
    text = failed(run("inspect", original, "--original", original, "--data", photo_folder))
    assert "does not say what it takes photos as; measure it with compute-means, and give --means" in text


def test_one_photo_has_silent_filters_and_no_standard_error(
    make_chain: Callable[..., Any], photo_folder: Path, tmp_path: Path
) -> None:
    model = make_chain((4, 4))
    kernel, bias = model.get_layer("conv2").get_weights()
    model.get_layer("conv2").set_weights([kernel, np.array([-1e6, *bias[1:3], -1e6])])
    means = vggnorm.compute_means(model, photo_folder, size=32, limit=1)
    vggnorm.save_means(means, tmp_path / "one.npy")
    silent = 2
    result = run("inspect", tmp_path / "one.npy")
    assert f"{silent} filters never fired and keep their scale; measure on more photos" in result.stdout
    read = json.loads(run("inspect", tmp_path / "one.npy", "--json").stdout)
    assert read["all_layers"]["relative_std_error"] is None
    assert sum(len(layer["silent"]) for layer in read["layers"].values()) == silent


def test_many_skipped_photos_are_counted_and_a_few_named(
    photo_folder: Path, make_chain: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photo_folder, folder)
    for index in range(8):
        (folder / f"bad{index}.jpg").touch()
    vggnorm.save_means(vggnorm.compute_means(make_chain(), folder, size=32), tmp_path / "means.npy")
    text = run("inspect", tmp_path / "means.npy").stdout
    assert "9 used, 8 skipped" in text
    assert text.count("is empty") == 5
    assert "… and 3 more" in text
    assert len(json.loads(run("inspect", tmp_path / "means.npy", "--json").stdout)["skipped"]) == 8


def test_the_dense_layers_undo_the_last_scale(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    def small_vgg16(weights: None, include_top: bool) -> Any:
        return keras.applications.VGG16(
            weights=weights, include_top=include_top, input_shape=(32, 64, 3) if include_top else None, classes=6
        )

    monkeypatch.setitem(network.APPLICATIONS, "vgg16", small_vgg16)
    from zoo import settle

    original = settle(small_vgg16(None, include_top=True))
    original.save(tmp_path / "top.h5")
    weights = "--weights", tmp_path / "top.h5"
    result = run("compute-means", "--data", photo_folder, *weights, "--include-top")
    assert result.exit_code == 0, result.output
    assert "network   vgg16 with its top, max pooling, caffe preprocessing" in result.stdout
    assert "geometry  32 x 64" in result.stdout
    assert "fc1 is not normalized: it is a dense layer" in result.stdout
    assert run("normalize", "--means", "means.npy", *weights).exit_code == 0
    report = json.loads(run("verify", "vgg16_norm.h5", "--data", photo_folder, *weights, "--json").stdout)
    assert report["activations"]["relative"]["output 0 (predictions)"] <= 1e-5
    assert (report["means"]["passed"], report["activations"]["passed"]) == (True, True)
    photo = np.random.default_rng(0).uniform(-120, 120, (1, 32, 64, 3)).astype(np.float32)
    scores = np.asarray(keras.models.load_model("vgg16_norm.h5")(photo))
    np.testing.assert_allclose(scores, np.asarray(original(photo)), atol=1e-6)


def test_the_pooling_asked_for_is_measured_saved_and_required(photo_folder: Path, random_vgg16: Path) -> None:
    import keras

    weights = "--weights", random_vgg16
    result = run("compute-means", "--data", photo_folder, *weights, "--size", "48", "--pooling", "avg")
    assert result.exit_code == 0
    assert "network   vgg16, avg pooling" in result.stdout
    text = failed(run("normalize", "--means", "means.npy", *weights, "--pooling", "max"))
    assert text.startswith("the means were measured with avg pooling, and this network has max pooling; give the same")
    assert run("normalize", "--means", "means.npy", *weights, "--network", "vgg16").exit_code == 0
    pool = keras.models.load_model("vgg16_norm.h5").get_layer("block3_pool")
    assert isinstance(pool, keras.layers.AveragePooling2D)
    assert run("verify", "vgg16_norm.h5", "--data", photo_folder, *weights).exit_code == 0


# Bad input: one line, status 1, nothing written


@pytest.fixture
def compute(photo_folder: Path, random_vgg16: Path) -> Callable[..., Result]:
    def call(*arguments: str | Path, data: Path = photo_folder, weights: str | Path = random_vgg16) -> Result:
        return run("compute-means", "--data", data, "--weights", weights, "--size", "32", *arguments)

    return call


def test_a_missing_folder(compute: Callable[..., Result]) -> None:
    assert failed(compute(data=Path("absent"))) == "absent: is no folder; give a folder of photos"


def test_a_folder_without_images(compute: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty: holds no images (.bmp .gif" in failed(compute(data=tmp_path / "empty"))
    (tmp_path / "empty" / "readme.txt").write_text("no photo")
    assert "empty: holds no images" in failed(compute(data=tmp_path / "empty"))


@pytest.fixture
def spoilt(photo_folder: Path, tmp_path: Path) -> Path:
    """Two good photos, and an unreadable, a truncated, an empty, a huge and a misnamed file."""
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for name in "0.jpg", "1.jpg":
        shutil.copy(photo_folder / name, folder)
    (folder / "unreadable.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "truncated.jpg").write_bytes((photo_folder / "2.jpg").read_bytes()[:1000])
    (folder / "empty.jpg").touch()
    Image.new("1", (20_000, 10_000)).save(folder / "huge.png")
    (folder / "misnamed.jpg").write_text("not a photo at all")
    return folder


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_photos_that_cannot_be_used(compute: Callable[..., Result], spoilt: Path) -> None:
    result = compute(data=spoilt)
    assert result.exit_code == 0
    assert "2 used, 5 skipped" in result.stdout
    reasons = {photo.photo: photo.reason for photo in load_means("means.npy").skipped}
    assert set(reasons) == {"unreadable.png", "truncated.jpg", "empty.jpg", "huge.png", "misnamed.jpg"}
    for name, reason in reasons.items():
        assert f"{name}: {reason}" in result.stdout
    assert "truncated" in reasons["truncated.jpg"]
    assert reasons["empty.jpg"] == "is empty"
    assert reasons["huge.png"].startswith("is too large")
    assert reasons["misnamed.jpg"] == "is no image, or a damaged one"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_strict_makes_them_an_error(compute: Callable[..., Result], spoilt: Path) -> None:
    result = compute("--strict", data=spoilt)
    assert result.exit_code == 1
    assert re.search(r"Error: .*\.(png|jpg): .*; without --strict it is left out", result.stderr)
    assert not Path("means.npy").exists()


def test_no_photo_can_be_used(compute: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").touch()
    result = compute(data=tmp_path / "bad")
    assert result.exit_code == 1
    assert "none of its 1 photos can be used; the first, a.jpg, is empty" in result.stderr.splitlines()[-1]


def test_categories_need_annotations(compute: Callable[..., Result]) -> None:
    assert "give that with --annotations" in failed(compute("--category", "dog"))


@pytest.mark.parametrize("command", ["compute-means", "normalize"])
def test_an_existing_output_is_refused_before_any_work(
    command: str, made: Path, compute: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: object, **__: object) -> None:
        pytest.fail("work was done first")

    output = Path("means.npy" if command == "compute-means" else "vgg16_norm.h5")
    output.write_text("precious")
    monkeypatch.setattr(images, "find_photos", no_work)
    monkeypatch.setattr(network, "load_network", no_work)
    result = compute() if command == "compute-means" else run("normalize", "--means", made / "means.npy")
    assert failed(result) == f"{output}: exists already; give another name, or --force to replace it"
    assert output.read_text() == "precious"


def test_a_missing_output_folder(compute: Callable[..., Result]) -> None:
    assert "the folder absent does not exist; make it first" in failed(compute("-o", "absent/means.npy"))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write into")
def test_an_output_folder_that_cannot_be_written(compute: Callable[..., Result], made: Path) -> None:
    assert "/proc/m.npy: cannot write into /proc" in failed(compute("-o", "/proc/m.npy"))
    assert "cannot write into /proc" in failed(run("normalize", "--means", made / "means.npy", "-o", "/proc/n.h5"))


def test_an_output_name_that_keras_would_not_load(made: Path) -> None:
    text = failed(run("normalize", "--means", made / "means.npy", "-o", "norm.weights.h5"))
    assert "give a name that ends in .h5 and not in .weights.h5" in text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is no .npy file"),
        (b"some text", "is no .npy file"),
        (pickle.dumps([1, 2, 3]), "is no .npy file"),
    ],
)
def test_means_that_are_none(content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.npy").write_bytes(content)
    assert text in failed(run("normalize", "--means", tmp_path / "bad.npy"))
    assert text in failed(run("inspect", tmp_path / "bad.npy"))


def test_means_that_hold_pickles(tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "pickled objects, which are never loaded" in failed(run("normalize", "--means", tmp_path / "bad.npy"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.nan, "bad.npy: not usable as means: the mean of block2_conv1 is not finite at filter 7 (nan)"),
        (np.inf, "bad.npy: not usable as means: the mean of block2_conv1 is not finite at filter 7 (inf)"),
        (-1.0, "the means are not possible: the mean of block2_conv1 is negative at filter 7 (-1.0)"),
    ],
)
def test_means_with_impossible_numbers(value: float, text: str, made: Path, random_vgg16: Path, tmp_path: Path) -> None:
    record = np.load(made / "means.npy")
    place = 64 + 64 + 7  # behind block1_conv1 and block1_conv2
    record["mean"][place] = record["measured"][place] = value
    np.save(tmp_path / "bad.npy", record)
    assert text in failed(run("normalize", "--means", tmp_path / "bad.npy", "--weights", random_vgg16))


def test_means_of_other_layers(
    random_vgg16: Path, make_chain: Callable[..., Any], photo_folder: Path, tmp_path: Path
) -> None:
    means = vggnorm.compute_means(make_chain(name="vgg16"), photo_folder, size=32)
    vggnorm.save_means(means, tmp_path / "chain.npy")
    line = failed(run("normalize", "--means", tmp_path / "chain.npy", "--weights", random_vgg16))
    assert line.startswith("the means do not fit vgg16: layer block1_conv1 has no filters in the means and 64 filters")


def test_means_of_a_network_that_is_not_known(
    make_chain: Callable[..., Any], photo_folder: Path, tmp_path: Path
) -> None:
    vggnorm.save_means(vggnorm.compute_means(make_chain(), photo_folder, size=32), tmp_path / "chain.npy")
    line = failed(run("normalize", "--means", tmp_path / "chain.npy"))
    assert line == "the means were measured on chain; give that model's file with --network"


def test_means_of_other_weights(made: Path, tmp_path: Path) -> None:
    import keras

    keras.applications.VGG16(weights=None, include_top=False).save(tmp_path / "other.h5")
    line = failed(run("normalize", "--means", made / "means.npy", "--weights", tmp_path / "other.h5"))
    assert line.startswith("the means were measured on other weights: on those of SHA-256 ")
    assert "(random_vgg16.h5)" in line


def test_weights_of_another_architecture(
    compute: Callable[..., Result], make_chain: Callable[..., Any], tmp_path: Path
) -> None:
    make_chain().save(tmp_path / "chain.h5")
    assert "chain.h5: holds no weights of vgg16: layer block1_conv1 has" in failed(
        compute(weights=tmp_path / "chain.h5")
    )


def test_missing_weights(compute: Callable[..., Result]) -> None:
    assert failed(compute(weights="absent.h5")).startswith("absent.h5: there is no such file")


def test_unreachable_weights(compute: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise Exception("URL fetch failure on https://host/vgg16.h5: None -- Name or service not known")  # noqa: TRY002

    monkeypatch.setitem(network.APPLICATIONS, "vgg16", fail)
    assert "python scripts/fetch_weights.py -o vgg16_imagenet.h5" in failed(compute(weights="imagenet"))


def test_verify_of_a_file_made_elsewhere(random_vgg16: Path, photo_folder: Path) -> None:
    line = failed(run("verify", random_vgg16, "--data", photo_folder))
    assert "random_vgg16.h5: does not say how it was made" in line


def test_verify_against_another_original(made: Path, photo_folder: Path, tmp_path: Path) -> None:
    import keras

    keras.applications.VGG16(weights=None, include_top=False).save(tmp_path / "other.h5")
    result = run("verify", made / "vgg16_norm.h5", "--data", photo_folder, "--weights", tmp_path / "other.h5")
    assert "the means were measured on other weights" in failed(result)


def test_a_damaged_photo_of_verify_is_skipped(made: Path, random_vgg16: Path, spoilt: Path) -> None:
    (spoilt / "huge.png").unlink()
    result = run("verify", made / "vgg16_norm.h5", "--data", spoilt, "--weights", random_vgg16)
    assert "2 photos, 4 skipped" in result.stdout


@pytest.mark.parametrize("option", ["--size", "--limit", "--batch-size"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_numbers_out_of_range_are_usage_errors(option: str, value: str, compute: Callable[..., Result]) -> None:
    result = compute(option, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr


def test_a_bug_keeps_its_traceback(compute: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(images, "find_photos", bug)
    assert isinstance(compute().exception, ZeroDivisionError)


@pytest.mark.parametrize("name", ["photos/é", "photos/\udce9"])
def test_names_that_the_output_cannot_encode(name: str, photo_folder: Path, random_vgg16: Path, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    shutil.copy(photo_folder / "0.jpg", folder)
    (folder / "b\udcff.jpg").touch()
    program = "from vggnorm.cli import main; main(prog_name='vggnorm')"
    arguments = ["compute-means", "--data", folder, "--weights", random_vgg16, "--size", "32"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
    )
    assert done.returncode == 0, done.stderr
    assert b"1 used, 1 skipped" in done.stdout


# In a process of its own


def start(*arguments: str | Path, limit: int | None = None) -> subprocess.Popen[str]:
    """Start the program, with a limit on the size of the files that it may write."""
    program = "import vggnorm.progress; vggnorm.progress.SECONDS_BETWEEN_LINES = 0.1\n"
    program += "from vggnorm.cli import main; main(prog_name='vggnorm')"
    if limit is not None:
        program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n{program}"
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_a_full_disk_while_saving(made: Path, photo_folder: Path, random_vgg16: Path) -> None:
    Path("vgg16_norm.h5").write_text("precious")
    means, weights = ("--means", made / "means.npy"), ("--weights", random_vgg16)
    process = start("normalize", *means, *weights, "--force", limit=1_000_000)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert stderr == "Error: vgg16_norm.h5: could not be written: File too large\n"
    assert Path("vgg16_norm.h5").read_text() == "precious"
    process = start("compute-means", "--data", photo_folder, *weights, "--size", "32", limit=20_000)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert stderr.splitlines()[-1] == "Error: means.npy: could not be written: File too large"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compute-means", "--help"], ["inspect", "{made}"]])
def test_tensorflow_is_not_imported_without_need(arguments: list[str], made: Path) -> None:
    program = (
        "import sys; from vggnorm.cli import main; main(standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras', 'torch', 'jax', 'PIL'} & set(sys.modules), 'imported'"
    )
    arguments = [argument.format(made=made / "means.npy") for argument in arguments]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_version() -> None:
    assert run("--version").stdout == f"vggnorm {vggnorm.__version__}\n"


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "vggnorm", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"vggnorm {vggnorm.__version__}\n"


# What the help says


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or getattr(parameter, "help", None), parameter.name


@pytest.mark.parametrize(("command", "function"), [("compute-means", "compute_means"), ("verify", "verify")])
def test_defaults_are_those_of_the_library(command: str, function: str) -> None:
    parameters = inspect.signature(getattr(vggnorm, function)).parameters
    compared = 0
    for option in COMMANDS[command].params:
        if option.name in parameters and option.name not in {"data", "network", "weights", "preprocessing"}:
            expected = parameters[option.name].default
            given = None if str(option.default) == "Sentinel.UNSET" else option.default
            assert (given or None) == (expected or None), option.name
            compared += 1
    assert compared == {"compute-means": 18, "verify": 1}[command]
