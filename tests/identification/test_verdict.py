"""The verdict on files made in many ways, with small networks and with VGG's shapes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import vggnorm
from vggnorm.errors import MeansError
from vggnorm.identification.verdict import Identification, identify
from vggnorm.means.filter_means import FilterMeans
from vggnorm.network.graph import read_graph


@pytest.fixture
def random_scales(model: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        name: np.exp(random.normal(3, 1, count))
        for name, count in read_graph(model).filters.items()
    }


def rescale(model: Any, scales: dict[str, Any]) -> Any:
    """Copy a network and rescale it. The rule has tests of its own."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for name, changed in read_graph(model).rescale(scales).weights.items():
        copy.get_layer(name).set_weights(list(changed().values()))
    return copy


@pytest.fixture
def said_of(model: Any, tmp_path: Path) -> Callable[..., Identification]:
    """Save a network, change the file, and identify it."""

    def said(
        network: Any, means: FilterMeans | None = None, change: Callable[[Any], None] | None = None
    ) -> Any:
        path = tmp_path / "file.h5"
        vggnorm.save_network(network, path, force=True)
        if change is not None:
            with h5py.File(path, "r+") as file:
                change(file["model_weights"])
        return identify(path, model, means)

    return said


def test_the_original(said_of: Any, model: Any, means: FilterMeans) -> None:
    for found in said_of(model), said_of(model, means):
        assert found.kind == "original"
        assert found.intact
        assert found.sentence == "It is the original, not rescaled."
        assert {found.state(name) for name in found.recovery.layers} == {"original"}


def test_normalized_with_the_means_in_the_file(
    model: Any, means: FilterMeans, tmp_path: Path
) -> None:
    path = tmp_path / "made.h5"
    vggnorm.save_network(vggnorm.normalize(model, means), path, means)
    found = identify(path, model)
    assert found.kind == "normalized"
    assert found.intact
    assert found.sentence == "It is normalized with exactly the means that the file has (9 photos)."
    for layer, mean in means.mean.items():
        fires = mean > 0
        np.testing.assert_allclose(
            found.recovery.layers[layer].scale[fires], mean[fires], rtol=1e-6
        )
        np.testing.assert_allclose(
            found.recovery.layers[layer].scale[~fires], 1, rtol=1e-6
        )  # silent filters


def test_normalized_with_the_means_given(said_of: Any, model: Any, means: FilterMeans) -> None:
    normalized = vggnorm.normalize(model, means)
    assert (
        said_of(normalized, means).sentence
        == "It is normalized with exactly the means given (9 photos)."
    )
    alone = said_of(normalized)
    assert alone.kind == "possibly normalized"
    assert "may be mean activations" in alone.sentence
    assert "--data FOLDER or --means" in alone.sentence


def test_normalized_with_options_that_the_file_does_not_tell(
    said_of: Any, model: Any, means: FilterMeans
) -> None:
    every = np.sort(np.concatenate(list(means.mean.values())))
    bound = 1 / float(np.median(every[every > 0]))
    bounded = means.with_max_scale(bound)
    given = "It is normalized with exactly the means given (9 photos), and with"
    found = said_of(vggnorm.normalize(model, bounded), means)
    assert found.sentence == f"{given} --max-scale {bound:.4g}."
    kept = vggnorm.keep_output(model, means)
    found = said_of(vggnorm.normalize(model, kept), means)
    assert found.sentence == f"{given} --keep-output."
    both = vggnorm.keep_output(model, bounded)
    found = said_of(vggnorm.normalize(model, both), means)
    assert found.sentence == f"{given} --keep-output and --max-scale {bound:.4g}."


def test_normalized_with_other_means(said_of: Any, model: Any, means: FilterMeans) -> None:
    # Half of the means are 0.8 times the others, the rest 0.98 times: the median is in between, and
    # half of them are within 5 %.
    other = {
        layer: mean * np.where(np.arange(len(mean)) % 2, 0.8, 0.98)
        for layer, mean in means.mean.items()
    }
    found = said_of(
        vggnorm.normalize(model, replace(means, measured=replace(means.measured, mean=other))),
        means,
    )
    assert found.kind == "normalized"
    assert "with means of other photos, or of photos cropped in another way" in found.sentence
    assert found.comparison.share_close == pytest.approx(0.5, abs=0.1)
    assert 0.8 <= found.comparison.median <= 0.98
    assert f"the median scale is {found.comparison.median:.2f} times theirs" in found.sentence


def test_scales_that_have_nothing_to_do_with_the_means(
    said_of: Any, model: Any, means: FilterMeans, random_scales: dict[str, Any]
) -> None:
    found = said_of(rescale(model, random_scales), means)
    assert found.kind == "rescaled"
    assert found.intact
    assert "not by mean activations" in found.sentence
    assert "not like the means given (9 photos)" in found.sentence


def test_without_photos_random_scales_are_refuted_by_the_mean_before_rectification(
    said_of: Any, model: Any, random_scales: dict[str, Any]
) -> None:
    found = said_of(rescale(model, random_scales))
    assert found.kind == "rescaled"
    assert "if all means were 1, the weights alone would give" in found.sentence
    # conv1 takes the photo, and conv3 takes pooled activations. The others have a drift.
    assert [name for name, layer in found.recovery.layers.items() if layer.drift is not None] == [
        "conv2",
        "conv4",
    ]
    kernel, bias = rescale(model, random_scales).get_layer("conv2").get_weights()
    np.testing.assert_allclose(
        found.recovery.layers["conv2"].drift, kernel.sum(axis=(0, 1, 2)) + bias, rtol=1e-4
    )


def constant(model: Any) -> dict[str, Any]:
    return {name: np.full(count, 3.7) for name, count in read_graph(model).filters.items()}


def powers_of_two(model: Any) -> dict[str, Any]:
    filters = read_graph(model).filters.items()
    return {name: 2.0 ** np.random.default_rng(0).integers(-2, 5, count) for name, count in filters}


def kernel_norms(model: Any) -> dict[str, Any]:
    scales, incoming = {}, np.ones(3)
    for name in read_graph(model).filters:
        kernel = model.get_layer(name).get_weights()[0] * incoming[:, np.newaxis]
        scales[name] = incoming = np.sqrt((kernel.astype(np.float64) ** 2).sum(axis=(0, 1, 2)))
    return scales


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (constant, "all filters of a layer have the same scale"),
        (powers_of_two, "the scales are powers of two"),
        (kernel_norms, "the scales give all kernels of a layer the same norm"),
    ],
)
def test_scales_of_another_origin(make: Any, reason: str, said_of: Any, model: Any) -> None:
    found = said_of(rescale(model, make(model)))
    assert found.kind == "rescaled"
    assert found.sentence == f"It is rescaled, but not by mean activations: {reason}."


def test_another_network(said_of: Any, make_chain: Callable[..., Any]) -> None:
    found = said_of(make_chain((40, 40, 48, 48), seed=5))
    assert found.kind == "something else"
    assert not found.intact
    assert found.sentence == (
        "It is something else: 4 of its 4 layers have weights that are not a rescaling of the "
        "original's."
    )
    assert {found.state(name) for name in found.recovery.layers} == {"other weights"}


def test_a_damaged_layer_is_named(said_of: Any, model: Any, means: FilterMeans) -> None:
    def change(weights: Any) -> None:
        kernel = weights["conv2/conv2/kernel:0"]
        kernel[...] = np.random.default_rng(0).normal(size=kernel.shape)

    found = said_of(vggnorm.normalize(model, means), means, change)
    assert found.kind == "normalized"
    assert not found.intact
    assert found.sentence.startswith("It is normalized with exactly the means given (9 photos). ")
    assert found.sentence.endswith("This does not hold everywhere: see conv2.")
    assert [found.state(f"conv{k}") for k in (1, 2, 3, 4)] == [
        "rescaled",
        "other weights",
        "rescaled",
        "rescaled",
    ]


def test_damaged_filters_biases_and_channels_are_named(
    said_of: Any, model: Any, random_scales: dict[str, Any]
) -> None:
    def change(weights: Any) -> None:
        weights["conv1/conv1/kernel:0"][..., 7] = 0.5
        weights["conv2/conv2/bias:0"][3:5] *= 2
        weights["conv3/conv3/kernel:0"][:, :, 30:38] *= 3
        weights["conv4/conv4/kernel:0"][..., 2] *= -1

    found = said_of(rescale(model, random_scales), None, change)
    assert [found.state(f"conv{k}") for k in (1, 2, 3, 4)] == [
        "rescaled; filter 7 with other weights",
        "rescaled; filters 3, 4 with a bias of another scale than the kernel",
        "rescaled; 8 channels taken at another scale than the layers before give",
        "rescaled; filter 2 with the sign changed; filter 2 with a bias of another scale than the "
        "kernel",
    ]
    assert "This does not hold everywhere: see conv1, conv2, conv3, conv4." in found.sentence
    assert not found.intact


def test_a_sign_that_changed_is_not_compared_with_means(
    said_of: Any, model: Any, means: FilterMeans
) -> None:
    def change(weights: Any) -> None:
        for name in "kernel", "bias":
            weights[f"conv4/conv4/{name}:0"][..., 2] *= -1

    found = said_of(vggnorm.normalize(model, means), means, change)
    assert (found.kind, found.intact) == ("normalized", False)
    assert found.state("conv4") == "rescaled; filter 2 with the sign changed"
    assert np.isnan(found.comparison.ratio["conv4"][2])


def test_small_deviations_are_reported(said_of: Any, model: Any, means: FilterMeans) -> None:
    def change(weights: Any) -> None:
        for name in "conv2", "conv3":
            kernel = weights[f"{name}/{name}/kernel:0"]
            kernel[...] *= np.random.default_rng(0).normal(
                1, 1e-3, kernel.shape
            )  # a relative deviation of 1e-3

    found = said_of(vggnorm.normalize(model, means), means, change)
    assert found.kind == "normalized"
    assert "conv2, conv3 also deviate from this by up to 1.0e-03 of the weights" in found.sentence
    assert found.state("conv2") == "nearly rescaled"
    assert not found.intact


def test_sixteen_bits_are_reported_and_are_no_damage(
    said_of: Any, model: Any, means: FilterMeans
) -> None:
    normalized = vggnorm.normalize(model, means)
    normalized.set_weights(
        [array.astype(np.float16).astype(np.float32) for array in normalized.get_weights()]
    )
    found = said_of(normalized, means)
    assert found.intact
    assert found.sentence == (
        "It is normalized with exactly the means given (9 photos). Its weights are float16 numbers."
    )


def test_rgb_and_pixels_up_to_1(said_of: Any, model: Any, means: FilterMeans) -> None:
    def change(weights: Any) -> None:
        kernel = weights["conv1/conv1/kernel:0"]
        kernel[...] = kernel[...][:, :, ::-1] * 255

    found = said_of(vggnorm.normalize(model, means), means, change)
    assert found.kind == "normalized"
    assert found.intact
    assert (
        "It takes the colours of a photo in reverse order: RGB where the original takes BGR."
        in found.sentence
    )
    assert found.sentence.endswith("It takes photos divided by 255.")


def test_channels_of_the_photo_that_are_scaled_apart(said_of: Any, model: Any) -> None:
    def change(weights: Any) -> None:
        weights["conv1/conv1/kernel:0"][...] *= np.array([58.4, 57.1, 57.4])[:, np.newaxis]

    found = said_of(model, None, change)
    assert found.sentence.endswith(
        "It takes photos whose channels are divided by 58.4, 57.1, 57.4."
    )


def test_means_of_other_weights_are_refused(said_of: Any, model: Any, means: FilterMeans) -> None:
    elsewhere = replace(means, recipe=replace(means.recipe, weights_sha256="0" * 64))
    with pytest.raises(MeansError, match="the means were measured on other weights than chain's"):
        said_of(model, elsewhere)
    with pytest.raises(MeansError, match="the means have no layer of chain"):
        said_of(model, replace(means, measured=replace(means.measured, mean={"other": np.ones(3)})))


def test_json_has_everything(said_of: Any, model: Any, means: FilterMeans) -> None:
    def change(weights: Any) -> None:
        weights["conv1/conv1/kernel:0"][..., 7] = 0.5

    found = said_of(vggnorm.normalize(model, means), means, change)
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (read["kind"], read["intact"], read["sentence"]) == ("normalized", False, found.sentence)
    assert read["layers"]["conv1"]["scale"][7] is None
    assert read["layers"]["conv2"]["scale"] == found.recovery.layers["conv2"].scale.tolist()
    assert read["layers"]["conv3"]["state"] == "rescaled"
    assert read["means"]["median_ratio"] == pytest.approx(1)


def test_the_table(said_of: Any, model: Any, means: FilterMeans) -> None:
    lines = str(said_of(vggnorm.normalize(model, means), means)).splitlines()
    mean = means.mean["conv3"]
    row = next(line for line in lines if line.startswith("conv3")).split()
    assert row[1] == "48"
    assert [float(cell) for cell in row[2:5]] == pytest.approx(
        [mean.min(), np.median(mean), mean.max()], abs=6e-4
    )
    assert float(row[5]) < 1e-6
    assert row[6:] == ["1.00", "rescaled"]


def test_batch_normalization_that_was_not_rescaled_is_named(tmp_path: Path) -> None:
    import zoo

    original = zoo.settle(zoo.batch_normalized(before=True))
    graph = read_graph(original)
    random = np.random.default_rng(0)
    normalized = keras.models.clone_model(original)
    normalized.set_weights(original.get_weights())
    changed = graph.rescale(
        {name: np.exp(random.normal(1, 1, count)) for name, count in graph.filters.items()}
    ).weights
    for layer in original.layers:
        if layer.name in changed:
            new = changed[layer.name]()
            pairs = zip(layer.weights, layer.get_weights(), strict=True)
            normalized.get_layer(layer.name).set_weights(
                [new.get(weight.name, array) for weight, array in pairs]
            )
    vggnorm.save_network(normalized, tmp_path / "one.h5")
    assert identify(tmp_path / "one.h5", original).intact
    name = next(layer.name for layer in original.layers if "batch" in layer.name)
    normalized.get_layer(name).set_weights(original.get_layer(name).get_weights())
    vggnorm.save_network(normalized, tmp_path / "two.h5")
    found = identify(tmp_path / "two.h5", original)
    assert not found.intact
    assert f"This does not hold everywhere: see {name}." in found.sentence
