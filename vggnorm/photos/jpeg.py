"""What Pillow does not tell of a JPEG: whether it has several scans, and whether it lacks pixels.

The layout is that of ITU-T T.81, annex B. A file ends with a mark of its own (EOI). If it is
missing, nothing in the file says whether pixels are missing, too, and Pillow refuses the file. If
the mark is put there, the decoder draws missing pixels in grey, without a word. So the file is
decoded several times, each time with other bytes behind what is there. A decoder that has all that
it needs does not look at them, and the pixels are the same. One that lacks as much as a bit takes
it from these bytes, and the pixels differ.
"""

import os
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import BinaryIO

START = b"\xff\xd8\xff"
END_OF_IMAGE = b"\xff\xd9"
START_OF_SCAN, END = 0xDA, 0xD9
RESTARTS, RESTART_INTERVAL = range(0xD0, 0xD8), 0xDD

# The kinds of frames; C4, C8 and CC among them are other marks.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

# A mark, but not what may stand among the bits of pixels: a stuffed byte, or a mark to restart at.
MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

ALL_COEFFICIENTS = (1 << 64) - 1  # of a block, as bits

# What is put behind the bits that are there, before the mark: nothing, and bytes that look random.
# A code that is cut may be of one bit, and so one filling in two may complete it rightly.
FILLINGS = (b"", *(sha256(bytes([seed])).digest().replace(b"\xff", b"") for seed in range(12)))

MANY_ZEROS = bytes(16)

MAX_SIZE = 256 * 1024 * 1024  # bytes that are taken into memory to look for the end


def has_several_scans(file: BinaryIO) -> bool:
    """Tell whether several scans draw a JPEG, and leave it at its start.

    A progressive one has several, and so has one with a scan for each channel. Decoding it takes
    memory for the coefficients of all pixels, even if it is decoded at a fraction of its size.
    """
    is_progressive, components = False, 0
    file.seek(len(START) - 1)
    several = True  # where the header is damaged, nobody knows
    while len(head := file.read(4)) == 4:
        mark, length = head[1], int.from_bytes(head[2:])
        if mark == 0xFF:  # a byte of padding in front of a mark
            file.seek(-3, os.SEEK_CUR)
            continue
        segment = file.read(length - 2) if length > 2 else b""
        if mark in FRAMES:
            is_progressive, components = mark & 3 == 2, segment[5] if len(segment) > 5 else 0
        elif mark == START_OF_SCAN:
            several = is_progressive or not segment or segment[0] < components
            break
    file.seek(0)
    return several


def lacks_end(file: BinaryIO) -> bool:
    """Tell whether a JPEG has no mark of its end, and leave it at its start.

    Some programs and cameras write other things behind the mark.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - len(END_OF_IMAGE)))
    has_end = file.read() == END_OF_IMAGE
    file.seek(0)
    if not has_end:
        has_end = any(mark == END for mark, _ in _segments(file.read(MAX_SIZE)))
        file.seek(0)
    return not has_end


def fillings(content: bytes) -> Iterator[bytes]:
    """Give a JPEG with the mark of its end, behind one filling after the other.

    Args:
        content: a file without this mark. Many zeros at its end, as a broken download leaves them,
            are left out.
    """
    bits = content.rstrip(b"\0") if content.endswith(MANY_ZEROS) else content
    if bits.endswith(b"\xff"):
        # Either bits, with whose byte a zero must stand, or half of the mark. Then all bits are
        # there, and more do no harm.
        bits += b"\0"
    for filling in FILLINGS:
        yield bits + filling + END_OF_IMAGE
    # Where bits are cut between two marks to restart at, a decoder passes over all but the next.
    if any(mark == RESTART_INTERVAL for mark, _ in _segments(content)):
        restart = _next_restart(bits)
        for filling in FILLINGS[1:]:
            yield bits + restart + filling + END_OF_IMAGE


def _next_restart(content: bytes) -> bytes:
    """Give the mark to restart at that would follow; they are counted from 0 to 7 in each scan."""
    scan = content[content.rfind(bytes([0xFF, START_OF_SCAN])) :]
    last = max((scan.rfind(bytes([0xFF, mark])), mark) for mark in RESTARTS)
    following = last[1] + 1 if last[0] >= 0 else RESTARTS[0]
    return bytes([0xFF, following if following in RESTARTS else RESTARTS[0]])


def has_all_scans(content: bytes) -> bool:
    """Tell whether a JPEG has a scan for each coefficient of each component, to its last bit.

    A progressive JPEG draws all pixels roughly at first, and then more and more exactly.
    """
    components: frozenset[int] = frozenset()
    exact: dict[int, int] = {}  # component -> its coefficients that are known to the last bit
    for mark, segment in _segments(content):
        if mark in FRAMES and len(segment) > 5:
            components = frozenset(segment[6::3])
        elif mark == START_OF_SCAN and len(segment) > 2 * segment[0] + 3:
            count = segment[0]
            first, last, precision = segment[2 * count + 1 : 2 * count + 4]
            if precision & 0xF == 0:
                coefficients = (2 << last) - (1 << first)
                for component in segment[1 : 2 * count + 1 : 2]:
                    exact[component] = exact.get(component, 0) | coefficients
    return bool(components) and all(exact.get(name) == ALL_COEFFICIENTS for name in components)


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Give the mark and the content of each segment, up to the end."""
    place = len(START) - 1
    while found := MARK.search(content, place):
        mark = found[0][1]
        if mark == END:
            yield mark, b""
            return
        length = int.from_bytes(content[found.end() : found.end() + 2])
        place = found.end() + max(length, 2)
        yield mark, content[found.end() + 2 : place]
