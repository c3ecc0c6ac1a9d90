"""scripts/download_coco.py: which photos it downloads, and what can go wrong with one."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner
from coco_server import (
    NAMES,
    ZIP,
    Served,
    assert_one_fails,
    error_of,
    make_listing,
    make_photo,
    names_in,
    run,
    summary,
)

from vggnorm.photos.coco import ListedPhoto, list_photos

# --- What is downloaded ---


def test_everything_comes_byte_for_byte_in_cocos_layout(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "coco"
    result = run(coco, folder, served)
    assert result.exit_code == 0
    assert result.stdout == summary(folder, 10, 0, 0)
    assert result.stderr == ""
    assert names_in(folder) == ["annotations", "val2017"]
    assert names_in(folder / "val2017") == NAMES
    for name in NAMES:
        assert (folder / "val2017" / name).read_bytes() == served.files[f"/val2017/{name}"]
    assert names_in(folder / "annotations") == ["instances_val2017.json"]
    assert (
        json.loads((folder / "annotations" / "instances_val2017.json").read_text())
        == make_listing()
    )
    assert set(served.requests.values()) == {1}


def test_a_given_annotation_file_is_read_where_it_lies(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "coco"
    assert run(coco, folder, served, "--annotations", listing).exit_code == 0
    assert names_in(folder) == ["val2017"]
    assert f"/annotations/{ZIP}" not in served.requests


def test_limit_takes_the_first_of_one_seeded_order(coco: ModuleType) -> None:
    photos = [ListedPhoto(name, None, None) for name in NAMES]
    whole = coco.pick_photos(photos, None, 0)
    assert sorted(whole, key=lambda photo: photo.file_name) == photos
    assert whole != photos
    for limit in range(1, 12):
        assert coco.pick_photos(photos, limit, 0) == whole[:limit]
    assert coco.pick_photos(photos, None, 1) != whole


def test_a_larger_limit_keeps_the_photos_of_a_smaller(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path
) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    run(coco, few, served, "--annotations", listing, "--limit", 4)
    run(coco, many, served, "--annotations", listing, "--limit", 7)
    assert len(names_in(few / "val2017")) == 4
    assert len(names_in(many / "val2017")) == 7
    assert set(names_in(few / "val2017")) < set(names_in(many / "val2017"))
    result = run(coco, few, served, "--annotations", listing, "--limit", 7)
    assert result.stdout == summary(few, 3, 4, 0)
    assert names_in(few / "val2017") == names_in(many / "val2017")


def test_category_downloads_only_those(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path
) -> None:
    options = ("--annotations", listing, "--category", "dog", "--category", "bicycle")
    result = run(coco, tmp_path / "coco", served, *options)
    assert result.stdout == summary(tmp_path / "coco", 3, 0, 0)
    assert names_in(tmp_path / "coco" / "val2017") == NAMES[2:5]


def test_what_list_photos_refuses_is_one_line(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path
) -> None:
    result = run(coco, tmp_path / "coco", served, "--annotations", listing, "--category", "zzz")
    assert (
        error_of(result)
        == f"Error: {listing}: has no category 'zzz'; there are bicycle, cat, dog\n"
    )
    listing.write_text("[]")
    result = run(coco, tmp_path / "coco", served, "--annotations", listing)
    assert error_of(result).startswith(
        f"Error: {listing}: is not a COCO annotation file, or is damaged ("
    )
    assert served.requests == {}


# --- Going on ---


def test_what_is_there_is_not_fetched_again(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    run(coco, tmp_path, served)
    served.requests.clear()
    result = run(coco, tmp_path, served)
    assert result.exit_code == 0
    assert result.stdout == summary(tmp_path, 0, 10, 0)
    assert served.requests == {}


def test_a_partial_folder_is_completed(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    run(coco, tmp_path, served)
    photos = tmp_path / "val2017"
    (photos / NAMES[2]).unlink()
    (photos / NAMES[5]).write_bytes(b"")
    (photos / NAMES[7]).write_bytes(b"mine")  # a file with its final name counts as whole
    served.requests.clear()
    result = run(coco, tmp_path, served)
    assert result.stdout == summary(tmp_path, 2, 8, 0)
    assert served.requests == {f"/val2017/{NAMES[2]}": 1, f"/val2017/{NAMES[5]}": 1}
    assert (photos / NAMES[5]).read_bytes() == served.files[f"/val2017/{NAMES[5]}"]
    assert (photos / NAMES[7]).read_bytes() == b"mine"


# --- What goes wrong with a photo ---


def test_a_short_photo_is_tried_again_and_not_kept(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path
) -> None:
    path = f"/val2017/{NAMES[0]}"
    served.cut[path] = 99
    size = len(served.files[path])
    reason = f"cut short, {size // 2} of {size} bytes came"
    assert_one_fails(coco, served, tmp_path / "coco", listing, reason)
    assert served.requests[path] == 4
    served.cut.clear()
    result = run(coco, tmp_path / "coco", served, "--annotations", listing)
    assert result.stdout == summary(tmp_path / "coco", 1, 9, 0)


def test_what_passes_is_tried_again(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path
) -> None:
    served.cut[f"/val2017/{NAMES[0]}"] = 1
    served.busy[f"/val2017/{NAMES[1]}"] = 3
    result = run(coco, tmp_path / "coco", served, "--annotations", listing)
    assert result.exit_code == 0
    assert served.requests[f"/val2017/{NAMES[0]}"] == 2
    assert served.requests[f"/val2017/{NAMES[1]}"] == 4
    for name in NAMES:
        assert (tmp_path / "coco" / "val2017" / name).read_bytes() == served.files[
            f"/val2017/{name}"
        ]


def test_a_missing_photo_is_asked_for_once(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path
) -> None:
    del served.files[f"/val2017/{NAMES[0]}"]
    assert_one_fails(coco, served, tmp_path / "coco", listing, "404 Not Found")
    assert served.requests[f"/val2017/{NAMES[0]}"] == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>Log in to this network</html>", "not a JPEG or PNG photo"),
        (make_photo(25, 16, 1, "GIF"), "not a JPEG or PNG photo"),
        (make_photo(16, 25, 1), "16 x 25 pixels; the annotation file says 25 x 16"),
        (make_photo(26, 16, 1), "26 x 16 pixels; the annotation file says 25 x 16"),
        (make_photo(25, 17, 1), "25 x 17 pixels; the annotation file says 25 x 16"),
    ],
    ids=["html", "gif", "turned", "wider", "higher"],
)
def test_what_is_not_the_photo_is_refused(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path, *, content: bytes, reason: str
) -> None:
    served.files[f"/val2017/{NAMES[0]}"] = content
    assert_one_fails(coco, served, tmp_path / "coco", listing, reason)


def test_a_length_must_be_told(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path
) -> None:
    served.endless.add(f"/val2017/{NAMES[0]}")
    reason = "the server does not tell the length, so a short file would not show"
    assert_one_fails(coco, served, tmp_path / "coco", listing, reason)


def test_too_large_a_photo_is_refused(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "LARGEST_PHOTO", 1 << 20)
    served.files[f"/val2017/{NAMES[0]}"] += bytes(1 << 20)
    assert_one_fails(
        coco, served, tmp_path / "coco", listing, "larger than 1 MiB, so not a COCO photo"
    )


def test_a_photo_without_given_size_is_taken(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    listing = tmp_path / "listing.json"
    images = [{"id": 1, "file_name": NAMES[0]}, {"id": 2, "file_name": NAMES[1], "width": None}]
    listing.write_text(json.dumps({"images": images}))
    result = run(coco, tmp_path / "coco", served, "--annotations", listing)
    assert result.stdout == summary(tmp_path / "coco", 2, 0, 0)


def test_few_of_many_failures_are_named(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path
) -> None:
    for name in NAMES[:8]:
        del served.files[f"/val2017/{name}"]
    result = run(coco, tmp_path / "coco", served, "--annotations", listing)
    assert result.stdout == summary(tmp_path / "coco", 2, 0, 8)
    *named, more, error = result.stderr.splitlines()
    assert len(named) == 5
    assert more == "and 3 more"
    assert error == "Error: 8 of 10 photos failed; run the same command again to fetch the rest"


def test_scattered_failures_do_not_end_the_run(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path
) -> None:
    order = [photo.file_name for photo in coco.pick_photos(list_photos(listing), None, 0)]
    served.busy.update({f"/val2017/{name}": 99 for name in order if name != order[4]})
    result = run(coco, tmp_path / "coco", served, "--annotations", listing, "--workers", 1)
    assert result.stdout == summary(tmp_path / "coco", 1, 0, 9)


# --- The command line ---


@pytest.mark.parametrize(
    "address",
    ["images.cocodataset.org", "file:///etc", "ftp://a", "http://", "http://[a", "http://a:x"],
)
def test_base_url_is_a_web_address(coco: ModuleType, tmp_path: Path, address: str) -> None:
    result = CliRunner().invoke(coco.main, [str(tmp_path), "--base-url", address])
    assert result.exit_code == 2
    assert f"{address!r} is not an http:// or https:// address" in result.stderr


def test_every_option_has_help(coco: ModuleType) -> None:
    result = CliRunner().invoke(coco.main, ["--help"])
    assert result.exit_code == 0
    options = [option for option in coco.main.params if option.param_type_name == "option"]
    assert len(options) == 7
    for option in options:
        assert option.help
        assert option.opts[0] in result.stdout
