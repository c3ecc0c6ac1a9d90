"""Photos in a bucket, on a server of moto."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_files import FILES, SMALL, take_all, tar_bytes, write_folder, zip_bytes
from photo_files import error_of

from vggnorm.photos import remote
from vggnorm.photos.finding import find_photos
from vggnorm.photos.reader import PhotoReader

s3fs = pytest.importorskip("s3fs", reason="pip install 'vggnorm[s3]'")
moto_server = pytest.importorskip("moto.server", reason="pip install 'moto[server]'")

# Packages of Amazon warn of what comes in later versions.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server of buckets."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A client of s3fs; there is an empty bucket called `photos`."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    remote._file_system.cache_clear()  # noqa: SLF001  (of another test's server)
    s3fs.S3FileSystem.clear_instance_cache()
    client = s3fs.S3FileSystem(use_listings_cache=False)
    if client.exists("photos"):
        client.rm("photos", recursive=True)
    client.mkdir("photos")
    return client


def fill(bucket: Any, folder: str = "photos/coco", files: dict[str, bytes] = FILES) -> None:
    for name, content in files.items():
        bucket.pipe_file(f"{folder}/{name}", content)


@pytest.mark.parametrize("address", ["s3://photos/coco/", "s3://photos/coco"])
def test_a_bucket_gives_what_its_folder_gives(bucket: Any, tmp_path: Path, address: str) -> None:
    fill(bucket)
    fill(bucket, "photos/coco2")  # another folder, whose name begins in the same way
    loose = find_photos(write_folder(tmp_path / "photos"))
    photos = find_photos(address)
    assert photos.names == loose.names
    assert photos.sha256() == loose.sha256()
    assert take_all(photos) == take_all(loose)
    assert photos.source.label == address
    assert photos.source.locate("a.jpg") == "s3://photos/coco/a.jpg"
    assert photos.source.is_remote


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_an_archive_in_a_bucket(bucket: Any, tmp_path: Path, name: str) -> None:
    bucket.pipe_file(f"photos/{name}", zip_bytes() if name.endswith("zip") else tar_bytes())
    loose = find_photos(write_folder(tmp_path / "photos"))
    for _ in range(2):  # the second time, the list of the tar is in the cache folder
        photos = find_photos(f"s3://photos/{name}")
        assert photos.sha256() == loose.sha256()
        assert take_all(photos) == take_all(loose)


def test_what_a_file_begins_with_decides_where_its_name_does_not(bucket: Any) -> None:
    photo = FILES["a.jpg"]
    files = {"a.jfif": photo, "b": photo, "c.jpg_large": b"<html>", "LICENSE": b"", "d.txt": photo}
    fill(bucket, files=files)
    bucket.pipe_file("photos/a.zip", zip_bytes(files))
    bucket.pipe_file("photos/a.tar", tar_bytes(files))
    for address in "s3://photos/coco/", "s3://photos/a.zip", "s3://photos/a.tar":
        photos = find_photos(address)
        assert photos.names == ("a.jfif", "b")
        assert photos.describe()[-1] == (
            f"left out 3 files in {photos.source.locate()}, not read as photos: 2 without a usual "
            "ending, 1 .txt"
        )


def test_a_photo_that_is_gone_or_has_another_size_ends_the_run(bucket: Any) -> None:
    fill(bucket)
    photos = find_photos("s3://photos/coco/")
    for content in FILES["a.jpg"][:-1], FILES["a.jpg"] + b"x", b"":
        bucket.pipe_file("photos/coco/a.jpg", content)
        error = error_of(take_all, photos)
        assert error.startswith("s3://photos/coco/a.jpg: has changed since the photos were listed;")
    bucket.rm("photos/coco/a.jpg")
    error = error_of(take_all, photos)
    assert error.startswith("s3://photos/coco/a.jpg: is gone since the photos were listed; put it")


def test_a_folder_that_is_gone_ends_the_run(bucket: Any) -> None:
    fill(bucket)
    reader = PhotoReader(find_photos("s3://photos/coco/"), SMALL)
    bucket.rm("photos/coco", recursive=True)
    error = error_of(list, reader.batches(10))
    assert error.startswith("s3://photos/coco/: is gone, or another one is in its place")


def test_a_photo_that_may_not_be_read_is_skipped(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket)
    photos = find_photos("s3://photos/coco/")
    refuse(monkeypatch, "a.jpg")
    taken = take_all(photos)
    assert taken.used == 3
    assert taken.skipped[0].photo == "a.jpg"
    assert taken.skipped[0].reason == "cannot be read: the server does not permit it to be read"


def test_a_folder_that_may_no_longer_be_listed_ends_the_run(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As when credentials expire: else, all photos that are left would be skipped.
    fill(bucket)
    photos = find_photos("s3://photos/coco/")

    def expire(*_arguments: object, **_options: object) -> None:
        raise PermissionError("Access Denied")

    reader_is_made = threading.Event()
    client = remote._file_system("s3")  # noqa: SLF001
    info = client.info

    def info_at_first(*arguments: Any) -> Any:
        if reader_is_made.is_set():
            expire()
        reader_is_made.set()
        return info(*arguments)

    monkeypatch.setattr(client, "info", info_at_first)
    refuse(monkeypatch, "a.jpg")
    error = error_of(take_all, photos)
    assert error == (
        "s3://photos/coco/: cannot be listed: the server does not permit it to be read"
    )


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the server refuse to give one file, as s3fs tells it."""
    client = remote._file_system("s3")  # noqa: SLF001
    cat_file = client.cat_file

    def cat_others(path: str, **options: Any) -> Any:
        if path.endswith(name):
            raise PermissionError("Access Denied")
        return cat_file(path, **options)

    monkeypatch.setattr(client, "cat_file", cat_others)


@pytest.mark.usefixtures("bucket")
def test_what_is_not_there_is_refused() -> None:
    error = error_of(find_photos, "s3://photos/none")
    assert error.startswith("s3://photos/none/: holds no images")
    error = error_of(find_photos, "s3://nowhere/coco/")
    assert error.startswith("s3://nowhere/coco/: cannot be listed: ")
    assert "The specified bucket does not exist" in error
    error = error_of(find_photos, "s3://photos/none.tar")
    assert error == "s3://photos/none.tar: cannot be read: there is no such file"


def test_nobody_who_is_known_is_refused(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(bucket)
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    remote._file_system.cache_clear()  # noqa: SLF001
    s3fs.S3FileSystem.clear_instance_cache()
    error = error_of(find_photos, "s3://photos/coco/")
    assert error == (
        f"s3://photos/coco/: cannot be listed: Unable to locate credentials ({remote.TRIES} tries)"
    )
