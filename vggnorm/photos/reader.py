"""Photos, decoded by several threads and given in batches."""

import hashlib
import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import PhotoError
from vggnorm.photos.ahead import fetched_ahead
from vggnorm.photos.blocks import block_size
from vggnorm.photos.budget import PixelBudget
from vggnorm.photos.cores import core_count
from vggnorm.photos.decode import MAX_PIXELS, Pixels, decode_within
from vggnorm.photos.digests import names_sha256, sum_sha256
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.noticed import NOTHING_NOTICED, Noticed
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.skipped import SkippedPhoto, UnusablePhotoError
from vggnorm.photos.source import ChangedError, Source
from vggnorm.photos.taken import NOTHING_TAKEN, Taken

# However large a batch is, at most twice as many photos are decoded ahead.
MAX_AHEAD = 256

TICK = 1.0  # seconds, in which a caller is asked at least once whether to go on

RUN_AGAIN = "run the same command again; it goes on from the checkpoint, if there is one"


@dataclass(frozen=True, eq=False)
class Batch:
    """Some photos, decoded.

    Attributes:
        pixels: `(photos, height, width, 3)`, RGB 0..255.
        positions: `(photos,)`, their places in the list.
        taken: what became of these photos, and of those skipped between them.
    """

    pixels: Pixels
    positions: NDArray[np.intp]
    taken: Taken


class PhotoReader:
    """Decodes photos in threads, ahead of the caller who asks for them.

    Attributes:
        noticed: what was noticed about the photos given out.
    """

    def __init__(
        self,
        photos: PhotoList,
        geometry: Geometry,
        *,
        limit: int | None = None,
        strict: bool = False,
        threads: int | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            photos: what to read, in this order.
            geometry: what to make of each photo.
            limit: stop after this many usable photos.
            strict: whether a photo that cannot be used is an error.
            threads: how many photos to decode at a time; by default one for each core.

        Raises:
            ValueError: `limit` or `threads` is below 1.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}; it must be at least 1")
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; it must be at least 1")
        self.noticed = NOTHING_NOTICED
        self._photos = photos
        self._source = photos.source
        self._geometry = geometry
        self._wanted = len(photos.names) if limit is None else limit
        self._strict = strict
        self._threads = threads or core_count()
        self._budget = PixelBudget(MAX_PIXELS)
        self._identity = self._source.identity()
        self._stamps = {name: photos.stamp(name) for name in photos.names}

    def total(self, taken: Taken) -> int:
        """Estimate how many photos will be taken in all.

        Photos that are skipped do not count towards the limit, and nobody knows how many more will
        be skipped.
        """
        return min(len(self._photos.names), self._wanted + len(taken.skipped))

    def batches(
        self, batch_size: int, after: Taken = NOTHING_TAKEN
    ) -> Generator[Batch, None, None]:
        """Give the photos in batches, none of which holds photos of two blocks.

        The last batch of a block may be short, and so may the last one of all. It is empty if none
        of the photos that are left of the block can be used. Empty ones also come while a server is
        waited for, so that the caller may end the run.

        Args:
            batch_size: how many photos to give at a time.
            after: what was taken before. Reading goes on after it, and gives the same batches as
                without the pause.

        Raises:
            PhotoError: a photo cannot be used, and `strict` was asked for; a photo has changed; the
                source is gone; or the system failed.
            ValueError: `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        block = block_size(batch_size)
        used, photos, skipped = after.used, list[_Photo](), list[SkippedPhoto]()
        ahead = 2 * min(batch_size, MAX_AHEAD)
        with closing(self._decode_ahead(after.count, ahead)) as decoding:
            for count, (name, decoded) in enumerate(decoding, after.count + 1):
                if used == self._wanted:
                    return
                while self._must_wait(decoded):
                    yield self._batch([], [])
                outcome = self._await(name, decoded)
                if isinstance(outcome, SkippedPhoto):
                    skipped.append(outcome)
                else:
                    photos.append(outcome)
                is_full = len(photos) == min(batch_size, self._wanted - used)
                if is_full or count % block == 0:
                    yield self._batch(photos, skipped)
                    used += len(photos)
                    photos, skipped = [], []
        if photos or skipped:
            yield self._batch(photos, skipped)

    def _decode_ahead(
        self, start: int, ahead: int
    ) -> Generator[tuple[str, "Future[_Photo]"], None, None]:
        """Give every photo from `start` on, decoded or to be decoded.

        At most `ahead` photos are decoded or waiting at a time.
        """
        names = self._photos.names
        positions = iter(range(start, len(names)))
        waiting: deque[tuple[str, Future[_Photo]]] = deque()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        try:
            # This ends before the pool: threads that decode may be waiting for a silent server.
            with fetched_ahead(self._source, names[start:]) as source:
                while True:
                    for position in islice(positions, ahead - len(waiting)):
                        decoding = pool.submit(self._decode, source, position)
                        waiting.append((names[position], decoding))
                    if not waiting:
                        return
                    yield waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, source: Source, position: int) -> "_Photo":
        name = self._photos.names[position]
        try:
            decoded = decode_within(self._budget, source, name, self._geometry)
        finally:
            self._require_unchanged(name)  # whether the photo could be decoded or not
        digest = hashlib.sha256(os.fsencode(name) + b"\0")
        digest.update(decoded.pixels.data.cast("B"))  # the bytes as they lie in memory
        noticed = Noticed(int(decoded.has_profile), int(decoded.lacks_end))
        return _Photo(name, position, decoded.pixels, digest.digest(), noticed)

    def _require_unchanged(self, name: str) -> None:
        listed, now = self._stamps[name], self._source.stamp(name)
        if listed is not None and now != listed:
            raise ChangedError("is gone" if now is None else "has changed")

    def _must_wait(self, decoding: "Future[_Photo]") -> bool:
        """Wait a moment for a photo from another machine; tell whether it is not there yet."""
        return self._source.is_remote and not wait([decoding], TICK).done

    def _await(self, name: str, decoding: "Future[_Photo]") -> "_Photo | SkippedPhoto":
        """Wait until a photo is decoded, or cannot be used."""
        try:
            return decoding.result()
        except UnusablePhotoError as error:
            if self._strict:
                raise PhotoError(f"{error}; without --strict it is left out") from error
            self._require_same_source()
            return SkippedPhoto(name, error.reason)
        except ChangedError as error:
            self._require_same_source()
            raise PhotoError(
                f"{self._source.locate(name)}: {error} since the photos were listed; put it back "
                "as it was and run the same command again, or start over without the checkpoint"
            ) from error
        except MemoryError as error:
            raise PhotoError(
                f"{self._source.locate(name)}: there is not enough memory to decode it; give fewer "
                f"--threads and {RUN_AGAIN}"
            ) from error
        except OSError as error:
            raise PhotoError(
                f"{self._source.locate(name)}: cannot be read: {error.strerror}; mend that and "
                f"{RUN_AGAIN}"
            ) from error

    def _require_same_source(self) -> None:
        """Raise an error if the source is gone: else all photos would be skipped, one by one."""
        if self._source.identity() != self._identity:
            raise PhotoError(
                f"{self._source.locate()}: is gone, or another one is in its place; is its disk "
                "still connected?"
            )

    def _batch(self, photos: Sequence["_Photo"], skipped: Sequence[SkippedPhoto]) -> Batch:
        pixels = np.empty((len(photos), self._geometry.height, self._geometry.width, 3), np.uint8)
        for index, photo in enumerate(photos):
            pixels[index] = photo.pixels
        self.noticed = sum((photo.noticed for photo in photos), self.noticed)
        positions = np.array([photo.position for photo in photos], np.intp)
        return Batch(pixels, positions, _taken(photos, skipped))


@dataclass(frozen=True, eq=False)
class _Photo:
    name: str
    position: int
    pixels: Pixels
    sha256: bytes  # over name, zero byte and pixels
    noticed: Noticed


def _taken(photos: Sequence[_Photo], skipped: Sequence[SkippedPhoto]) -> Taken:
    names = [photo.name for photo in photos] + [photo.photo for photo in skipped]
    return Taken(
        used=len(photos),
        skipped=tuple(sorted(skipped)),
        names_sha256=names_sha256(names),
        photos_sha256=sum_sha256(photo.sha256 for photo in photos),
    )


def no_photo_usable(photos: PhotoList, skipped: Sequence[SkippedPhoto]) -> PhotoError:
    """Make the error for a list of photos none of which can be used."""
    first = skipped[0]
    return PhotoError(
        f"{photos.source.locate()}: none of its {len(photos.names)} photos can be used; the "
        f"first, {first.photo}, {first.reason}"
    )
