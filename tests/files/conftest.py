"""VGGs so small that a test can have them whole."""

import pytest

from vggnorm import vgg


@pytest.fixture
def small_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a VGG have a few filters in each block, a last map of 2x2, and dense layers of 4."""
    filters, side, units = (3, 4, 5, 6, 6), 2, 4
    monkeypatch.setattr(vgg, "BLOCK_FILTERS", filters)
    monkeypatch.setattr(vgg, "LAST_SIDE", side)
    monkeypatch.setattr(vgg, "FLAT", side * side * filters[-1])
    monkeypatch.setattr(vgg, "DENSE_UNITS", units)
    monkeypatch.setattr(vgg, "CLASSES", 7)
