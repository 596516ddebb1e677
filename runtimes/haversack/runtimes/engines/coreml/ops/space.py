"""Rearrangements between channels, batch and the spatial dimensions of a [N, C, H, W] tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import op


@op("depth_to_space", moves=True)
def depth_to_space(x: Array, block_size: int) -> Any:
    """Move channels into blocks of the image, the block's position being the slower part of the channel number."""
    n, c, h, w = x.shape
    b = block_size
    parts = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // (b * b), h * b, w * b)


@op("space_to_depth", moves=True)
def space_to_depth(x: Array, block_size: int) -> Any:
    """Move blocks of the image into channels: the inverse of `depth_to_space`."""
    n, c, h, w = x.shape
    b = block_size
    parts = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * b * b, h // b, w // b)


@op("pixel_shuffle", moves=True)
def pixel_shuffle(x: Array, upscale_factor: int) -> Any:
    """Move channels into blocks of the image, the block's position being the faster part (PyTorch's order)."""
    n, c, h, w = x.shape
    f = upscale_factor
    parts = x.reshape(n, c // (f * f), f, f, h, w).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // (f * f), h * f, w * f)


@op("pixel_unshuffle", moves=True)
def pixel_unshuffle(x: Array, downscale_factor: int) -> Any:
    """Move blocks of the image into channels: the inverse of `pixel_shuffle`."""
    n, c, h, w = x.shape
    f = downscale_factor
    parts = x.reshape(n, c, h // f, f, w // f, f).transpose(0, 1, 3, 5, 2, 4)
    return parts.reshape(n, c * f * f, h // f, w // f)


@op("space_to_batch", moves=True)
def space_to_batch(x: Array, block_shape: Array, paddings: Array) -> Any:
    """Pad the image, then move its blocks into the batch, the block's position being the slower part."""
    padded = np.pad(x, [(0, 0), (0, 0), *((int(before), int(after)) for before, after in paddings)])
    n, c, h, w = padded.shape
    p, q = (int(size) for size in block_shape)
    parts = padded.reshape(n, c, h // p, p, w // q, q).transpose(3, 5, 0, 1, 2, 4)
    return parts.reshape(n * p * q, c, h // p, w // q)


@op("batch_to_space", moves=True)
def batch_to_space(x: Array, block_shape: Array, crops: Array) -> Any:
    """Move the batch into blocks of the image, then crop it: the inverse of `space_to_batch`."""
    n, c, h, w = x.shape
    p, q = (int(size) for size in block_shape)
    parts = x.reshape(p, q, n // (p * q), c, h, w).transpose(2, 3, 4, 0, 5, 1)
    whole = parts.reshape(n // (p * q), c, h * p, w * q)
    (top, bottom), (left, right) = ((int(before), int(after)) for before, after in crops)
    return whole[:, :, top : h * p - bottom, left : w * q - right]
