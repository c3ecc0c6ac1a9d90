"""Digests of sets of photos: they do not depend on the order, and those of parts add up.

A sum of digests can be forged. These sums guard against mix-ups, not against attacks.
"""

import hashlib
import os
from collections.abc import Iterable


def sum_sha256(digests: Iterable[bytes | str]) -> str:
    """Add digests modulo 2**256, as 64 hexadecimal digits.

    Args:
        digests: SHA-256, as bytes or as hexadecimal digits.
    """
    total = 0
    for digest in digests:
        if isinstance(digest, bytes):
            total += int.from_bytes(digest)
        else:
            total += int(digest, 16)
    return f"{total % 2**256:064x}"


def names_sha256(names: Iterable[str]) -> str:
    """Identify a set of photos by their names: the sum of the SHA-256 of each name."""
    encoded = (os.fsencode(name) for name in names)
    return sum_sha256(hashlib.sha256(name).digest() for name in encoded)
