"""Shapes, slices, gathers, scatters, order and resizing, against NumPy, onnxruntime and MIL's documented examples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haversack.runtimes.engines.coreml import Evaluator, read_package
from haversack.runtimes.engines.coreml.ops.resize import grid_points
from haversack.runtimes.errors import EngineError

X = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("name", "parameters", "reference"),
    [
        ("transpose", {"perm": [2, 0, 1]}, lambda x: x.transpose(2, 0, 1)),
        ("reshape", {"shape": [4, -1]}, lambda x: x.reshape(4, 6)),
        ("reshape", {"shape": [1, 0, -1]}, lambda x: x.reshape(1, 3, 8)),  # 0 keeps dimension 1
        ("expand_dims", {"axes": [0, -1]}, lambda x: x[None, ..., None]),
        ("flatten2d", {"axis": 2}, lambda x: x.reshape(6, 4)),
        ("reverse", {"axes": [0, 2]}, lambda x: x[::-1, :, ::-1]),
        ("tile", {"reps": [1, 2, 3]}, lambda x: np.tile(x, (1, 2, 3))),
        ("band_part", {"lower": 1, "upper": 0}, lambda x: np.tril(x) - np.tril(x, -2)),
        ("pad", {"pad": [1, 0, 2, 3], "mode": "reflect"}, lambda x: np.pad(x, [(0, 0), (1, 0), (2, 3)], "reflect")),
        ("pad", {"pad": [0, 1], "mode": "replicate"}, lambda x: np.pad(x, [(0, 0), (0, 0), (0, 1)], "edge")),
        ("pad", {"pad": [2, 1], "constant_val": np.float32(7)},
         lambda x: np.pad(x, [(0, 0), (0, 0), (2, 1)], constant_values=7)),
        ("cumsum", {"axis": 2, "exclusive": True, "reverse": True},
         lambda x: np.flip(np.cumsum(np.flip(x, 2), 2), 2) - x),
        ("sliding_windows", {"axis": 2, "size": 2, "stride": 2}, lambda x: x.reshape(2, 3, 2, 2)),
        ("slice_by_index", {"begin": [0, -1, 3], "end": [2, 0, 0], "stride": [1, -1, -2],
                            "end_mask": [False, True, True]}, lambda x: x[0:2, ::-1, 3::-2]),
        ("slice_by_index", {"begin": [1, 0, 1], "end": [0, 2, 4], "squeeze_mask": [True, False, False]},
         lambda x: x[1, 0:2, 1:4]),
        ("slice_by_size", {"begin": [0, 1, -2], "size": [-1, 2, 1]}, lambda x: x[:, 1:3, 2:3]),
        ("reduce_mean", {"axes": [-1, 0], "keep_dims": True}, lambda x: x.mean((0, 2), keepdims=True)),
        ("reduce_log_sum_exp", {"axes": [1]}, lambda x: np.log(np.exp(x.astype(np.float64)).sum(1))),
        ("reduce_l2_norm", {"axes": [2]}, lambda x: np.sqrt((x * x).sum(2))),
    ],
)  # fmt: skip
def test_against_numpy(evaluate: Any, name: str, parameters: dict[str, Any], reference: Callable[..., Any]) -> None:
    (found,) = evaluate(lambda mb, x: getattr(mb, name)(x=x, name="y", **parameters), {"x": X})
    wanted = reference(X)
    assert found.shape == wanted.shape
    # Movements are exact; reductions of four values round a few times.
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=0)


def test_concat_and_split(evaluate: Any) -> None:
    one, two = np.array([[1, 2], [3, 4], [5, 6]], np.float32), np.array([[7, 8], [9, 10], [11, 12]], np.float32)
    joined, woven, first, rest = evaluate(
        lambda mb, a, b: (
            mb.concat(values=(a, b), axis=0),
            mb.concat(values=(a, b), axis=0, interleave=True),
            *mb.split(x=a, split_sizes=[1, 2], axis=0),
        ),
        {"a": one, "b": two},
    )
    np.testing.assert_array_equal(joined, np.concatenate([one, two]))
    # MIL's own example of interleave
    np.testing.assert_array_equal(woven, [[1, 2], [7, 8], [3, 4], [9, 10], [5, 6], [11, 12]])
    np.testing.assert_array_equal(first, one[:1])
    np.testing.assert_array_equal(rest, one[1:])


def test_gathers(evaluate: Any) -> None:
    indices = np.array([[2, 0], [1, 1]], np.int32)
    plain, batched, along = evaluate(
        lambda mb, x, i: (
            mb.gather(x=x, indices=i, axis=1),
            mb.gather(x=x, indices=i, axis=1, batch_dims=1),
            mb.gather_along_axis(x=x, indices=np.zeros((2, 1, 4), np.int32) + 2, axis=1),
        ),
        {"x": X, "i": indices},
    )
    np.testing.assert_array_equal(plain, X[:, indices])
    np.testing.assert_array_equal(batched, np.stack([X[0][[2, 0]], X[1][[1, 1]]]))
    np.testing.assert_array_equal(along, X[:, 2:3])


def test_gather_counts_negative_indices_from_the_end_up_to_ios16(evaluate: Any, save: Callable[..., Path]) -> None:
    inputs = {"x": X, "i": np.array([-1], np.int32)}
    (found,) = evaluate(lambda mb, x, i: mb.gather(x=x, indices=i, axis=0), inputs, "iOS16")
    np.testing.assert_array_equal(found, X[-1:])
    evaluator = Evaluator(read_package(save(lambda mb, x, i: mb.gather(x=x, indices=i, axis=0), inputs, "iOS17")))
    with pytest.raises(EngineError, match="do not lie in"):  # undefined behaviour since iOS 17
        evaluator.run(inputs)


def test_scatter_applies_a_repeated_index_twice(evaluate: Any) -> None:
    data, updates = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    (found,) = evaluate(
        lambda mb, d, u: mb.scatter(data=d, indices=np.array([1, 1, 2], np.int32), updates=u, axis=0, mode="add"),
        {"d": data, "u": updates},
    )
    np.testing.assert_array_equal(found, [[0, 0], [2, 2], [1, 1]])


def test_topk_and_argsort(evaluate: Any) -> None:
    x = np.array([[3, -1, 7, 0]], np.float32)
    values, indices, order = evaluate(
        lambda mb, x: (*mb.topk(x=x, k=2, axis=1), mb.argsort(x=x, axis=1, ascending=True)), {"x": x}
    )
    np.testing.assert_array_equal(values, [[7, 3]])
    np.testing.assert_array_equal(indices, [[2, 0]])
    np.testing.assert_array_equal(order, [[1, 3, 0, 2]])


@pytest.mark.parametrize(
    ("mode", "count", "points"),
    [  # the examples in the documentation of resize_bilinear, for an input of two elements
        ("UNALIGN_CORNERS", 5, [0.0, 0.1, 0.5, 0.9, 1.0]),
        ("STRICT_ALIGN_CORNERS", 5, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("DEFAULT", 5, [0.0, 0.4, 0.8, 1.0, 1.0]),
        ("OFFSET_CORNERS", 5, [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("UNALIGN_CORNERS", 6, [0.0, 0.0, 0.33, 0.67, 1.0, 1.0]),
        ("ALIGN_CORNERS", 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ("DEFAULT", 6, [0.0, 0.33, 0.67, 1.0, 1.0, 1.0]),
        ("OFFSET_CORNERS", 6, [0.08, 0.25, 0.42, 0.58, 0.75, 0.92]),
        ("ALIGN_CORNERS", 1, [0.5]),
    ],
)
def test_sampling_modes_as_documented(mode: str, count: int, points: list[float]) -> None:
    np.testing.assert_allclose(grid_points(2, count, mode), points, atol=0.005)  # documented to two decimals


def test_resizes(evaluate: Any) -> None:
    x = np.array([[[[0.0, 10.0]]]], np.float32)
    linear, nearest, up = evaluate(
        lambda mb, x: (
            mb.resize_bilinear(x=x, target_size_height=1, target_size_width=5, sampling_mode="UNALIGN_CORNERS"),
            mb.resize_nearest_neighbor(x=x, target_size_height=2, target_size_width=4),
            mb.upsample_bilinear(x=x, scale_factor_width=2, align_corners=True),
        ),
        {"x": x},
    )
    np.testing.assert_allclose(linear.ravel(), [0, 1, 5, 9, 10], atol=1e-5)
    np.testing.assert_array_equal(nearest, [[[[0, 0, 10, 10]] * 2]])
    np.testing.assert_allclose(up.ravel(), [0, 10 / 3, 20 / 3, 10], atol=1e-5)
