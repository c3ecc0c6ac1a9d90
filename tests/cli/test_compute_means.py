"""compute-means: what it saves and says, and every way in which it can be used wrongly."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from command_line import failed, run

from vggnorm.files.formats import load_means
from vggnorm.network import applications, storage
from vggnorm.photos import finding, reader
from vggnorm.photos.taken import Taken

Compute = Callable[..., Result]


def test_it_saves_and_sums_up(compute: Compute) -> None:
    result = compute("--limit", "5")
    assert result.exit_code == 0, result.output
    means = load_means("means.npy")
    assert means.image_count == 5
    assert means.recipe.weights == "chain.keras"
    assert re.search(r"photos +5 used, 0 skipped", result.stdout)
    assert re.search(r"geometry +32 x 32, crop, bilinear", result.stdout)
    row = re.search(r"^conv2 +5 +(\S+) +(\S+) +(\S+) +(\S+)% +(\d+)$", result.stdout, re.MULTILINE)
    assert row is not None
    values = means.mean["conv2"]
    smallest, middle, largest, uncertainty, silent = map(float, row.groups())
    expected = values.min(), np.median(values), values.max()
    assert (smallest, middle, largest) == pytest.approx(expected, abs=5e-4)
    relative = np.median(means.std_error["conv2"] / values)
    assert uncertainty == pytest.approx(100 * relative, abs=0.05)
    assert silent == 0
    assert "5/5 photos" in result.stderr


def test_vgg16_is_the_default_network(photo_folder: Path, random_vgg16: Path) -> None:
    common = "compute-means", "--data", photo_folder, "--size", "32", "--limit", "2"
    result = run(*common, "--weights", random_vgg16)
    assert result.exit_code == 0, result.output
    assert re.search(r"^block1_conv1 +64 ", result.stdout, re.MULTILINE)
    means = load_means("means.npy")
    assert (means.recipe.network, means.recipe.weights) == ("vgg16", "random_vgg16.h5")
    assert means.recipe.preprocessing == "caffe"
    assert means.filter_count == 4224


def test_the_options_reach_the_recipe(compute: Compute) -> None:
    options = {
        "--size": "40",
        "--fit": "stretch",
        "--interpolation": "nearest",
        "--seed": "7",
        "--batch-size": "2",
    }
    result = compute(*(word for option in options.items() for word in option))
    assert result.exit_code == 0, result.output
    recipe = load_means("means.npy").recipe
    assert (recipe.size, recipe.fit, recipe.interpolation) == (40, "stretch", "nearest")
    assert (recipe.seed, recipe.batch_size) == (7, 2)


def test_the_batch_size_reaches_the_network(
    compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    batches = reader.PhotoReader.batches

    def spy(self: reader.PhotoReader, batch_size: int, after: Taken) -> Any:
        asked.append(batch_size)
        return batches(self, batch_size, after)

    monkeypatch.setattr(reader.PhotoReader, "batches", spy)
    compute("--batch-size", "5")
    assert asked == [5]


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Write annotations of four photos, one of them missing; a person and a dog are shown."""
    contents = {
        "images": [{"id": index, "file_name": f"{index}.jpg"} for index in (1, 2, 3, 77)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5},
            {"id": 2, "image_id": 3, "category_id": 6},
        ],
        "categories": [
            {"id": 5, "name": "person"},
            {"id": 6, "name": "dog"},
            {"id": 7, "name": "cat"},
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(contents))
    return path


def test_annotations_choose_photos(annotations: Path, compute: Compute, photo_folder: Path) -> None:
    result = compute("--annotations", annotations)
    assert result.exit_code == 0, result.output
    assert load_means("means.npy").image_count == 3
    assert f"1 photo listed in {annotations} is not in {photo_folder}" in result.stderr
    assert ", listed in instances.json" in result.stdout


def test_categories_choose_photos(
    annotations: Path, compute: Compute, photo_folder: Path, chain_file: Path
) -> None:
    chosen = "--annotations", annotations, "--category", "person", "--category", "dog"
    result = compute(*chosen)
    assert result.exit_code == 0, result.output
    means = load_means("means.npy")
    assert means.image_count == 2
    assert means.recipe.annotations == "instances.json"
    assert means.recipe.categories == ("person", "dog")
    assert ", listed in instances.json, showing person or dog" in result.stdout
    network = "--network", chain_file
    assert run("normalize", "--means", "means.npy", *network).exit_code == 0
    result = run("verify", "chain_norm.h5", "--data", photo_folder, *network, *chosen)
    assert "on the photos measured" in result.stdout, result.output


def test_a_category_that_is_not_there_names_the_nearest(
    annotations: Path, compute: Compute
) -> None:
    text = failed(compute("--annotations", annotations, "--category", "persn"))
    assert "has no category 'persn'; did you mean person?" in text


def test_categories_need_annotations(compute: Compute) -> None:
    assert "give one with --annotations" in failed(compute("--category", "dog"))


# Networks


def test_a_model_file_needs_a_preprocessing(chain_file: Path, photo_folder: Path) -> None:
    text = failed(run("compute-means", "--data", photo_folder, "--network", chain_file))
    assert "give --preprocessing" in text


def test_weights_of_another_architecture(chain_h5: Path, photo_folder: Path) -> None:
    for network in "vgg16", "vgg19":
        options = "--network", network, "--weights", chain_h5
        text = failed(run("compute-means", "--data", photo_folder, *options))
        assert f"chain.h5: holds no weights of {network}: layer block1_conv1 has" in text


@pytest.fixture
def chain_h5(make_chain: Callable[..., Any], tmp_path: Path) -> Path:
    """Write the chain as an .h5 file."""
    make_chain().save(tmp_path / "chain.h5")
    return tmp_path / "chain.h5"


def test_missing_weights(photo_folder: Path) -> None:
    text = failed(run("compute-means", "--data", photo_folder, "--weights", "absent.h5"))
    assert text.startswith("absent.h5: there is no such file")


def test_unreachable_weights(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise Exception(  # noqa: TRY002  as Keras does
            "URL fetch failure on https://host/vgg16.h5: None -- Name or service not known"
        )

    monkeypatch.setitem(applications.APPLICATIONS, "vgg16", fail)
    text = failed(run("compute-means", "--data", photo_folder, "--weights", "imagenet"))
    assert "python scripts/fetch_weights.py -o vgg16_imagenet.h5" in text


# Photos


def test_a_missing_folder(compute: Compute) -> None:
    assert failed(compute(data=Path("absent"))) == (
        "absent: is not a folder, a .zip or a .tar; give a folder or an archive of photos"
    )


def test_a_folder_without_images(compute: Compute, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty: holds no images (JPEG PNG " in failed(compute(data=tmp_path / "empty"))
    (tmp_path / "empty" / "readme.txt").write_text("no photo")
    assert "empty: holds no images" in failed(compute(data=tmp_path / "empty"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_photos_that_cannot_be_used(compute: Compute, spoilt: Path) -> None:
    result = compute(data=spoilt)
    assert result.exit_code == 0, result.output
    assert "2 used, 5 skipped" in result.stdout
    reasons = {photo.photo: photo.reason for photo in load_means("means.npy").skipped}
    unusable = {"unreadable.png", "truncated.jpg", "empty.jpg", "huge.png", "misnamed.jpg"}
    assert set(reasons) == unusable
    for name, reason in reasons.items():
        assert f"{name}: {reason}" in result.stdout
    assert "truncated" in reasons["truncated.jpg"]
    assert reasons["empty.jpg"] == "is empty"
    assert reasons["huge.png"].startswith("is too large")
    assert reasons["misnamed.jpg"] == "is not an image, but text"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_strict_makes_them_an_error(compute: Compute, spoilt: Path) -> None:
    result = compute("--strict", data=spoilt)
    assert result.exit_code == 1
    assert re.search(r"Error: .*\.(png|jpg): .*; without --strict it is left out", result.stderr)
    assert not Path("means.npy").exists()


def test_no_photo_can_be_used(compute: Compute, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").touch()
    result = compute(data=tmp_path / "bad")
    assert result.exit_code == 1
    error = result.stderr.splitlines()[-1]
    assert "none of its 1 photos can be used; the first, a.jpg, is empty" in error


def test_many_skipped_photos_are_counted_and_a_few_named(
    photo_folder: Path, compute: Compute, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(photo_folder, photos)
    for index in range(8):
        (photos / f"bad{index}.jpg").touch()
    for text in compute(data=photos).stdout, run("inspect", "means.npy").stdout:
        assert "9 used, 8 skipped" in text
        assert text.count("is empty") == 5
        assert "… and 3 more" in text
    assert len(json.loads(run("inspect", "means.npy", "--json").stdout)["skipped"]) == 8


# Outputs and numbers


def test_an_existing_output_is_refused_before_any_work(
    compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: object, **__: object) -> None:
        pytest.fail("work was done first")

    Path("means.npy").write_text("precious")
    monkeypatch.setattr(finding, "find_photos", no_work)
    monkeypatch.setattr(storage, "load_network", no_work)
    text = failed(compute())
    assert text == "means.npy: exists already; give another name, or --force to replace it"
    assert Path("means.npy").read_text() == "precious"


def test_a_missing_output_folder(compute: Compute) -> None:
    text = failed(compute("-o", "absent/means.npy"))
    assert "the folder absent does not exist; make it first" in text


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write into"
)
def test_an_output_folder_that_cannot_be_written(compute: Compute) -> None:
    assert "/proc/m.npy: cannot write into /proc" in failed(compute("-o", "/proc/m.npy"))


@pytest.mark.parametrize("option", ["--size", "--limit", "--batch-size"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_numbers_out_of_range_are_usage_errors(option: str, value: str, compute: Compute) -> None:
    result = compute(option, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr


@pytest.mark.parametrize("value", ["0", "1", "-0.1", "nan", "much"])
def test_tolerances_out_of_range_are_usage_errors(value: str, compute: Compute) -> None:
    result = compute("--tolerance", value)
    assert result.exit_code == 2
    assert "Invalid value for '--tolerance'" in result.stderr


@pytest.mark.parametrize("seconds", ["-1", "nan"])
def test_intervals_out_of_range_are_usage_errors(seconds: str, compute: Compute) -> None:
    result = compute("--checkpoint-every", seconds)
    assert result.exit_code == 2
    assert "Invalid value for '--checkpoint-every'" in result.stderr


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--engine", "ray", "--precision", "auto"), "--engine does not go with --precision auto"),
        (("--engine", "ray", "--shard", "1/2"), "--shard does not go with --engine"),
        (("--worker-cpus", "2"), "--worker-cpus needs --engine"),
        (("--worker-gpus", "0"), "--worker-gpus needs --engine"),
        (("--engine", "ray", "--worker-cpus", "0"), "0 is not in the range x>=1"),
        (("--engine", "ray", "--worker-gpus", "1.5"), "1.5 is neither a whole number nor between"),
        (("--engine", "ray", "--worker-gpus", "nan"), "nan is neither a whole number nor between"),
        (("--engine", "spark"), "'spark' is not 'ray'"),
    ],
)
def test_what_does_not_go_with_an_engine_is_a_usage_error(
    options: tuple[str, ...], line: str, compute: Compute
) -> None:
    result = compute(*options)
    assert result.exit_code == 2
    assert line in result.stderr


def test_an_engine_that_is_not_installed(compute: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggnorm.run.ray.find_spec", lambda _name: None)
    wanted = "Ray is not installed; pip install '.[ray]' in vggnorm's own folder"
    assert failed(compute("--engine", "ray")) == wanted


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5"])
def test_shards_that_there_are_not_are_usage_errors(shard: str, compute: Compute) -> None:
    result = compute("--shard", shard)
    assert result.exit_code == 2
    assert f"{shard!r} is not I/N" in result.stderr


@pytest.mark.parametrize(
    "option", [("--limit", "3"), ("--tolerance", "0.1"), ("--precision", "auto")]
)
def test_a_shard_with_a_limit_is_a_usage_error(option: tuple[str, str], compute: Compute) -> None:
    result = compute("--shard", "1/3", *option)
    assert result.exit_code == 2
    assert f"--shard does not go with {option[0]}" in result.stderr
