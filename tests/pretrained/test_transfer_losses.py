"""Style transfer with the real network and real photos, small and short."""

from pathlib import Path
from typing import Any

import descent
import numpy as np
import pytest
import style_transfer
from gatys_loss import Objective, Weights

from vggnorm.measure import compute_means
from vggnorm.normalization import normalize
from vggnorm.photos.geometry import Geometry

WEIGHTS = Weights(
    style_transfer.CONTENT_LAYERS,
    dict.fromkeys(style_transfer.STYLE_LAYERS, 1.0),
    content=1.0,
    style=100.0,
)


@pytest.fixture(scope="module")
def pictures(sample_photos: Path) -> tuple[np.ndarray, np.ndarray]:
    content, style = (
        style_transfer.read_picture(sample_photos / name, 64)
        for name in ("chelsea.png", "gravel.png")
    )
    return content, style


@pytest.fixture(scope="module")
def normalized(vgg16: Any, sample_photos: Path) -> Any:
    return normalize(vgg16, compute_means(vgg16, sample_photos, geometry=Geometry(96)))


def test_the_style_losses_of_the_normalized_network_are_nearer_to_each_other(
    vgg16: Any, normalized: Any, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    """Mean activations of layers differ by a factor of 10 or more, so style losses by 10^4."""
    spans = []
    for model in (vgg16, normalized):
        losses = Objective(model, *pictures, WEIGHTS).losses(pictures[0]).style.values()
        spans.append(np.log10(max(losses) / min(losses)))
    original, of_normalized = spans
    assert original > 3
    assert of_normalized < original - 1


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_loss_falls(
    optimizer: str, normalized: Any, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    objective = Objective(normalized, *pictures, WEIGHTS)
    seen: list[int] = []

    def report(done: int, _: np.ndarray) -> None:
        seen.append(done)

    if optimizer == "lbfgs":
        picture = descent.minimize_lbfgs(objective, pictures[0], 8, report)
    else:
        picture = descent.minimize_adam(objective, pictures[0], 8, report, 5.0)
    assert seen == list(range(1, 9))
    assert picture.min() >= 0
    assert picture.max() <= 255
    assert (
        objective.value_and_gradient(picture)[0] < objective.value_and_gradient(pictures[0])[0] / 2
    )
