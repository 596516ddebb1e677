"""The page's icon, a haversack: as SVG, and as PNG drawn from the same shapes with NumPy.

Browsers install a page only with PNG icons; drawing them here needs no image library.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from haversack.runtimes.engines import Array

COLOR = "#0f766e"
LIGHT = "#f0fdfa"
STRAP = "#99f6e4"
SIZES = (192, 512)

# (colour, left, top, right, bottom, corner radius) in units of 1/64, painted in this order. All within the middle 80 %
# that a maskable icon keeps, but the ground.
_SHAPES = (
    (COLOR, 0, 0, 64, 64, 0),
    (STRAP, 22, 12, 42, 30, 9),
    (COLOR, 26, 16, 38, 30, 6),
    (LIGHT, 14, 20, 50, 52, 8),
    (COLOR, 14, 33, 50, 35, 0),
    (STRAP, 27, 30, 37, 40, 3),
)
_SUBPIXELS = 4


def icons() -> dict[str, bytes]:
    """The files by name: `icon.svg`, `icon-192.png`, `icon-512.png`."""
    return {"icon.svg": _svg().encode(), **{f"icon-{size}.png": _png(size) for size in SIZES}}


def _svg() -> str:
    rects = "".join(
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="{radius}" fill="{color}"/>'
        for color, left, top, right, bottom, radius in _SHAPES
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{rects}</svg>\n'


def _png(size: int) -> bytes:
    """An 8-bit RGB PNG (ISO/IEC 15948)."""
    rows = np.concatenate([np.zeros((size, 1), np.uint8), _drawn(size).reshape(size, -1)], axis=1)  # filter 0 a row
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    written = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + written


def _drawn(size: int) -> Array:
    """The shapes, uint8 [size, size, 3], averaged over subpixels."""
    fine = size * _SUBPIXELS
    at = (np.arange(fine) + 0.5) * 64 / fine
    image = np.zeros((fine, fine, 3), np.float32)
    for color, left, top, right, bottom, radius in _SHAPES:
        # Distance to the rectangle that the corners' centres span: within `radius` is inside.
        across = np.maximum(np.maximum(left + radius - at, at - (right - radius)), 0)[None, :]
        down = np.maximum(np.maximum(top + radius - at, at - (bottom - radius)), 0)[:, None]
        inside = across**2 + down**2 <= max(radius, 1e-9) ** 2
        image[inside] = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    pixels: Array = image.reshape(size, _SUBPIXELS, size, _SUBPIXELS, 3).mean(axis=(1, 3))
    return np.rint(pixels).astype(np.uint8)
