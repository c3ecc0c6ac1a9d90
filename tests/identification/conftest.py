"""What the tests of identification share: a small network and its means."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vggnorm
from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.geometry import Geometry

PHOTO_SIZE = 48


@pytest.fixture(scope="module")
def model(make_chain: Callable[..., Any]) -> Any:
    """A network wide enough for statistics over filters."""
    return make_chain((40, 40, 48, 48), seed=4)


@pytest.fixture(scope="module")
def means(model: Any, photo_folder: Path) -> FilterMeans:
    return vggnorm.compute_means(model, photo_folder, geometry=Geometry(PHOTO_SIZE))
