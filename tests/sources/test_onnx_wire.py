"""An ONNX file read without its weights: the same tensors as a parser gives, mapped instead of copied."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from haversack.convert.errors import SourceError
from haversack.convert.sources.onnx import HELD_BYTES, read_onnx
from haversack.convert.sources.onnx_wire import KEPT_BYTES, without_weights
from haversack.convert.verify.original import open_original
from haversack.convert.worker_stage import stage

RNG = np.random.default_rng(3)
LARGE = RNG.normal(0, 1, (3, HELD_BYTES // 8)).astype(np.float32)  # more than HELD_BYTES: the file is not read whole
HALF = RNG.normal(0, 1, (KEPT_BYTES, 2)).astype(np.float16)
SMALL = np.arange(6, dtype=np.int64)


def model(*more: onnx.TensorProto) -> onnx.ModelProto:
    weights = [numpy_helper.from_array(a, n) for n, a in (("large", LARGE), ("half", HALF), ("small", SMALL))]
    weights += more
    nodes = [helper.make_node("Identity", [tensor.name], [f"{tensor.name}_out"]) for tensor in weights]
    ends = [helper.make_tensor_value_info(f"{t.name}_out", t.data_type, list(t.dims)) for t in weights]
    graph = helper.make_graph(nodes, "weights", [], ends, weights)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)], doc_string="location")


def odd() -> list[onnx.TensorProto]:
    """Large tensors that are not plain `raw_data`, or not all of it: these must stay as they are."""
    floats = helper.make_tensor("floats", TensorProto.FLOAT, [KEPT_BYTES], np.arange(KEPT_BYTES, dtype=np.float32))
    packed = TensorProto(name="packed", data_type=TensorProto.INT4, dims=[4 * KEPT_BYTES])
    packed.raw_data = RNG.integers(0, 256, 2 * KEPT_BYTES, np.uint8).tobytes()
    return [floats, packed]


def mapping(array: np.ndarray) -> mmap.mmap | None:
    """The mapped file that an array is a view of."""
    base: object = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None


def test_it_means_the_same_and_holds_no_large_weight(tmp_path: Path) -> None:
    proto = model(*odd())
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    slim = without_weights(path.read_bytes(), path.name)
    assert len(slim) < path.stat().st_size - LARGE.nbytes - HALF.nbytes + 1000
    outside = {t.name for t in onnx.ModelProto.FromString(slim).graph.initializer if t.external_data}
    assert outside == {"large", "half"}
    (tmp_path / "slim.onnx").write_bytes(slim)
    restored = onnx.load(tmp_path / "slim.onnx")  # by onnx's own reader of external data
    for tensor in restored.graph.initializer:
        tensor.ClearField("data_location")
    assert restored == proto


@pytest.mark.parametrize("linked", [False, True])
def test_the_reader_maps_large_weights(tmp_path: Path, linked: bool) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model(*odd()), path)
    if linked:
        (tmp_path / "link.onnx").symlink_to(path)
        path = tmp_path / "link.onnx"
    found = read_onnx(path).graph.initializers
    for name, array in (("large", LARGE), ("half", HALF), ("small", SMALL)):
        tensor = found[name].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), array)
    assert mapping(found["large"].const_value.numpy()) is not None  # type: ignore[union-attr]
    assert mapping(found["small"].const_value.numpy()) is None  # type: ignore[union-attr]


def test_all_external_weights_share_one_mapping(tmp_path: Path) -> None:
    """One mapping a tensor would use up file descriptors, and a worker's address space many times over."""
    proto = model(*(numpy_helper.from_array(LARGE[:1] + n, f"w{n}") for n in range(1, 9)))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=1024)
    graph = read_onnx(tmp_path / "m.onnx").graph
    large = [f"w{n}" for n in range(1, 9)] + ["large", "half"]
    mappings = {id(mapping(graph.initializers[name].const_value.numpy())) for name in large}  # type: ignore[union-attr]
    assert len(mappings) == 1
    assert mapping(graph.initializers["large"].const_value.numpy()) is not None  # type: ignore[union-attr]
    np.testing.assert_array_equal(graph.initializers["w8"].const_value.numpy(), LARGE[:1] + 8)  # type: ignore[union-attr]


def test_a_staged_model_does_not_ask_for_itself(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "m.onnx")  # it says "location", so that its tensors are looked at
    assert sorted(p.name for p in stage(tmp_path / "m.onnx", tmp_path / "copy").parent.iterdir()) == ["m.onnx"]
    outside = tmp_path / "e.onnx"
    onnx.save(model(), outside, save_as_external_data=True, location="e.data", size_threshold=1024)
    assert sorted(p.name for p in stage(outside, tmp_path / "two").parent.iterdir()) == ["e.data", "e.onnx"]


@pytest.mark.parametrize("kept", [0.3, 0.9999])
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    data = model().SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SourceError, match="cannot be parsed"):
        read_onnx(path)


TINY = helper.make_model(
    helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "tiny",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 8])],
        [numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(2, 8), "w")],
    )
).SerializeToString()


@given(st.integers(0, len(TINY) - 1), st.integers(0, 255))
def test_damage_never_changes_what_is_read(place: int, byte: int) -> None:
    """Whatever a byte is changed to: refused, or what remains with the weight put back parses to the same model."""
    data = bytearray(TINY)
    data[place] = byte
    try:
        slim = without_weights(bytes(data), "tiny", kept_bytes=0)
    except ValueError:
        return
    try:
        whole = onnx.ModelProto.FromString(bytes(data))
    except DecodeError:  # what is no model stays none
        with pytest.raises(DecodeError):
            onnx.ModelProto.FromString(slim)
        return
    found = onnx.ModelProto.FromString(slim)
    for tensor in found.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            offset, length = int(entries["offset"]), int(entries["length"])
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            tensor.raw_data = bytes(data[offset : offset + length])
    assert found == whole


@pytest.mark.parametrize("external", [False, True])
def test_onnxruntime_opens_a_newer_file_with_its_weights_where_they_lie(tmp_path: Path, external: bool) -> None:
    """A file of an IR version that onnxruntime does not know yet is opened as one of an older version."""
    newer = model()
    newer.ir_version = 99
    beside = {"save_as_external_data": True, "location": "m.data", "size_threshold": 1024} if external else {}
    onnx.save(newer, tmp_path / "m.onnx", **beside)
    names = tuple(value.name for value in newer.graph.output)
    run, _ = open_original(tmp_path / "m.onnx", "onnx", (), names)
    found = run({})
    np.testing.assert_array_equal(found["large_out"], LARGE)
    np.testing.assert_array_equal(found["half_out"], HALF)
