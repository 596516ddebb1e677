"""Which axes of a Reshape, Flatten, Squeeze or Unsqueeze correspond.

Axes of size 1 come and go freely. The others are paired from the left into the smallest groups of equal product: a
group of one axis on each side is the axis itself, one against many splits or merges it. So `[N, C, H, W] → [N, g, c,
H, W]` has the blocks N, C|gc, H, W, and a channel shuffle, a group normalisation or a flattening of the spatial axes
is free, while `[N, C, H, W] → [N, C*H*W]` is possible only where C, H and W stand together in this order.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from haversack.convert.targets.tflite.layout_blocks import OUT, Block, Free, Slot, static_shape

DATA = Slot(False, 0)


def pair_axes(before: Sequence[int], after: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pair the axes of two shapes of equal size, in order.

    Args:
        before: The shape that is reshaped.
        after: The shape that results.

    Returns:
        For each block its axes on both sides. A block with nothing on one side is an axis of size 1.
    """
    blocks: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    left = right = 0
    while left < len(before) or right < len(after):
        if left < len(before) and before[left] == 1:
            if right < len(after) and after[right] == 1:
                blocks.append(((left,), (right,)))
                right += 1
            else:
                blocks.append(((left,), ()))
            left += 1
            continue
        if right < len(after) and after[right] == 1:
            blocks.append(((), (right,)))
            right += 1
            continue
        first_left, first_right = left, right
        product_left, product_right = before[left], after[right]
        left, right = left + 1, right + 1
        while product_left != product_right:
            if product_left < product_right:
                product_left *= before[left]
                left += 1
            else:
                product_right *= after[right]
                right += 1
        blocks.append((tuple(range(first_left, left)), tuple(range(first_right, right))))
    return blocks


def reshape(node: ir.Node) -> Free | str:
    """The rule of Reshape, Flatten, Squeeze and Unsqueeze."""
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if before is None or after is None:
        return "its shape is not static"
    blocks: list[Block] = []
    for left, right in pair_axes(before, after):
        block = {}
        if left:
            block[DATA] = left
        if right:
            block[OUT] = right
        blocks.append(block)
    return Free(node, tuple(blocks), reshapes=True)
