"""Small models, and a real Chromium: without one, or without the vendored runtime, these tests are skipped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from haversack.runtimes.engines.browser import session
from haversack.runtimes.engines.browser.chromium import find_chromium
from haversack.runtimes.engines.browser.vendored import is_here
from haversack.runtimes.errors import EngineError

Make = Callable[..., bytes]


@pytest.fixture(scope="session", autouse=True)
def _chromium() -> Iterator[None]:
    try:
        find_chromium()
    except EngineError as error:
        pytest.skip(str(error))
    if not is_here("onnxruntime-web"):
        pytest.skip("onnxruntime-web is not vendored here: make vendor")
    yield
    session.close_shared()


def one_node(
    op: str, dtype: int = TensorProto.FLOAT, shape: object = ("n", 4), out: int | None = None, **more: object
) -> bytes:
    """`y = op(x)`."""
    inputs = [helper.make_tensor_value_info("x", dtype, shape)]
    outputs = [helper.make_tensor_value_info("y", out or dtype, None)]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], **more)], "g", inputs, outputs)
    made = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    return made.SerializeToString()


def endless() -> bytes:
    """A model that computes for ever, or nearly: a loop of 2^40 additions."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Add", ["carried", "one"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [4]),
        ],
        [numpy_helper.from_array(np.ones(4, np.float32), "one")],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [numpy_helper.from_array(np.array(2**40, np.int64), "count")],
    )
    made = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    return made.SerializeToString()


def processes(text: str) -> list[int]:
    """The processes whose command line holds a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [each for each in found if each != os.getpid()]
