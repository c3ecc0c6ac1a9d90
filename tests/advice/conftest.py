"""What the tests of advice share."""

from pathlib import Path

import pytest
from vgg_files import first_layers, write_npz


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A file of weights that is as it should be, under the name `vgg.npz`."""
    return write_npz(tmp_path / "vgg.npz", first_layers())
