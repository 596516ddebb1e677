"""`--dim NAME=SIZE`: a symbolic dimension fixed on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import TensorProto, helper, save

from .conftest import haversack


@pytest.fixture
def symbolic(tmp_path: Path) -> Path:
    """Softmax of [batch, length, 4]."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "length", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"])], "g", ends[:1], ends[1:])
    path = tmp_path / "model.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def shapes(path: Path) -> tuple[list[int], list[int]]:
    from ai_edge_litert.interpreter import Interpreter

    [detail] = Interpreter(str(path)).get_input_details()
    return detail["shape"].tolist(), detail["shape_signature"].tolist()


def test_convert_fixes_what_is_named(symbolic: Path) -> None:
    output = symbolic.with_suffix(".tflite")
    done = haversack("convert", symbolic, "-o", output, "--dim", "length=7")
    assert done.code == 0, done.err
    assert shapes(output) == ([1, 7, 4], [-1, 7, 4])
    done = haversack("convert", symbolic, "-o", output, "--force", "--dim", "length=7", "--dim", "batch=2")
    assert done.code == 0, done.err
    assert shapes(output) == ([2, 7, 4], [2, 7, 4])
    checked = haversack("verify", output, "--against", symbolic, "--dim", "length=7", "--dim", "batch=2")
    assert checked.code == 0, checked.err


def test_inspect_asks_at_the_size(symbolic: Path) -> None:
    asked = haversack("inspect", symbolic, "--to", "coreml,tflite", "--json")
    coreml, tflite = json.loads(asked.out)["preflights"]
    assert (asked.code, tflite["blockers"]) == (1, [])
    (blocker,) = coreml["blockers"]
    assert blocker["remedy"].startswith("fix it with --dim length=SIZE, or give several: --dim length=16,32,64")
    assert haversack("inspect", symbolic, "--to", "coreml,tflite", "--dim", "length=7").code == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["width=3"], "no symbolic dimension 'width'; it has batch, length"),
        (["length"], "write it as NAME=SIZE"),
        (["length=0"], "write it as NAME=SIZE"),
        (["length=2", "length=3"], "--dim length is given two sizes, 2 and 3"),
    ],
)
def test_what_cannot_be_meant_is_one_line(symbolic: Path, given: list[str], said: str) -> None:
    done = haversack("convert", symbolic, "--to", "tflite", *(text for each in given for text in ("--dim", each)))
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert said in done.err
