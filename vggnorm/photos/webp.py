"""The size of a WebP image, read from the file's header."""

HEADER = 30  # bytes, which hold the size

LOW_14_BITS = 0x3FFF


def webp_size(header: bytes) -> tuple[int, int] | None:
    """Read the width and the height of a WebP image without decoding it.

    The layout is that of RFC 9649, "WebP Image Format", sections 2.5 to 2.7.

    Args:
        header: the first `HEADER` bytes of a file.

    Returns:
        Width and height in pixels; None if the file is not a WebP image.
    """
    is_webp = header.startswith(b"RIFF") and header[8:12] == b"WEBP"
    if not is_webp or len(header) < HEADER:
        return None
    kind = header[12:16]
    if kind == b"VP8X":  # extended: each side less one, in 24 bits
        width = int.from_bytes(header[24:27], "little") + 1
        height = int.from_bytes(header[27:30], "little") + 1
    elif kind == b"VP8L":  # lossless: each side less one, in 14 bits
        bits = int.from_bytes(header[21:25], "little")
        width = (bits & LOW_14_BITS) + 1
        height = (bits >> 14 & LOW_14_BITS) + 1
    else:  # lossy: each side in the lower 14 of 16 bits
        width = int.from_bytes(header[26:28], "little") & LOW_14_BITS
        height = int.from_bytes(header[28:30], "little") & LOW_14_BITS
    return width, height
