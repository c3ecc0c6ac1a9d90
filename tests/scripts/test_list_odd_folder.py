"""What scripts/list_odd_folder.py says of a small folder, counted by hand."""

import list_odd_folder
import pytest
from click.testing import CliRunner

from vggnorm.photos.formats import FORMATS


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this build of Pillow does not write AVIF")
@pytest.mark.skipif("HEIF" in FORMATS, reason="pillow-heif is installed, and the HEICs are damaged")
def test_the_odd_files_are_listed_decoded_and_said() -> None:
    """There are 6 kinds that are used, 8 that are skipped and 6 that are left out, 10 of each."""
    result = CliRunner().invoke(list_odd_folder.main, ["--photos", "100"], catch_exceptions=False)
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[1].startswith("listed 240 photos in ")
    (left_out,) = [line for line in lines if line.startswith("left out ")]
    assert "left out 60 files in " in left_out
    assert (
        ": 20 without a usual ending, 10 .heic, 10 .json, 10 .mp4, 10 .txt; .heic needs" in left_out
    )
    (decoded,) = [line for line in lines if line.startswith("decoded ")]
    assert decoded.startswith("decoded 160 photos in ")
    assert "10 lacked the mark of the end, but no pixels" in lines
    skipped = [line for line in lines if " skipped: " in line]
    assert sum(int(line.split()[0]) for line in skipped) == 80
    assert len(skipped) == 7
