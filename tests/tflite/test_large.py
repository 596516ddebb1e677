"""Constants that follow the FlatBuffer, which ends at 2 GiB: the same code with the limit lowered, and in earnest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from large_model import TABLE, TOKENS, write_large_model

from haversack.convert.errors import SourceError
from haversack.convert.sources.tflite import read_tflite
from haversack.convert.targets.tflite.extract import read, single
from haversack.convert.targets.tflite.graph import Graph, Operator, Tensor
from haversack.convert.targets.tflite.write import OUTSIDE_BYTES, serialize, write
from haversack.runtimes.engines.litert import open_artifact
from haversack.runtimes.engines.onnxruntime import open_artifact as open_onnx

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


def test_such_a_file_is_no_source(tmp_path: Path) -> None:
    """The reader of TFLite files would see weights without values."""
    write(two_layers(), tmp_path / "m.tflite", inline_bytes=0)
    with pytest.raises(SourceError, match="weights behind its FlatBuffer"):
        read_tflite(tmp_path / "m.tflite")


GIB = 1 << 30


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    """The model; its files are removed at the end, whatever happens."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with Path("/proc/meminfo").open() as file:  # what the page cache holds is available too
        available = max([available, *(int(r.split()[1]) << 10 for r in file if r.startswith("MemAvailable"))])
    for what, found in (("memory", available), ("disk space", shutil.disk_usage(tmp_path).free)):
        if found < 12 * GIB:
            pytest.skip(f"a model of 2 GiB takes 12 GiB of {what} to convert and compare; {found / GIB:.1f} are free")
    try:
        yield write_large_model(tmp_path)
    finally:
        for path in tmp_path.iterdir():
            path.unlink()


# A process of its own in between: Linux counts what a process that starts another holds as the other's peak, and this
# one may hold TensorFlow.
MEASURE = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
print(json.dumps([done.returncode, done.stdout, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10]))
"""


def convert(model: Path, output: Path, *flags: str) -> tuple[dict[str, object], int]:
    """The report, and the peak resident bytes of the largest process."""
    command = [str(Path(sys.executable).with_name("haversack")), "convert", str(model), "-o", str(output), "--json"]
    measured = subprocess.run([sys.executable, "-c", MEASURE, *command, *flags], stdout=subprocess.PIPE, check=True)
    code, said, peak = json.loads(measured.stdout)
    assert code == 0
    return json.loads(said)["variant"], peak


@pytest.mark.slow
def test_a_model_over_2_gb_streams_through_the_command_line(large: Path) -> None:
    path, again = large.with_name("one.tflite"), large.with_name("two.tflite")
    made, peak = convert(large, path, "--no-verify")
    size = path.stat().st_size
    assert size > 2 * GIB
    assert made["min_runtime"] == "TensorFlow Lite 2.14.0"
    assert peak < size / 2  # mapped, put in order one at a time, written: never more than a few weights at once
    verified, peak = convert(large, again)
    assert verified["verification"]["verified"] is True  # type: ignore[index]
    assert verified["sha256"] == made["sha256"]
    assert peak < 1.75 * size  # the file as LiteRT maps it, and the dense layers as XNNPACK packs them, 3/4 of it

    feeds = {"ids": np.random.default_rng(8).integers(0, TABLE[0], TOKENS)}
    session = open_onnx(large, optimize=False, prepack=False)
    (expected,) = session.run(feeds).values()
    del session
    assert 0.1 < expected.std() < 10  # neither dead nor overflowing
    (found,) = open_artifact(path, xnnpack=False).run(feeds).values()
    # 14 layers of sums of up to 9,216 products, each rounded to 2**-24: a relative error of 1e-5 or so
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
