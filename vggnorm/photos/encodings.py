"""Text files that say in which encoding they are."""

import codecs
from typing import BinaryIO, cast


def as_utf8(file: BinaryIO) -> BinaryIO:
    """Go past the mark with which some programs begin a file, and give the file in UTF-8."""
    start = file.read(len(codecs.BOM_UTF8))
    if start == codecs.BOM_UTF8:
        return file
    file.seek(0)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return cast("BinaryIO", _Recoded(file, "utf-16"))
    return file


class _Recoded:
    """A file in another encoding, read as UTF-8.

    A `codecs.StreamRecoder` passes on the methods that it does not have, and those would read the
    file as it is.
    """

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._recoder = codecs.EncodedFile(file, "utf-8", encoding)

    def read(self, size: int) -> bytes:
        return self._recoder.read(size)
