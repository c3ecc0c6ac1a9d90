"""The means that come with the program: what normalize does with them, and what it refuses."""

from pathlib import Path
from typing import Any

import keras
import pytest
from command_line import failed, run

import vggnorm
from vggnorm.network.weights import weights_sha256


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_they_belong_to_the_genuine_weights(vgg16: Any) -> None:
    assert vggnorm.packaged_means().recipe.weights_sha256 == weights_sha256(vgg16)


def test_without_means_the_genuine_network_is_normalized(
    imagenet_file: Path, sample_photos: Path
) -> None:
    weights = "--weights", imagenet_file
    result = run("normalize", "-o", "norm.h5", *weights)
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "vgg16, 4224 filters in 13 layers, normalized with means over 751 photos, saved as "
        "norm.h5\n"
    )
    source, known, better, output = result.stderr.splitlines()
    path = source.rpartition(": ")[2]
    assert "over 751 photos of COCO" in source
    assert "is 2% in blocks 1 to 4 and 7% in block5_conv3" in known
    assert "vggnorm compute-means --data PHOTOS" in better
    assert output.startswith("the network's output is divided by the means of block5_conv3")
    assert "photos    751 used" in run("inspect", path).stdout
    assert "photos    751 used" in run("inspect", "norm.h5").stdout
    result = run("verify", "norm.h5", "--data", sample_photos, *weights)
    assert result.exit_code == 0, result.output
    assert "on other photos than those measured" in result.stdout


def test_the_library_refuses_reflection_padding(imagenet_file: Path) -> None:
    model = vggnorm.load_network("vgg16", imagenet_file, padding="reflect")
    with pytest.raises(vggnorm.MeansError, match="the padding zeros, and this network"):
        vggnorm.normalize(model, vggnorm.packaged_means())


def test_another_stride_under_the_same_weights_is_refused(vgg16: Any) -> None:
    def stride_2(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name == "block1_conv1":
            config["strides"] = (2, 2)
        return type(layer).from_config(config)

    other = keras.models.clone_model(vgg16, clone_function=stride_2)
    other.set_weights(vgg16.get_weights())
    other.save("strided.keras")
    line = failed(run("normalize", "--network", "strided.keras"))
    assert line.startswith("no means of strided.keras come with vggnorm, ")
