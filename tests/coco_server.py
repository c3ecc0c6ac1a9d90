"""A small copy of COCO on a local server, and the download script run against it."""

import io
import json
import re
import threading
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "download_coco.py"
NAMES = [f"{number:012}.jpg" for number in range(1, 11)]
ZIP = "annotations_trainval2017.zip"


@dataclass
class Served:
    """The files of the server, how it misbehaves (by path), and which requests came."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)  # path: number of answers to cut short
    busy: dict[str, int] = field(default_factory=dict)  # path: number of answers that are 503
    endless: set[str] = field(default_factory=set)  # sent without a length
    stalled: set[str] = field(default_factory=set)  # half sent, until `released`
    ranges: bool = True
    requests: Counter[str] = field(default_factory=Counter)
    starts: list[int] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """Answer from `served`."""

    served: Served

    def do_GET(self) -> None:
        """Send a file, or the error that the test asked for."""
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
        """Send a file from the requested byte on, whole or cut."""
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
    """A server that all workers can call at the same time."""

    request_queue_size = 64  # with the 5 of http.server, the sixth caller waits a second


def make_photo(width: int, height: int, seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def make_listing() -> dict[str, Any]:
    """List ten photos: cats on 1 to 3, dogs on 3 and 4, a bicycle on 5, nothing on the others."""
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
    with zipfile.ZipFile(out, "w") as archive:  # uncompressed, so that half of it is many bytes
        archive.writestr("annotations/captions_val2017.json", "{}")
        archive.writestr("annotations/instances_val2017.json", json.dumps(listing))
    return out.getvalue()


def run(coco: ModuleType, folder: Path, served: Served, *options: object) -> Result:
    arguments = [str(folder), "--base-url", served.url, *map(str, options)]
    result = CliRunner().invoke(coco.main, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def error_of(result: Result) -> str:
    """Return the one line that a refused run prints."""
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def names_in(folder: Path) -> list[str]:
    """Return the names of all files in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def summary(folder: Path, fetched: int, there: int, failed: int) -> str:
    """Return what a run prints after it fetched photos."""
    return f"{folder}/val2017: {fetched} photos fetched, {there} already there, {failed} failed\n"


def assert_one_fails(
    coco: ModuleType, served: Served, folder: Path, listing: Path, reason: str
) -> None:
    """Assert that the first photo fails for `reason` and the others come."""
    result = run(coco, folder, served, "--annotations", listing)
    assert result.exit_code == 1
    assert result.stdout == summary(folder, 9, 0, 1)
    failed, error = result.stderr.splitlines()
    assert failed == f"Failed: {served.url}/val2017/{NAMES[0]}: {reason}"
    assert error == "Error: 1 of 10 photos failed; run the same command again to fetch the rest"
    assert names_in(folder / "val2017") == NAMES[1:]
