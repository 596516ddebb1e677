"""Constants that follow the FlatBuffer, which ends at 2 GiB: the same code with the limit lowered, and in earnest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from haversack.convert.targets.tflite.extract import read, single
from haversack.convert.targets.tflite.graph import Graph, Operator, Tensor
from haversack.convert.targets.tflite.write import OUTSIDE_BYTES, serialize, write
from haversack.runtimes.engines.litert import open_artifact

RNG = np.random.default_rng(11)
DEPTH, WIDTH = 40, 56
WEIGHTS = RNG.normal(0, 1, (DEPTH, WIDTH)).astype(np.float32)
SECOND = RNG.normal(0, 1, (WIDTH, WIDTH)).astype(np.float32)
BIAS = RNG.normal(0, 1, WIDTH).astype(np.float32)  # too small to lie outside


def two_layers() -> Graph:
    """`(x @ WEIGHTS + BIAS) @ SECOND @ SECOND`; the first weights are a view in another order, the last held twice."""

    def constant(array: np.ndarray) -> Tensor:
        return Tensor(array.shape, "float32", array)

    x, bias = Tensor((1, DEPTH), "float32"), constant(BIAS)
    y, z, last = (Tensor((1, WIDTH), "float32") for _ in range(3))
    return Graph(
        [("x", x)],
        [("y", last)],
        [
            Operator("FULLY_CONNECTED", [x, constant(WEIGHTS.T), bias], [y], {}, "one"),
            Operator("FULLY_CONNECTED", [y, constant(SECOND.T.copy()), None], [z], {}, "two"),
            Operator("FULLY_CONNECTED", [z, constant(SECOND.T), None], [last], {}, "three"),
        ],
    )


def expected(x: np.ndarray) -> np.ndarray:
    return ((x.astype(np.float64) @ WEIGHTS + BIAS) @ SECOND @ SECOND).astype(np.float32)


def buffers(data: bytes) -> list[tuple[int, int, int]]:
    """Offset, size and inline bytes of every buffer."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    return [(row.offset, row.size, 0 if row.data is None else len(row.data)) for row in model.buffers]


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("mapped", [True, False])
def test_litert_runs_constants_behind_the_flatbuffer(tmp_path: Path, xnnpack: bool, mapped: bool) -> None:
    path = tmp_path / "m.tflite"
    assert write(two_layers(), path, inline_bytes=0)[1]
    x = RNG.normal(0, 1, (1, DEPTH)).astype(np.float32)
    found = open_artifact(path if mapped else path.read_bytes(), xnnpack=xnnpack).run({"x": x})["y"]
    # 40 + 56 + 56 products of float32, each rounded to 2**-24 of sums below 1,000
    assert np.allclose(found, expected(x), rtol=1e-4, atol=1e-2)


def test_the_larger_constants_lie_behind_it_aligned_and_once() -> None:
    data, _ = serialize(two_layers(), inline_bytes=0)
    inside, outside = [], []
    for offset, size, inline in buffers(data)[1:]:
        (outside if offset else inside).append((offset, size, inline))
    assert [inline for *_, inline in inside] == [BIAS.nbytes]
    assert BIAS.nbytes <= OUTSIDE_BYTES < WEIGHTS.nbytes
    assert [size for _, size, _ in outside] == [WEIGHTS.nbytes, SECOND.nbytes]  # held twice, written once
    assert all(offset % 16 == 0 and not inline for offset, _, inline in outside)
    assert outside[-1][0] + outside[-1][1] == len(data)
    (first, size, _), (second, *_) = outside
    assert data[first : first + size] == WEIGHTS.T.tobytes()
    assert data[second:] == SECOND.T.tobytes()


def test_up_to_the_limit_everything_lies_inside() -> None:
    total = WEIGHTS.nbytes + 2 * SECOND.nbytes + BIAS.nbytes
    assert not any(offset for offset, *_ in buffers(serialize(two_layers(), inline_bytes=total)[0]))
    assert any(offset for offset, *_ in buffers(serialize(two_layers(), inline_bytes=total - 1)[0]))


def test_the_file_is_the_same_written_and_serialized(tmp_path: Path) -> None:
    for inline_bytes in (0, 1 << 30):
        path = tmp_path / f"{inline_bytes}.tflite"
        index, _ = write(two_layers(), path, inline_bytes)
        assert path.read_bytes() == serialize(two_layers(), inline_bytes)[0]
        assert sorted(index.values()) == [0, 1, 2, 3, 4, 4, 5, 6]  # x, two weights and a bias, y, z, the output


def test_layers_are_cut_out_of_such_a_file() -> None:
    data, _ = serialize(two_layers(), inline_bytes=0)
    graph, _ = read(data)
    assert np.array_equal(graph.operators[0].inputs[1].data, WEIGHTS.T)  # type: ignore[union-attr, arg-type]
    x = RNG.normal(0, 1, (1, WIDTH)).astype(np.float32)
    engine = open_artifact(single(data, 1))
    found = engine.run({engine.inputs[0].name: x})[engine.outputs[0].name]
    assert np.allclose(found, x @ SECOND, rtol=1e-5, atol=1e-4)  # 56 products
