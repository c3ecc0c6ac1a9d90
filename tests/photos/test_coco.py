"""vggnorm.photos.coco on small annotation files, the outcome worked by hand."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from vggnorm.errors import PhotoError
from vggnorm.photos.coco import CHUNK, ListedPhoto, list_photos, read_listing


def make_listing() -> dict[str, Any]:
    """List cats on a and twice on b, dogs on b and c, a bicycle on d, nothing on e, no car."""
    shown = [("a", "cat"), ("b", "cat"), ("b", "cat"), ("b", "dog"), ("c", "dog"), ("d", "bicycle")]
    image_ids = {"d": 30, "a": 41, "e": 52, "c": 63, "b": 74}  # in no order
    category_ids = {"bicycle": 2, "car": 3, "cat": 17, "dog": 18}
    return {
        "images": [
            {"id": number, "file_name": f"{name}.jpg", "width": number, "height": 16}
            for name, number in image_ids.items()
        ],
        "annotations": [
            {"id": number, "image_id": image_ids[name], "category_id": category_ids[category]}
            for number, (name, category) in enumerate(shown, 1)
        ],
        "categories": [{"id": number, "name": name} for name, number in category_ids.items()],
    }


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    return write(tmp_path, make_listing())


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "listing.json"
    path.write_text(json.dumps(content))
    return path


def names(photos: list[ListedPhoto]) -> str:
    return " ".join(photo.file_name.removesuffix(".jpg") for photo in photos)


def error_of(path: Path, *categories: str) -> str:
    with pytest.raises(PhotoError) as caught:
        list_photos(path, categories)
    return str(caught.value)


# --- What is listed ---


def test_all_photos_come_by_name(listing: Path) -> None:
    assert list_photos(listing) == [
        ListedPhoto("a.jpg", 41, 16),
        ListedPhoto("b.jpg", 74, 16),
        ListedPhoto("c.jpg", 63, 16),
        ListedPhoto("d.jpg", 30, 16),
        ListedPhoto("e.jpg", 52, 16),
    ]


def test_the_order_of_the_file_does_not_matter(listing: Path, tmp_path: Path) -> None:
    expected = list_photos(listing)
    content = make_listing()
    content["images"].reverse()
    assert list_photos(write(tmp_path, content)) == expected


def test_a_photo_listed_twice_comes_once(tmp_path: Path) -> None:
    content = make_listing()
    content["images"].append({"id": 99, "file_name": "a.jpg", "width": 41, "height": 16})
    assert names(list_photos(write(tmp_path, content))) == "a b c d e"


def test_a_size_need_not_be_given(tmp_path: Path) -> None:
    images = [
        {"id": 1, "file_name": "a.jpg"},
        {"id": 2, "file_name": "b.jpg", "width": None, "height": 3},
    ]
    assert list_photos(write(tmp_path, {"images": images})) == [
        ListedPhoto("a.jpg", None, None),
        ListedPhoto("b.jpg", None, 3),
    ]


def test_nothing_is_printed(listing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_photos(listing)
    assert capsys.readouterr() == ("", "")


# --- Categories ---


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        ("cat", "a b"),
        ("dog", "b c"),
        ("cat dog", "a b c"),
        ("dog cat", "a b c"),
        ("cat cat", "a b"),
        ("car bicycle", "d"),
    ],
)
def test_categories_take_photos_that_show_any(
    listing: Path, categories: str, expected: str
) -> None:
    assert names(list_photos(listing, categories.split())) == expected


def test_categories_of_one_name_are_taken_together(tmp_path: Path) -> None:
    content = make_listing()
    content["categories"][3]["name"] = "cat"  # it was dog
    assert names(list_photos(write(tmp_path, content), ["cat"])) == "a b c"


@pytest.mark.parametrize(
    ("category", "hint"),
    [
        ("cats", "did you mean cat or car?"),
        ("bycicle", "did you mean bicycle?"),
        ("Cat", "did you mean cat?"),
        ("zzz", "there are bicycle, car, cat, dog"),
    ],
)
def test_an_unknown_category_names_near_ones(listing: Path, category: str, hint: str) -> None:
    assert error_of(listing, "dog", category) == f"{listing}: has no category '{category}'; {hint}"


def test_a_captions_file_has_no_categories(tmp_path: Path) -> None:
    content = make_listing()
    del content["categories"]
    content["annotations"] = [{"id": 1, "image_id": 41, "caption": "A cat."}]
    captions = write(tmp_path, content)
    assert names(list_photos(captions)) == "a b c d e"
    assert (
        error_of(captions, "cat")
        == f"{captions}: has no categories; to choose by category, give COCO's instances file"
    )


def test_a_file_without_photos_is_refused(listing: Path, tmp_path: Path) -> None:
    assert error_of(listing, "car") == f"{listing}: lists no photos that show car"
    assert error_of(write(tmp_path, {})) == f"{listing}: lists no photos"


# --- What other programs write ---


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be-with-mark"])
@pytest.mark.parametrize("with_category", [False, True])
def test_a_file_may_begin_with_a_byte_order_mark(
    tmp_path: Path, encoding: str, *, with_category: bool
) -> None:
    content = make_listing()
    content["images"][1]["file_name"] = "größe 日本 🐈.jpg"  # it was a.jpg, which shows a cat
    text = json.dumps(content, ensure_ascii=False)
    path = tmp_path / "listing.json"
    if encoding == "utf-16-be-with-mark":
        path.write_bytes(b"\xfe\xff" + text.encode("utf-16-be"))
    else:
        path.write_text(text, encoding=encoding)
    photos = list_photos(path, ["cat"] if with_category else ())
    assert names(photos) == ("b größe 日本 🐈" if with_category else "b c d e größe 日本 🐈")


def test_a_long_file_in_utf_16_is_read_piece_by_piece(tmp_path: Path) -> None:
    images = [{"file_name": f"größe {number}.jpg"} for number in range(20_000)]
    path = tmp_path / "listing.json"
    path.write_text(json.dumps({"images": images}, ensure_ascii=False), encoding="utf-16")
    assert path.stat().st_size > 4 * CHUNK
    assert len(list_photos(path)) == 20_000


def test_lvis_names_its_photos_by_their_addresses(tmp_path: Path) -> None:
    content = make_listing()
    for entry in content["images"]:
        name = entry.pop("file_name")
        entry["coco_url"] = f"http://images.cocodataset.org/val2017/{name}"
    content["images"][0]["file_name"] = None
    path = write(tmp_path, content)
    root = "http://images.cocodataset.org/val2017/"
    assert [photo.file_name for photo in list_photos(path)] == [f"{root}{n}.jpg" for n in "abcde"]
    assert [photo.file_name for photo in list_photos(path, ["cat"])] == [
        f"{root}a.jpg",
        f"{root}b.jpg",
    ]


@pytest.mark.parametrize("kind", ["panoptic", "captions"])
def test_annotations_without_categories_of_their_own_name_the_photos(
    tmp_path: Path, kind: str
) -> None:
    content = make_listing()
    segments = {"file_name": "a.png", "segments_info": [{"id": 7, "category_id": 17, "area": 1}]}
    more = segments if kind == "panoptic" else {"id": 1, "caption": "A cat."}
    content["annotations"] = [{"image_id": 41, **more}, {"image_id": 74, **more}]
    path = write(tmp_path, content)
    assert names(list_photos(path)) == "a b c d e"
    assert error_of(path, "cat") == (
        f"{path}: no annotation has a category_id; to choose by category, give COCO's instances "
        "file"
    )


@pytest.mark.parametrize("annotations", [None, [], {}, "none", [7], [{"bbox": [1, 2, 3, 4]}]])
def test_annotations_do_not_matter_for_names(tmp_path: Path, annotations: Any) -> None:
    content = {**make_listing(), "annotations": annotations, "categories": None}
    assert names(list_photos(write(tmp_path, content))) == "a b c d e"


# --- Ids ---


def test_ids_are_not_needed_for_names(tmp_path: Path) -> None:
    content = make_listing()
    for entry in content["images"]:
        entry["id"] = 0
    assert names(list_photos(write(tmp_path, content))) == "a b c d e"
    for number, entry in enumerate(content["images"]):
        entry.update({"id": [number]} if number else {"id": None})
    del (
        content["annotations"][0]["image_id"],
        content["annotations"][1]["category_id"],
        content["categories"],
    )
    assert names(list_photos(write(tmp_path, content))) == "a b c d e"


def test_repeated_image_ids_do_not_choose_photos(tmp_path: Path) -> None:
    content = make_listing()
    content["images"][0]["id"] = content["images"][1]["id"]
    error = error_of(write(tmp_path, content), "cat")
    assert "is damaged (ValueError: 'd.jpg' and 'a.jpg' have the same id 41)" in error
    content["images"][0]["file_name"] = (
        "a.jpg"  # the same photo listed twice: the id is still that of one photo
    )
    assert names(list_photos(write(tmp_path, content), ["cat"])) == "a b"


def test_repeated_category_ids_do_not_choose_photos(tmp_path: Path) -> None:
    content = make_listing()
    content["categories"][3]["id"] = 17  # dog, the id of cat
    error = error_of(write(tmp_path, content), "dog")
    assert "is damaged (ValueError: 'cat' and 'dog' have the same id 17)" in error


@pytest.mark.parametrize("wrong", ["17", None, [17]])
def test_an_annotation_whose_category_cannot_be_known_is_damage(tmp_path: Path, wrong: Any) -> None:
    content = make_listing()
    content["annotations"][0]["category_id"] = wrong  # a shows its cat here only
    assert "is damaged (ValueError: an annotation's category_id is" in error_of(
        write(tmp_path, content), "cat"
    )


def test_an_annotation_without_image_is_damage(tmp_path: Path) -> None:
    content = make_listing()
    del content["annotations"][0]["image_id"]
    assert "is damaged (KeyError: 'image_id')" in error_of(write(tmp_path, content), "cat")


# --- The file as a stream ---


def test_categories_may_come_before_the_images(tmp_path: Path) -> None:
    content = dict(reversed(make_listing().items()))
    assert next(iter(content)) == "categories"
    assert names(list_photos(write(tmp_path, content), ["dog"])) == "b c"


def test_fields_of_the_same_names_deeper_inside_do_not_count(tmp_path: Path) -> None:
    content = make_listing()
    inside = {
        "file_name": "z.jpg",
        "id": 5,
        "image_id": 41,
        "category_id": 18,
        "images": [{"file_name": "y.jpg"}],
    }
    content["info"] = inside
    content["images"][0]["extra"] = content["annotations"][0]["segments_info"] = [inside, [inside]]
    path = write(tmp_path, content)
    assert names(list_photos(path)) == "a b c d e"
    assert names(list_photos(path, ["dog"])) == "b c"


def test_a_byte_order_mark_is_passed_over(listing: Path) -> None:
    listing.write_bytes(b"\xef\xbb\xbf" + listing.read_bytes())
    assert names(list_photos(listing)) == "a b c d e"


def test_what_is_nested_deeply_beside_the_names_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    deep = "[" * 200_000 + "]" * 200_000
    path.write_text(f'{{"info": {deep}, "images": [{{"file_name": "a.jpg", "id": 1}}]}}')
    assert names(list_photos(path)) == "a"


@pytest.mark.parametrize("category", ["cat", "dog", "bicycle"])
def test_pycocotools_chooses_the_same(listing: Path, category: str) -> None:
    from pycocotools.coco import COCO

    coco = COCO(listing)
    expected = {
        coco.imgs[image]["file_name"] for image in coco.getImgIds(catIds=coco.getCatIds([category]))
    }
    assert {photo.file_name for photo in list_photos(listing, [category])} == expected


def test_no_list_of_outlines_is_kept(tmp_path: Path) -> None:
    content = make_listing()
    content["annotations"] = [
        {"id": i, "image_id": 41, "category_id": 17, "segmentation": [[0.5] * 2000]}
        for i in range(500)
    ]
    path = write(tmp_path, content)
    tracemalloc.start()
    try:
        assert names(list_photos(path, ["cat"])) == "a"
        assert (
            tracemalloc.get_traced_memory()[1] < path.stat().st_size
        )  # the text itself would be more than that
    finally:
        tracemalloc.stop()


# --- What is no annotation file ---


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    assert error_of(missing) == f"{missing}: cannot be read: No such file or directory"
    assert error_of(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x01",
        b"\xff\xfe{}",
        b'{"images": [{"id": 1, ',
        b"[" * 200_000,
        b"[]",
        b"7",
        b'{"images": null}',
        b'{"images": [7]}',
        b'{"images": 7}',
        b'{"images": {"a": {"file_name": "a.jpg"}}}',
        b'{"images": [[{"file_name": "a.jpg"}]]}',
        b'{"images": [{"file_name": "a.jpg"}]} {"images": []}',
        b'{"images": [{"file_name": "a.jpg"}], "images": []}',
        b'{"images": [{"file_name": "a.jpg"}], "annotations": [{"area": NaN}]}',
        b'{"images": [{"file_name": "a.jpg"}], "annotations": [{"area": 1e999}]}',
        b'{"images": [{"file_name": "a.jpg"}], "annotations": [{"area": ' + b"9" * 5000 + b"}]}",
        b'{"images": [{"file_name": "a.jpg"}], "annotations": [{"id": 1, ',
        b'{"images": [{"file_name": "gr\xf6\xdfe.jpg"}]}',
        b'{"images": [{"id": 1}]}',
        b'{"images": [{"id": 1, "file_name": null}]}',
        b'{"images": [{"id": 1, "file_name": 7}]}',
        b'{"images": [{"id": 1, "file_name": ["a.jpg"]}]}',
    ],
    ids=lambda content: content[:30].decode("latin-1"),
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.json"
    path.write_bytes(content)
    error = error_of(path)
    assert error.startswith(f"{path}: is not a COCO annotation file, or is damaged (")
    assert error.endswith("); give an instances or captions file")
    assert "\n" not in error


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (gzip.compress(b'{"images": []}'), "a gzip file"),
        (b"<!DOCTYPE html>\n<html>404</html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"PK\3\4" + bytes(30), "a zip archive, or a document made as one"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(
    tmp_path: Path, content: bytes, kind: str
) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)
    said = f"{path}: is not a COCO annotation file, or is damaged (it is {kind}); give "
    assert error_of(path) == f"{said}an instances or captions file"
    assert error_of(path, "cat") == f"{said}COCO's instances file"


def test_annotations_of_photos_that_are_not_listed_are_said(tmp_path: Path) -> None:
    content = make_listing()
    for number in 1, 2, 2:
        content["annotations"].append({"id": 99, "image_id": number, "category_id": 17})
    path = write(tmp_path, content)
    said = f"the annotations in {path} name 2 images that are not listed there, such as 1"
    listing = read_listing(path, ["cat"])
    assert (names(listing.photos), listing.remarks) == ("a b", [said])
    listing = read_listing(path, ["dog"])
    assert (names(listing.photos), listing.remarks) == ("b c", [])
    assert read_listing(path).remarks == []


def test_ids_of_another_kind_than_those_of_the_images_are_said(tmp_path: Path) -> None:
    content = make_listing()
    for entry in content["annotations"]:
        entry["image_id"] = str(entry["image_id"])
    path = write(tmp_path, content)
    assert error_of(path, "dog") == (
        f"{path}: lists no photos that show dog; the annotations in {path} name 2 images that are "
        "not listed there, such as '63'"
    )
    assert names(list_photos(path)) == "a b c d e"


def test_an_annotation_whose_image_cannot_be_known_is_damage(tmp_path: Path) -> None:
    content = make_listing()
    content["annotations"][0]["image_id"] = None
    assert "(TypeError: an annotation's image_id is None)" in error_of(
        write(tmp_path, content), "cat"
    )


def test_a_category_without_name_is_damage(tmp_path: Path) -> None:
    content = make_listing()
    del content["categories"][0]["name"]
    path = write(tmp_path, content)
    assert "is damaged (KeyError: 'name')" in error_of(path, "cat")
