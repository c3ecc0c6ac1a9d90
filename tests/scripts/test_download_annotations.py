"""scripts/download_coco.py: the annotation file, and the names of photos in it."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from coco_server import (
    ZIP,
    Served,
    error_of,
    make_listing,
    make_photo,
    names_in,
    run,
)


def test_a_cut_zip_is_gone_on_with(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    size = len(served.files[f"/annotations/{ZIP}"])
    served.cut[f"/annotations/{ZIP}"] = 2
    result = run(coco, tmp_path, served, "--limit", 1)
    assert result.exit_code == 0
    assert served.starts[:3] == [0, size // 2, size // 2 + (size - size // 2) // 2]
    assert (
        json.loads((tmp_path / "annotations" / "instances_val2017.json").read_text())
        == make_listing()
    )


def test_a_zip_is_gone_on_with_by_the_next_run(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    served.cut[f"/annotations/{ZIP}"] = 4
    assert "cut short" in error_of(run(coco, tmp_path, served))
    part = tmp_path / "annotations" / f"{ZIP}.part"
    size = part.stat().st_size
    assert part.read_bytes() == served.files[f"/annotations/{ZIP}"][:size]
    served.starts.clear()
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0
    assert served.starts[0] == size
    assert names_in(tmp_path / "annotations") == ["instances_val2017.json"]


def test_a_part_longer_than_the_file_is_dropped(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    part = tmp_path / "annotations" / f"{ZIP}.part"
    part.parent.mkdir()
    part.write_bytes(bytes(len(served.files[f"/annotations/{ZIP}"]) + 5))
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0
    assert names_in(tmp_path / "annotations") == ["instances_val2017.json"]


def test_a_server_without_ranges_starts_over(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    served.ranges = False
    part = tmp_path / "part"
    part.write_bytes(b"something else")
    coco.download_zip(f"{served.url}/annotations/{ZIP}", part)
    assert part.read_bytes() == served.files[f"/annotations/{ZIP}"]


def test_a_whole_part_is_not_fetched_again(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    part = tmp_path / "annotations" / f"{ZIP}.part"
    part.parent.mkdir()
    part.write_bytes(served.files.pop(f"/annotations/{ZIP}"))
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0
    assert names_in(part.parent) == ["instances_val2017.json"]


def test_a_part_that_does_not_fit_is_dropped(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    part = tmp_path / "annotations" / f"{ZIP}.part"
    part.parent.mkdir()
    part.write_bytes(b"\xff" * 600)
    assert "cannot be unpacked" in error_of(run(coco, tmp_path, served))
    assert names_in(part.parent) == []
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0


def test_a_zip_of_the_users_own_is_used_and_stays(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    own = tmp_path / "annotations" / ZIP
    own.parent.mkdir()
    own.write_bytes(served.files.pop(f"/annotations/{ZIP}"))
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0
    assert names_in(own.parent) == [ZIP, "instances_val2017.json"]


def test_a_zip_without_the_split_is_refused(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    error = error_of(run(coco, tmp_path, served, "--split", "train2017"))
    assert "does not hold annotations/instances_train2017.json" in error
    assert names_in(tmp_path / "annotations") == []


def test_something_else_in_the_place_of_the_zip_is_refused(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    served.files[f"/annotations/{ZIP}"] = b"<html>Log in to this network</html>"
    assert "cannot be unpacked" in error_of(run(coco, tmp_path, served))
    assert names_in(tmp_path / "annotations") == []


@pytest.mark.parametrize(
    "name",
    [
        "../escaped.jpg",
        "..",
        "",
        ".",
        "/tmp/escaped.jpg",
        "sub/photo.jpg",
        "sub\\photo.jpg",
        "C:photo.jpg",
        ".hidden.jpg",
        "a\u0000.jpg",
        "a\n.jpg",
        "photo.jpg/",
        "a" * 300 + ".jpg",
    ],
)
def test_a_hostile_file_name_is_refused(
    coco: ModuleType, served: Served, tmp_path: Path, name: str
) -> None:
    listing = tmp_path / "hostile.json"
    content = make_listing()
    content["images"].append({"id": 99, "file_name": name})
    listing.write_text(json.dumps(content))
    error = error_of(run(coco, tmp_path / "coco", served, "--annotations", listing))
    assert "is not a plain file name" in error
    assert names_in(tmp_path) == ["hostile.json"]
    assert served.requests == {}


def test_a_strange_file_name_is_quoted(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    listing = tmp_path / "strange.json"
    listing.write_text(json.dumps({"images": [{"id": 1, "file_name": "a ?#%é.jpg"}]}))
    served.files["/val2017/a%20%3F%23%25%C3%A9.jpg"] = make_photo(8, 8, 0)
    assert run(coco, tmp_path / "coco", served, "--annotations", listing).exit_code == 0
    assert names_in(tmp_path / "coco" / "val2017") == ["a ?#%é.jpg"]
