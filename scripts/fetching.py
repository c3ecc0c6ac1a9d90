"""Fetch files over HTTP in pieces, and repeat requests that may succeed the next time."""

import contextlib
import zipfile
from collections.abc import Callable, Generator, Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from threading import Event
from typing import NamedTuple, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from vggnorm.errors import OutputError, PhotoError

TIMEOUT = 30.0  # seconds without a byte
PAUSES = (0.5, 1.0, 2.0)  # seconds before the second, third and fourth try
PIECE = 1 << 18  # bytes

Answer = TypeVar("Answer")


class FetchError(PhotoError):
    """A request failed, and the same request would fail again."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class PassingError(FetchError):
    """A request failed, and another try may succeed."""


class Piece(NamedTuple):
    """Some bytes of a file on a server, their place in it, and its length if it is known."""

    place: int
    end: int | None
    content: bytes


@contextlib.contextmanager
def asking(url: str, start: int = 0) -> Iterator[HTTPResponse]:
    """Request `url` from byte `start` on, and turn errors in the block into a FetchError."""
    headers = {"User-Agent": "vggnorm"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:
            yield response
    except HTTPError as error:
        error.close()
        kind = PassingError if error.code >= 500 or error.code in {408, 429} else FetchError
        raise kind(f"{url}: {error.code} {error.reason}", error.code) from error
    except URLError as error:
        raise PassingError(f"{url}: {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise PassingError(f"{url}: {error}") from error


def stream(url: str, start: int = 0) -> Generator[Piece, None, None]:
    """Yield the file at `url` in pieces.

    It starts at byte `start`, or at 0 if the server cannot do that.

    Raises:
        PassingError: only a part of the file came.
        FetchError: there is no such file, or the server does not give its length.
    """
    with asking(url, start) as response:
        place = start if response.status == 206 else 0
        if response.length is None and not response.chunked:
            raise FetchError(
                f"{url}: the server does not tell the length, so a short file would not show"
            )
        end = None if response.length is None else place + response.length
        while content := response.read(PIECE):
            yield Piece(place, end, content)
            place += len(content)
        if end is not None and place != end:
            raise PassingError(f"{url}: cut short, {place} of {end} bytes came")


def try_again(fetch: Callable[[], Answer], stop: Event) -> Answer:
    """Call `fetch`, and repeat it after each of `PAUSES` until it succeeds or `stop` is set."""
    for pause in PAUSES:
        try:
            return fetch()
        except PassingError:
            if stop.wait(pause):
                raise
    return fetch()


def download_zip(url: str, part: Path) -> None:
    """Download a zip to `part`, and go on where an earlier run stopped."""
    if part.is_file() and zipfile.is_zipfile(part):
        return  # a zip ends with its directory, so it is complete
    try:
        try_again(lambda: append_rest(url, part), Event())
    except PassingError as error:
        raise PhotoError(f"{error}; run the same command again to go on") from error
    finally:
        if part.is_file() and part.stat().st_size == 0:
            part.unlink()


def append_rest(url: str, part: Path) -> None:
    """Append to `part` the rest of the file at `url`."""
    try:
        # An OSError in here comes from the disk: stream turns those of the network into FetchError.
        with (
            part.open("ab") as out,
            contextlib.closing(stream(url, part.stat().st_size)) as pieces,
            tqdm(desc=part.stem, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for piece in pieces:
                if piece.place == 0:
                    out.truncate(0)
                out.write(piece.content)
                bar.total = piece.end
                bar.update(piece.place + len(piece.content) - bar.n)
    except OSError as error:
        raise OutputError(f"{part}: could not be written: {error.strerror or error}") from error
    except FetchError as error:
        if error.status != 416:
            raise
        part.unlink()  # it is longer than the file on the server, so it is another file
        raise PassingError(str(error)) from error
