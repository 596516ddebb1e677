"""The same file from the same input, byte for byte, in processes whose sets and addresses are ordered differently."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

CONVERT = """
import hashlib, sys
from pathlib import Path
from haversack.convert.pipeline import convert
for number, (model, recipe) in enumerate(zip(sys.argv[2::2], sys.argv[3::2])):
    path = Path(sys.argv[1]) / f"{number}.tflite"
    convert(model, to="tflite", compress=recipe, output=path, verify=False)
    print(Path(model).stem, recipe, hashlib.sha256(path.read_bytes()).hexdigest())
"""


def recurrent(path: Path) -> Path:
    """A bidirectional GRU whose batch stays symbolic."""
    rng = np.random.default_rng(1)
    shapes = {"w": (2, 12, 3), "r": (2, 12, 4), "b": (2, 24)}
    weights = [numpy_helper.from_array(rng.normal(0, 1, s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("GRU", ["x", "w", "r", "b"], ["y", "last"], hidden_size=4, direction="bidirectional"),
        helper.make_node("Tanh", ["y"], ["z"]),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, "batch", 3]),
        helper.make_tensor_value_info("z", TensorProto.FLOAT, [5, 2, "batch", 4]),
        helper.make_tensor_value_info("last", TensorProto.FLOAT, [2, "batch", 4]),
    ]
    graph = helper.make_graph(nodes, "recurrent", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]), path)
    return path


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    jobs = [
        (LIGHT / "light_shufflenet.onnx", "fp32"),  # grouped and depthwise convolutions, channel shuffles
        (LIGHT / "light_inception_v1.onnx", "int8-weights"),
        (LIGHT / "light_squeezenet.onnx", "fp16"),
        (recurrent(tmp_path / "recurrent.onnx"), "fp32"),  # subgraphs
    ]
    told = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        words = [str(word) for job in jobs for word in job]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-P", "-c", CONVERT, str(folder), *words]
        told.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert told[0] == told[1]
    assert len(told[0].splitlines()) == len(jobs)
    assert len({line.split()[-1] for line in told[0].splitlines()}) == len(jobs)
