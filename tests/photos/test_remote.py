"""Photos on other machines, fetched from servers on this one."""

import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_files import FILES, SMALL, take_all, tar_bytes, write, write_folder, zip_bytes
from photo_files import error_of, write_listing
from photo_server import Served, serving

from vggnorm.errors import PhotoError
from vggnorm.photos import ahead, remote
from vggnorm.photos.addresses import Address
from vggnorm.photos.coco import list_photos
from vggnorm.photos.finding import find_photos
from vggnorm.photos.places import Places
from vggnorm.photos.reader import PhotoReader

pytest.importorskip("aiohttp", reason="pip install 'vggnorm[http]'")

SECRETS = "sig=4711"


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wait for no second try, and keep the lists of tars in a folder of the test."""
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def serve(served: Served, name: str, files: dict[str, bytes] = FILES) -> str:
    """Serve an archive; return its address."""
    served.files[f"/{name}"] = zip_bytes(files) if name.endswith(".zip") else tar_bytes(files)
    return f"{served.url}/{name}"


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_an_archive_on_a_server_gives_what_its_folder_gives(
    served: Served, tmp_path: Path, name: str
) -> None:
    loose = find_photos(write_folder(tmp_path / "photos"))
    address = serve(served, name)
    photos = find_photos(f"{address}?{SECRETS}")
    assert photos.names == loose.names
    assert photos.sha256() == loose.sha256()
    assert take_all(photos) == take_all(loose)
    assert photos.source.is_remote
    assert photos.source.label == photos.source.locate() == address
    assert photos.source.locate("a.jpg") == f"{address}/a.jpg"
    assert SECRETS not in " ".join(photos.describe())


def test_several_archives_on_a_server(served: Served) -> None:
    for number in range(3):
        serve(served, f"x/shard-{number}.tar", {"a.jpg": FILES["a.jpg"]})
    photos = find_photos(f"{served.url}/x/shard-{{0..2}}.tar")
    assert photos.names == tuple(f"shard-{number}.tar/a.jpg" for number in range(3))
    assert photos.source.locate(photos.names[1]) == f"{served.url}/x/shard-1.tar/a.jpg"
    assert take_all(photos).used == 3


def test_a_zip_is_listed_in_few_requests(served: Served) -> None:
    address = serve(served, "a.zip", {f"{number}.jpg": b"" for number in range(2000)})
    assert len(find_photos(address).names) == 2000
    # The size; whether there are ranges; the directory's end, its comment, and the directory.
    assert served.requests["HEAD"] == 1
    assert served.requests["GET"] <= 6


def test_the_list_of_a_tar_is_kept(served: Served, tmp_path: Path) -> None:
    address = serve(served, "a.tar")
    first = find_photos(f"{address}?{SECRETS}")
    served.requests.clear()
    second = find_photos(f"{address}?{SECRETS}")
    assert served.requests == {"HEAD": 1}
    assert (second.names, second.sha256()) == (first.names, first.sha256())
    assert take_all(second) == take_all(first)
    kept = list((tmp_path / "cache" / "vggnorm" / "tar").iterdir())
    assert len(kept) == 1
    assert SECRETS not in kept[0].name + kept[0].read_text()
    # Another query may name another archive, so that its list is made anew.
    find_photos(f"{address}?id=2")
    assert len(list((tmp_path / "cache" / "vggnorm" / "tar").iterdir())) == 2
    # A list that is damaged is made anew.
    for path in (tmp_path / "cache" / "vggnorm" / "tar").iterdir():
        path.write_text('{"entries": [["x"]]}')
    assert find_photos(address).names == first.names


@pytest.mark.parametrize(("version", "next_version"), [("1", "2"), ("", "")])
def test_another_tar_of_the_same_size_is_listed_anew(
    served: Served, version: str, next_version: str
) -> None:
    served.version = version
    address = serve(served, "a.tar", {"a.jpg": FILES["a.jpg"]})
    assert find_photos(address).names == ("a.jpg",)
    size = len(served.files["/a.tar"])
    served.version = next_version
    serve(served, "a.tar", {"b.jpg": FILES["a.jpg"]})
    assert len(served.files["/a.tar"]) == size
    assert find_photos(address).names == ("b.jpg",)


def test_lists_are_not_kept_where_nothing_can_be_written(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(write(tmp_path / "file", b"")))
    assert "a.jpg" in find_photos(serve(served, "a.tar")).names


def test_a_user_without_a_home_folder_keeps_no_lists(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def have_none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", have_none)
    photos = find_photos(serve(served, "a.tar"))
    assert photos.names


def test_annotations_have_an_address(served: Served, tmp_path: Path) -> None:
    served.files["/x/list.json"] = write_listing(tmp_path, "b.png").read_bytes()
    address = f"{served.url}/x/list.json"
    photos = find_photos(serve(served, "a.zip"), annotations=f"{address}?{SECRETS}")
    assert photos.names == ("sub/b.png",)
    assert photos.annotations is not None
    assert (photos.annotations.name, str(photos.annotations)) == ("list.json", address)
    del served.files["/x/list.json"]
    error = error_of(list_photos, Address(f"{address}?{SECRETS}"))
    assert error == f"{address}: cannot be read: there is no such file"


# Failures


def test_a_server_that_is_busy_for_a_while_is_asked_again(served: Served) -> None:
    photos = find_photos(serve(served, "a.zip"))
    served.failures = [503, 500, 429, 408]
    assert take_all(photos).used == 4
    assert served.failures == []


def test_an_answer_that_is_cut_short_is_asked_for_again(served: Served) -> None:
    photos = find_photos(serve(served, "a.zip"))
    served.cut = 3
    assert take_all(photos).used == 4


def test_what_cannot_be_fetched_ends_the_run(served: Served) -> None:
    address = serve(served, "a.zip")
    photos = find_photos(f"{address}?{SECRETS}")
    served.failures = [503] * 1000
    error = error_of(take_all, photos)
    assert error == (
        f"{address}/a.jpg: cannot be read: the server answers 503 ({remote.TRIES} tries); mend "
        "that and run the same command again; it goes on from the checkpoint, if there is one"
    )


def test_what_is_refused_for_good_is_not_tried_again(served: Served) -> None:
    photos = find_photos(serve(served, "a.zip"))
    served.failures = [400] * 1000
    assert "a.jpg: cannot be read: the server answers 400; mend that" in error_of(take_all, photos)
    # Each photo was asked for once, and then whether the archive has changed: by HEAD, and by GET.
    assert 1000 - len(served.failures) <= 3 * len(photos.names)


def test_a_server_that_is_gone_ends_the_run() -> None:
    with serving() as served:
        photos = find_photos(f"{serve(served, 'a.zip')}?{SECRETS}")
    error = error_of(take_all, photos)
    assert error.startswith(f"{served.url}/a.zip/")
    assert ": cannot be read: " in error
    assert error.endswith("it goes on from the checkpoint, if there is one")
    assert SECRETS not in error


@pytest.mark.parametrize("status", [401, 403])
def test_an_archive_that_may_no_longer_be_read_ends_the_run(served: Served, status: int) -> None:
    address = serve(served, "a.zip")
    photos = find_photos(address)
    served.failures = [status] * 1000
    error = error_of(take_all, photos)
    assert error.startswith(
        f"{address}/a.jpg: cannot be read: the server does not permit it to be read; mend that and"
    )
    assert 1000 - len(served.failures) <= len(photos.names)  # nothing was tried twice


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_an_archive_that_is_gone_or_another_one_ends_the_run(served: Served, name: str) -> None:
    address = serve(served, name)
    photos = find_photos(address)
    serve(served, name, {"x.jpg": b"x" * 999} | FILES)
    served.version = "2"
    error = error_of(take_all, photos)
    assert error.startswith(f"{address}/a.jpg: has changed since the photos were listed; put it")
    served.files.clear()
    error = error_of(take_all, photos)
    assert error.startswith(f"{address}/a.jpg: is gone since the photos were listed; put it back")


def test_an_archive_that_changes_while_it_is_listed_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve(served, "a.tar")

    def change(*_arguments: object) -> None:
        served.files["/a.tar"] = served.files["/a.tar"][:600]

    monkeypatch.setattr(remote, "require_ranges", change)
    error = error_of(find_photos, address)
    assert error == f"{address}: cannot be read: it has changed since it was opened"


def test_a_damaged_photo_is_skipped(served: Served) -> None:
    address = serve(served, "a.zip")
    whole = served.files["/a.zip"]
    served.files["/a.zip"] = whole.replace(FILES["a.jpg"], FILES["a.jpg"][:-1] + b"?", 1)
    taken = take_all(find_photos(address))
    assert taken.used == 3
    assert taken.skipped[0].photo == "a.jpg"
    assert taken.skipped[0].reason == "is damaged: its checksum is wrong"


def test_a_server_without_ranges_is_refused(served: Served) -> None:
    address = serve(served, "a.zip")
    served.with_ranges = False
    error = error_of(find_photos, address)
    assert error == f"{address}: cannot be read: the server sends no parts of a file"


def test_a_server_that_stops_sending_ranges_ends_the_run(served: Served) -> None:
    photos = find_photos(serve(served, "a.zip"))
    served.with_ranges = False
    error = error_of(take_all, photos)
    assert "cannot be read: the server sends all of the file for a part of it; mend" in error


def test_a_file_without_a_size_is_refused(served: Served) -> None:
    address = serve(served, "a.zip")
    served.with_size = False
    error = error_of(find_photos, address)
    assert error == (
        f"{address}: cannot be read: the server does not tell its size or sends no parts of it"
    )


def test_what_is_not_there_is_refused_at_once(served: Served) -> None:
    error = error_of(find_photos, f"{served.url}/none.zip?{SECRETS}")
    assert error == f"{served.url}/none.zip: cannot be read: there is no such file"
    served.password = SECRETS
    address = serve(served, "a.zip")
    error = error_of(find_photos, f"{address}?sig=wrong")
    assert error == f"{address}: cannot be read: the server does not permit it to be read"
    assert find_photos(f"{address}?{SECRETS}").names
    assert served.requests["HEAD"] == 3


# Latency, and what is secret


def test_photos_are_fetched_ahead_of_few_threads_that_decode(served: Served) -> None:
    files = {f"{number:03}.jpg": FILES["a.jpg"] for number in range(96)}
    photos = find_photos(serve(served, "a.zip", files))
    served.latency = 0.05
    list(PhotoReader(photos, SMALL, threads=1).batches(1))
    assert 8 < served.at_a_time <= ahead.AT_A_TIME  # one thread alone would ask for one


def test_not_more_is_fetched_ahead_than_memory_allows(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = find_photos(
        serve(served, "a.zip", {f"{number:03}.jpg": FILES["a.jpg"] for number in range(40)})
    )
    monkeypatch.setattr(ahead, "MAX_AHEAD_SIZE", 3 * len(FILES["a.jpg"]))
    served.latency = 0.01
    (batch,) = PhotoReader(photos, SMALL, threads=1).batches(64)
    assert batch.taken.used == 40
    assert served.at_a_time <= 4


def test_a_reader_that_is_closed_early_ends_its_threads(served: Served) -> None:
    photos = find_photos(
        serve(served, "a.zip", {f"{number:03}.jpg": FILES["a.jpg"] for number in range(300)})
    )
    batches = PhotoReader(photos, SMALL, threads=2).batches(2)
    next(batches)
    batches.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("fetch", "decode"))]
    before = served.requests.total()
    time.sleep(0.05)
    assert served.requests.total() == before


def test_an_address_with_a_secret_is_not_sent_to_other_processes(served: Served) -> None:
    address = serve(served, "a.zip")
    source = pickle.loads(pickle.dumps(find_photos(address))).source
    assert isinstance(source, Places)
    assert source.places["a.jpg"].read() == FILES["a.jpg"]
    secret = find_photos(f"{address}?{SECRETS}")
    with pytest.raises(PhotoError) as caught:
        pickle.dumps(secret)
    assert str(caught.value) == (
        f"{address}: the user, password or query in this address is not sent to other processes; "
        "give an address without them"
    )
    assert SECRETS not in repr(secret)


@pytest.mark.parametrize(
    ("url", "shown", "name"),
    [
        ("https://me:word@host:8000/a/b.zip?k=v#f", "https://host:8000/a/b.zip", "b.zip"),
        ("https://host/b.zip", "https://host/b.zip", "b.zip"),
        ("s3://bucket/a?b/c#d/", "s3://bucket/a?b/c#d/", "c#d"),
        ("s3://key:secret@bucket/x@y", "s3://bucket/x@y", "x@y"),
        ("hf://datasets/a/b@main/x.zip", "hf://datasets/a/b@main/x.zip", "x.zip"),
    ],
)
def test_addresses_are_shown_without_secrets(url: str, shown: str, name: str) -> None:
    address = Address(url)
    assert (str(address), address.name, repr(address)) == (shown, name, f"Address({shown!r})")
