"""A list of photos: which ones, from where, and in which order."""

import hashlib
import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vggnorm.photos.addresses import Location
from vggnorm.photos.blocks import BATCH_SIZE, Part, block_size
from vggnorm.photos.formats import NEEDS, format_of_name
from vggnorm.photos.source import Source, Stamp

LINES_SHOWN = 5  # so many folders or endings are named one by one; the others are counted


@dataclass(frozen=True)
class PhotoList:
    """Photos of one source, in the order in which they are taken.

    Attributes:
        source: where they are.
        names: their names in the source.
        annotations: the file that lists them, if any.
        categories: COCO categories; each photo shows at least one of them. Empty if none were
            asked for.
        missing: how many photos the annotation file lists that the source does not have.
        left_out: the folders of COCO's masks that were left out -> how many images each holds.
        other_endings: endings of the files that are not read as photos -> how many files have each;
            an empty ending stands for all files without a usual one.
        remarks: lines that say what else of the source was left out.
        stamps: name -> the state of each file when it was found; None if the source cannot tell.
        seed: of the random order; None if they are not shuffled.
        part: which part of the list this is; None for the whole list.
        whole: the list before it was shuffled and cut; None if it was not.
    """

    source: Source
    names: tuple[str, ...]
    annotations: Location | None = None
    categories: tuple[str, ...] = ()
    missing: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict, hash=False)
    other_endings: Mapping[str, int] = field(default_factory=dict, hash=False)
    remarks: tuple[str, ...] = ()
    stamps: Mapping[str, Stamp | None] = field(default_factory=dict, compare=False, repr=False)
    seed: int | None = None
    part: Part | None = None
    whole: "PhotoList | None" = field(default=None, repr=False)

    @property
    def listed(self) -> int:
        """How many photos the whole list has, before it is shuffled and cut."""
        return len((self.whole or self).names)

    @property
    def listed_sha256(self) -> str:
        """The digest of the whole list, before it is shuffled and cut: see `sha256`."""
        return (self.whole or self).sha256()

    @property
    def folders(self) -> dict[str, int]:
        """Folders of the source, `.` for the source itself -> how many of the photos each holds."""
        folders = (name.rpartition("/")[0] for name in self.names)
        counts = Counter(folder or "." for folder in folders)
        return dict(sorted(counts.items()))

    def shuffled(self, seed: int) -> "PhotoList":
        """Put the photos in a seeded random order, so that the first ones are a fair sample of all.

        The seed alone decides the order: a list that was shuffled before is shuffled anew.

        Raises:
            ValueError: this is a part of a list.
        """
        if self.part is not None:
            raise ValueError("this is a part of a list of photos; shuffle the whole list first")
        whole = self.whole or self
        names = list(whole.names)
        random.Random(seed).shuffle(names)
        return replace(self, names=tuple(names), seed=seed, whole=whole)

    def shard(self, number: int, count: int, *, batch_size: int = BATCH_SIZE) -> "PhotoList":
        """Give one of `count` parts of the list, counted from 1.

        It has every `count`-th block: see `vggnorm.photos.blocks`. So each part of a shuffled list
        is a fair sample of all. It is empty if there are fewer blocks than that.

        Args:
            number: which part.
            count: how many parts there are.
            batch_size: how many photos the network will be given at a time. A block is 8 times as
                many photos.

        Raises:
            ValueError: there is no such part, or this is a part already.
        """
        if not 1 <= number <= count:
            raise ValueError(
                f"shard is {number}/{count}; it must be one of 1/{count} to {count}/{count}"
            )
        if self.part is not None:
            raise ValueError("this is a part of a list of photos already; cut the whole list")
        part = Part(number, count, block_size(batch_size))
        names: list[str] = []
        for block in part.blocks(len(self.names)):
            names += self.names[block.start : block.stop]
        return replace(self, names=tuple(names), part=part, whole=self.whole or self)

    def only(self, positions: range) -> "PhotoList":
        """Give some of the photos as a list of its own, small enough to be sent to another machine.

        Args:
            positions: where they are in this list, one after the other.
        """
        names = self.names[positions.start : positions.stop]
        stamps = {name: self.stamp(name) for name in names}
        return PhotoList(self.source.only(names), names, stamps=stamps, seed=self.seed)

    def sha256(self) -> str:
        """Identify the list: SHA-256 over the name and the size of each photo, in its order.

        After each name, and after each size in bytes as text, comes a zero byte. The digest changes
        with the names, their order and the sizes, and no photo has to be read for it.
        """
        digest = hashlib.sha256()
        for name in self.names:
            stamp = self.stamp(name)
            size = "unknown" if stamp is None else str(stamp.size)  # reading it will tell why
            digest.update(os.fsencode(name) + b"\0")
            digest.update(size.encode() + b"\0")
        return digest.hexdigest()

    def stamped(self) -> "PhotoList":
        """Note the state of each file, so that a file that changes from now on is noticed."""
        return replace(self, stamps={name: self.source.stamp(name) for name in self.names})

    def stamp(self, name: str) -> Stamp | None:
        """Give the state of a file when it was found or, if that was not noted, its state now."""
        return self.stamps[name] if name in self.stamps else self.source.stamp(name)

    def describe(self) -> list[str]:
        """Say in lines where the photos are, what was left out, and what is missing."""
        lines = [*self._describe_folders(), *self._describe_masks(), *self.remarks]
        if self.other_endings:
            lines.append(self._describe_other_files())
        if self.missing:
            verb = "is" if self.missing == 1 else "are"
            lines.append(
                f"{_count(self.missing, 'photo')} listed in {self.annotations} {verb} not in "
                f"{self.source.locate()}"
            )
        return lines

    def _describe_folders(self) -> list[str]:
        return _shorten(
            [
                f"{_count(count, 'photo')} in {self.source.locate(folder)}"
                for folder, count in self.folders.items()
            ]
        )

    def _describe_masks(self) -> list[str]:
        return _shorten(
            [
                f"left out {_count(count, 'image')} in {self.source.locate(folder)}: it has the "
                f"name of a folder of COCO's masks; {self.source.how_to_take_a_folder}"
                for folder, count in self.left_out.items()
            ]
        )

    def _describe_other_files(self) -> str:
        """Say in one line which files are not read, and what would read some of them."""
        total = sum(self.other_endings.values())
        shown, hints = [], []
        for ending, count in self.other_endings.items():
            shown.append(f"{count} {ending or 'without a usual ending'}")
            need = NEEDS.get(format_of_name(f"photo{ending}") or "")
            if need is not None:
                hints.append(f"; {ending} needs {need}")
        if len(shown) > LINES_SHOWN:
            kinds = _count(len(shown) - LINES_SHOWN, "other ending")
            shown[LINES_SHOWN:] = [f"the others with {kinds}"]
        place = self.source.locate()
        left_out = f"left out {_count(total, 'file')} in {place}, not read as photos"
        return f"{left_out}: {', '.join(shown)}{''.join(hints)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shorten(lines: list[str]) -> list[str]:
    """Give the first of many lines, and say how many there are more."""
    if len(lines) <= LINES_SHOWN:
        return lines
    return [*lines[:LINES_SHOWN], f"… and {len(lines) - LINES_SHOWN} more such folders"]
