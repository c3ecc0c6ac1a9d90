"""Addresses: which are taken, what they mean, and that nothing secret is shown of them."""

from pathlib import Path

import pytest
from photo_files import error_of

from vggnorm.photos.addresses import parse_location, without_secrets
from vggnorm.photos.finding import find_photos


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///data/coco", "/data/coco"),
        ("file://localhost/data/coco", "/data/coco"),
        ("file:///data/a%20b#c?d", "/data/a b#c?d"),
    ],
)
def test_addresses_of_files_are_paths(address: str, path: str) -> None:
    assert parse_location(address) == Path(path)


@pytest.mark.parametrize("address", ["file://coco/val2017", "file://photos", "file://~/coco"])
def test_what_names_another_machine_is_no_path_here(address: str) -> None:
    assert error_of(find_photos, address) == (
        f"{address}: names another machine; give the whole path, as in file:///data/coco"
    )


@pytest.mark.parametrize(
    "address",
    ["https://user:se/cret@host/a.zip", "http://:80/a.zip", "http://host:port/a.zip"],
)
def test_a_host_that_cannot_be_told_is_not_quoted(address: str) -> None:
    error = error_of(find_photos, address)
    assert error.startswith("the host of an http address cannot be told; ")
    assert "cret" not in error


def test_passwords_with_an_at_sign_are_left_out() -> None:
    text = "Cannot connect to https://user:p@ss@host/a.zip?token=1 now"
    assert without_secrets(text) == "Cannot connect to https://host/a.zip now"


def test_braces_count_as_in_a_shell(tmp_path: Path) -> None:
    from vggnorm.photos.opening import _expand

    assert _expand(str(tmp_path / "s-{8..10}.tar"))[0] == str(tmp_path / "s-8.tar")
    assert _expand(str(tmp_path / "s-{0..10}.tar"))[:2] == [
        str(tmp_path / "s-0.tar"),
        str(tmp_path / "s-1.tar"),
    ]
    assert _expand(str(tmp_path / "s-{008..011}.tar"))[-1] == str(tmp_path / "s-011.tar")
