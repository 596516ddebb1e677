"""What an artifact weighs over the wire: one gzip stream and one brotli stream over it.

Web servers, CDNs and app stores compress what they send; what is small on disk is not always small there.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from haversack.convert.publish import size

GZIP_BYTES = 1 << 25
"""The size as gzip is measured of artifacts up to this size: level 9 takes longer than the conversion itself, and
whoever sends so much compresses it otherwise."""

BROTLI_BYTES = 1 << 22
"""The same for brotli, unless it is asked for: quality 11 takes 2 to 5 CPU-seconds a MB, so 10 to 20 at most."""


def gzip_size(path: Path) -> int | None:
    """Bytes of one gzip stream (RFC 1952, level 9) over a file, or over a folder's files in sorted order.

    None for more than `GZIP_BYTES`.
    """
    if size(path) > GZIP_BYTES:
        return None
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    return sum(len(compressor.compress(file.read_bytes())) for file in _files(path)) + len(compressor.flush())


def brotli_size(path: Path, *, most: int | None = BROTLI_BYTES) -> int | None:
    """Bytes of one brotli stream (RFC 7932, quality 11, window 2^22) over a file, or a folder's files likewise.

    Args:
        path: The artifact.
        most: None is returned for more bytes than this; None: it is measured however long it takes.
    """
    if most is not None and size(path) > most:
        return None
    import brotli

    return len(brotli.compress(b"".join(file.read_bytes() for file in _files(path)), quality=11))


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
