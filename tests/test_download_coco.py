"""scripts/download_coco.py against a small COCO, served from this machine."""

import errno
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from vggnorm.coco import ListedPhoto, list_photos

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "download_coco.py"
NAMES = [f"{number:012}.jpg" for number in range(1, 11)]
ZIP = "annotations_trainval2017.zip"


@dataclass
class Served:
    """What the server has, how it misbehaves (by path), and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)  # path: how many more answers are cut short
    busy: dict[str, int] = field(default_factory=dict)  # path: how many more answers are 503
    endless: set[str] = field(default_factory=set)  # sent without a length
    stalled: set[str] = field(default_factory=set)  # half sent, until `released`
    ranges: bool = True
    requests: Counter[str] = field(default_factory=Counter)
    starts: list[int] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """Answers from `served`."""

    served: Served

    def do_GET(self) -> None:
        """Send a file, or what was asked for in its place."""
        served, path = self.served, self.path
        served.requests[path] += 1
        if path not in served.files:
            self.send_error(404)
        elif served.busy.get(path, 0):
            served.busy[path] -= 1
            self.send_error(503)
        else:
            self.send_file(path, served.files[path])

    def send_file(self, path: str, content: bytes) -> None:
        """Send a file from the byte asked for, whole or cut."""
        served = self.served
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and served.ranges else 0
        served.starts.append(start)
        if start >= len(content):
            self.send_error(416)
            return
        rest = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if path not in served.endless:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if served.cut.get(path, 0):
            served.cut[path] -= 1
            rest = rest[: len(rest) // 2]
        if path in served.stalled:
            self.wfile.write(rest[: len(rest) // 2])
            served.released.wait(20)
            return
        self.wfile.write(rest)

    def log_message(self, *_arguments: Any) -> None:
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """One that all workers can call at the same time."""

    request_queue_size = 64  # past the 5 of http.server, a caller waits a second


def make_photo(width: int, height: int, seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def make_listing() -> dict[str, Any]:
    """Ten photos: cats on 1 to 3, dogs on 3 and 4, a bicycle on 5; no annotation on the others."""
    shown = [(1, 17), (2, 17), (2, 17), (3, 17), (3, 18), (4, 18), (5, 2)]
    return {
        "images": [  # not in the order of their names
            {"id": number, "file_name": NAMES[number - 1], "width": 24 + number, "height": 16}
            for number in (7, 3, 1, 10, 2, 9, 4, 8, 6, 5)
        ],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category}
            for number, (image, category) in enumerate(shown, 1)
        ],
        "categories": [
            {"id": 2, "name": "bicycle"},
            {"id": 17, "name": "cat"},
            {"id": 18, "name": "dog"},
        ],
    }


def make_zip(listing: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:  # stored, so that half of it is many bytes
        archive.writestr("annotations/captions_val2017.json", "{}")
        archive.writestr("annotations/instances_val2017.json", json.dumps(listing))
    return out.getvalue()


@pytest.fixture
def coco(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with next to no pause between tries."""
    spec = importlib.util.spec_from_file_location("download_coco", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAUSES", (0.001, 0.001, 0.001))
    return module


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A small COCO on a server of its own."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Served()
    for number, name in enumerate(NAMES, 1):
        served.files[f"/val2017/{name}"] = make_photo(24 + number, 16, number)
    served.files[f"/annotations/{ZIP}"] = make_zip(make_listing())
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"served": served}))
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield served
    served.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    path = tmp_path / "listing.json"
    path.write_text(json.dumps(make_listing()))
    return path


def run(coco: ModuleType, folder: Path, served: Served, *options: object) -> Result:
    arguments = [str(folder), "--base-url", served.url, *map(str, options)]
    result = CliRunner().invoke(coco.main, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def error_of(result: Result) -> str:
    """The one line that a refused run leaves."""
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def names_in(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def summary(folder: Path, fetched: int, there: int, failed: int) -> str:
    """What a run that came to the photos prints."""
    return f"{folder}/val2017: {fetched} photos fetched, {there} already there, {failed} failed\n"


# --- What comes down ---


def test_everything_comes_byte_for_byte_in_cocos_layout(coco: ModuleType, served: Served, tmp_path: Path) -> None:
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
    assert json.loads((folder / "annotations" / "instances_val2017.json").read_text()) == make_listing()
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


def test_category_downloads_only_those(coco: ModuleType, served: Served, listing: Path, tmp_path: Path) -> None:
    options = ("--annotations", listing, "--category", "dog", "--category", "bicycle")
    result = run(coco, tmp_path / "coco", served, *options)
    assert result.stdout == summary(tmp_path / "coco", 3, 0, 0)
    assert names_in(tmp_path / "coco" / "val2017") == NAMES[2:5]


def test_what_list_photos_refuses_is_one_line(coco: ModuleType, served: Served, listing: Path, tmp_path: Path) -> None:
    result = run(coco, tmp_path / "coco", served, "--annotations", listing, "--category", "zzz")
    assert error_of(result) == f"Error: {listing}: has no category 'zzz'; there are bicycle, cat, dog\n"
    listing.write_text("[]")
    result = run(coco, tmp_path / "coco", served, "--annotations", listing)
    assert error_of(result).startswith(f"Error: {listing}: is no COCO annotation file, or a damaged one (")
    assert served.requests == {}


# --- Going on ---


def test_what_is_there_is_not_fetched_again(coco: ModuleType, served: Served, tmp_path: Path) -> None:
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
    (photos / NAMES[7]).write_bytes(b"mine")  # what has a final name is taken as whole
    served.requests.clear()
    result = run(coco, tmp_path, served)
    assert result.stdout == summary(tmp_path, 2, 8, 0)
    assert served.requests == {f"/val2017/{NAMES[2]}": 1, f"/val2017/{NAMES[5]}": 1}
    assert (photos / NAMES[5]).read_bytes() == served.files[f"/val2017/{NAMES[5]}"]
    assert (photos / NAMES[7]).read_bytes() == b"mine"


# --- What goes wrong with a photo ---


def assert_one_fails(coco: ModuleType, served: Served, folder: Path, listing: Path, reason: str) -> None:
    """The first photo fails for `reason`; the others come."""
    result = run(coco, folder, served, "--annotations", listing)
    assert result.exit_code == 1
    assert result.stdout == summary(folder, 9, 0, 1)
    failed, error = result.stderr.splitlines()
    assert failed == f"Failed: {served.url}/val2017/{NAMES[0]}: {reason}"
    assert error == "Error: 1 of 10 photos failed; run the same command again to fetch the rest"
    assert names_in(folder / "val2017") == NAMES[1:]


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


def test_what_passes_is_tried_again(coco: ModuleType, served: Served, listing: Path, tmp_path: Path) -> None:
    served.cut[f"/val2017/{NAMES[0]}"] = 1
    served.busy[f"/val2017/{NAMES[1]}"] = 3
    result = run(coco, tmp_path / "coco", served, "--annotations", listing)
    assert result.exit_code == 0
    assert served.requests[f"/val2017/{NAMES[0]}"] == 2
    assert served.requests[f"/val2017/{NAMES[1]}"] == 4
    for name in NAMES:
        assert (tmp_path / "coco" / "val2017" / name).read_bytes() == served.files[f"/val2017/{name}"]


def test_a_missing_photo_is_asked_for_once(coco: ModuleType, served: Served, listing: Path, tmp_path: Path) -> None:
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


def test_a_length_must_be_told(coco: ModuleType, served: Served, listing: Path, tmp_path: Path) -> None:
    served.endless.add(f"/val2017/{NAMES[0]}")
    reason = "the server does not tell the length, so a short file would not show"
    assert_one_fails(coco, served, tmp_path / "coco", listing, reason)


def test_too_large_a_photo_is_refused(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "LARGEST_PHOTO", 1 << 20)
    served.files[f"/val2017/{NAMES[0]}"] += bytes(1 << 20)
    assert_one_fails(coco, served, tmp_path / "coco", listing, "larger than 1 MiB, so not a photo of COCO's")


def test_a_photo_without_given_size_is_taken(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    listing = tmp_path / "listing.json"
    images = [{"id": 1, "file_name": NAMES[0]}, {"id": 2, "file_name": NAMES[1], "width": None}]
    listing.write_text(json.dumps({"images": images}))
    result = run(coco, tmp_path / "coco", served, "--annotations", listing)
    assert result.stdout == summary(tmp_path / "coco", 2, 0, 0)


def test_few_of_many_failures_are_named(coco: ModuleType, served: Served, listing: Path, tmp_path: Path) -> None:
    for name in NAMES[:8]:
        del served.files[f"/val2017/{name}"]
    result = run(coco, tmp_path / "coco", served, "--annotations", listing)
    assert result.stdout == summary(tmp_path / "coco", 2, 0, 8)
    *named, more, error = result.stderr.splitlines()
    assert len(named) == 5
    assert more == "and 3 more"
    assert error == "Error: 8 of 10 photos failed; run the same command again to fetch the rest"


def test_scattered_failures_do_not_end_the_run(coco: ModuleType, served: Served, listing: Path, tmp_path: Path) -> None:
    order = [photo.file_name for photo in coco.pick_photos(list_photos(listing), None, 0)]
    served.busy.update({f"/val2017/{name}": 99 for name in order if name != order[4]})
    result = run(coco, tmp_path / "coco", served, "--annotations", listing, "--workers", 1)
    assert result.stdout == summary(tmp_path / "coco", 1, 0, 9)


# --- The annotation file ---


def test_a_cut_zip_is_gone_on_with(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    size = len(served.files[f"/annotations/{ZIP}"])
    served.cut[f"/annotations/{ZIP}"] = 2
    result = run(coco, tmp_path, served, "--limit", 1)
    assert result.exit_code == 0
    assert served.starts[:3] == [0, size // 2, size // 2 + (size - size // 2) // 2]
    assert json.loads((tmp_path / "annotations" / "instances_val2017.json").read_text()) == make_listing()


def test_a_zip_is_gone_on_with_by_the_next_run(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    served.cut[f"/annotations/{ZIP}"] = 4
    assert "cut short" in error_of(run(coco, tmp_path, served))
    part = tmp_path / "annotations" / f"{ZIP}.part"
    size = part.stat().st_size
    assert part.read_bytes() == served.files[f"/annotations/{ZIP}"][:size]
    served.starts.clear()
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0
    assert served.starts[0] == size
    assert names_in(tmp_path / "annotations") == ["instances_val2017.json"]


def test_a_part_longer_than_the_file_is_dropped(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    part = tmp_path / "annotations" / f"{ZIP}.part"
    part.parent.mkdir()
    part.write_bytes(bytes(len(served.files[f"/annotations/{ZIP}"]) + 5))
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0
    assert names_in(tmp_path / "annotations") == ["instances_val2017.json"]


def test_a_server_without_ranges_starts_over(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    served.ranges = False
    part = tmp_path / "part"
    part.write_bytes(b"something else")
    coco.download_zip(f"{served.url}/annotations/{ZIP}", part)
    assert part.read_bytes() == served.files[f"/annotations/{ZIP}"]


def test_a_whole_part_is_not_fetched_again(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    part = tmp_path / "annotations" / f"{ZIP}.part"
    part.parent.mkdir()
    part.write_bytes(served.files.pop(f"/annotations/{ZIP}"))
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0
    assert names_in(part.parent) == ["instances_val2017.json"]


def test_a_part_that_does_not_fit_is_dropped(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    part = tmp_path / "annotations" / f"{ZIP}.part"
    part.parent.mkdir()
    part.write_bytes(b"\xff" * 600)
    assert "cannot be unpacked" in error_of(run(coco, tmp_path, served))
    assert names_in(part.parent) == []
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0


def test_a_zip_of_the_users_own_is_used_and_stays(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    own = tmp_path / "annotations" / ZIP
    own.parent.mkdir()
    own.write_bytes(served.files.pop(f"/annotations/{ZIP}"))
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0
    assert names_in(own.parent) == [ZIP, "instances_val2017.json"]


def test_a_zip_without_the_split_is_refused(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    error = error_of(run(coco, tmp_path, served, "--split", "train2017"))
    assert "holds no annotations/instances_train2017.json" in error
    assert names_in(tmp_path / "annotations") == []


def test_something_else_in_the_place_of_the_zip_is_refused(coco: ModuleType, served: Served, tmp_path: Path) -> None:
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
def test_a_hostile_file_name_is_refused(coco: ModuleType, served: Served, tmp_path: Path, name: str) -> None:
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


# --- The machine ---


@pytest.fixture
def unreachable(served: Served) -> Served:
    """An address at which nothing listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        port = server.server_port
    return Served(url=f"http://127.0.0.1:{port}", files=served.files)


def test_unreachable_server_for_the_annotations(coco: ModuleType, unreachable: Served, tmp_path: Path) -> None:
    error = error_of(run(coco, tmp_path, unreachable))
    assert error.startswith(f"Error: {unreachable.url}/annotations/{ZIP}: ")
    assert "refused" in error
    assert names_in(tmp_path / "annotations") == []


def test_unreachable_server_for_the_photos(
    coco: ModuleType, unreachable: Served, listing: Path, tmp_path: Path
) -> None:
    error = error_of(run(coco, tmp_path / "coco", unreachable, "--annotations", listing))
    assert error.startswith("Error: 8 photos in a row failed, the last with ")
    assert "refused" in error
    assert names_in(tmp_path / "coco" / "val2017") == []


def test_a_silent_server_is_given_up(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "TIMEOUT", 0.25)
    served.stalled.add(f"/val2017/{NAMES[0]}")
    assert_one_fails(coco, served, tmp_path / "coco", listing, "timed out")


def test_a_full_disk_leaves_no_half_photo(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, content: bytes) -> None:
        with path.open("wb") as out:
            out.write(content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fill)
    error = error_of(run(coco, tmp_path / "coco", served, "--annotations", listing))
    assert "No space left on device" in error
    assert names_in(tmp_path / "coco" / "val2017") == []


@pytest.mark.parametrize("name", ["annotations", "val2017"])
def test_a_folder_that_cannot_be_made(coco: ModuleType, served: Served, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"a file in the way")
    error = error_of(run(coco, tmp_path, served))
    assert error == f"Error: {tmp_path / name}: cannot be made: File exists\n"


def test_other_errors_keep_their_traceback(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(coco, "check_photo", stumble)
    with pytest.raises(ZeroDivisionError):
        run(coco, tmp_path / "coco", served, "--annotations", listing)


def interrupt(arguments: list[str], when: Callable[[], bool]) -> tuple[int, str, str, float]:
    """Run the script, interrupt it once `when` holds; give status, output, errors, and seconds until it ended."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    # A process started in the background ignores SIGINT, and would hand that on.
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, earlier)
    with process:
        try:
            deadline = time.monotonic() + 20
            while not when():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
            return process.returncode, out, err, time.monotonic() - sent
        finally:
            process.kill()


INTERRUPTED = (130, "", "Interrupted; run the same command again to go on\n")


def test_interrupt_exits_soon_and_leaves_no_temporary_file(served: Served, listing: Path, tmp_path: Path) -> None:
    photos = tmp_path / "coco" / "val2017"
    served.stalled.update(f"/val2017/{name}" for name in NAMES[:4])
    options = ["--annotations", str(listing), "--workers", "5", "--base-url", served.url]
    *ended, seconds = interrupt(
        [str(tmp_path / "coco"), *options], lambda: photos.is_dir() and set(NAMES[4:]) <= set(names_in(photos))
    )
    assert tuple(ended) == INTERRUPTED
    assert seconds < 2  # the server stalls for 20
    assert names_in(photos) == NAMES[4:]


def test_an_interrupted_zip_is_gone_on_with(coco: ModuleType, served: Served, tmp_path: Path) -> None:
    served.files[f"/annotations/{ZIP}"] = make_zip(make_listing() | {"info": "x" * (1 << 20)})  # several pieces
    served.stalled.add(f"/annotations/{ZIP}")
    part = tmp_path / "annotations" / f"{ZIP}.part"
    *ended, seconds = interrupt(
        [str(tmp_path), "--base-url", served.url], lambda: part.is_file() and part.stat().st_size > 0
    )
    assert tuple(ended) == INTERRUPTED
    assert seconds < 2
    assert names_in(part.parent) == [part.name]
    size = part.stat().st_size
    served.stalled.clear()
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0
    assert served.starts[1] == size


# --- The command line ---


@pytest.mark.parametrize(
    "address", ["images.cocodataset.org", "file:///etc", "ftp://a", "http://", "http://[a", "http://a:x"]
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
