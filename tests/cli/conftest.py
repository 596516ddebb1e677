"""A small trained-like model, its data, and the real command line in a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Command = Callable[..., "Done"]

HOSTILE = """
import os, pathlib, signal, sys, time
import numpy as np

def _samples():
    rng = np.random.default_rng(1)
    for _ in range(4):
        yield {"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)}, 0

def good():
    yield from _samples()

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)
    yield from _samples()

def killed():
    os.kill(os.getpid(), signal.SIGKILL)
    yield from _samples()

def leave():
    os._exit(7)
    yield

def raises():
    raise ZeroDivisionError("an evil data function")
    yield

def noisy():
    os.write(1, b"vendor chatter on stdout\\n")
    os.write(2, b"vendor chatter on stderr\\n")
    yield from _samples()

def hang():
    marker = pathlib.Path(__file__).with_name("worker.pid")
    marker.with_suffix(".part").write_text(str(os.getpid()))
    marker.with_suffix(".part").rename(marker)
    time.sleep(600)
    yield from _samples()

_HELD = []

def hoard():
    # Fill the memory in pieces until none is left, keep it, and let the rest of the work find out.
    size = 1 << 27
    while size > 1 << 22:
        try:
            _HELD.append(np.ones(size // 8))
        except MemoryError:
            size //= 2
    yield from _samples()
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on stderr; fails where there is another number of them."""
        lines = self.err.splitlines()
        assert len(lines) == 1, f"expected one line on stderr, found {self.err!r}"
        assert lines[0].startswith("haversack: ")
        return lines[0]


def small_model(classes: int = 5, seed: int = 0, *, batch: int | str = "batch") -> onnx.ModelProto:
    """A network of two convolutions and a dense layer with random weights; logits are its output."""
    rng = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        return numpy_helper.from_array((rng.normal(size=shape) * scale).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="first_relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="second", strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], name="second_relu"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["scores"], name="dense", transB=1),
    ]
    initializers = [
        weights("w1", 8, 3, 3, 3),
        weights("b1", 8),
        weights("w2", 16, 8, 3, 3),
        weights("b2", 16),
        weights("w3", classes, 16),
        weights("b3", classes),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, classes])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def haversack(*words: object, cwd: Path | None = None, timeout: float = 120, env: dict[str, str] | None = None) -> Done:
    """Run the installed command."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("haversack")), *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An `.onnx` file."""
    path = tmp_path / "small.onnx"
    onnx.save(small_model(), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An `.npz` of 40 inputs with the labels that the model itself gives most of them."""
    from haversack.runtimes.engines.onnxruntime import open_artifact

    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(40, 3, 8, 8)).astype(np.float32)
    engine = open_artifact(small_model().SerializeToString())
    label = engine.run({"x": inputs})["scores"].argmax(axis=1)
    label[::10] = (label[::10] + 1) % 5  # 36 of 40 right: 90 %
    path = tmp_path / "data.npz"
    np.savez(path, x=inputs, label=label.astype(np.int64))
    return path


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    """An `.npz` of 32 inputs, none of them in `data`."""
    path = tmp_path / "calibration.npz"
    np.savez(path, x=np.random.default_rng(4).normal(size=(32, 3, 8, 8)).astype(np.float32))
    return path


@pytest.fixture
def hostile(model: Path) -> Path:
    """A folder with the model and a module of data functions that crash, hang and eat the worker that calls them."""
    (model.parent / "hostile.py").write_text(HOSTILE, encoding="utf-8")
    return model.parent


def names(folder: Path) -> set[str]:
    """Everything in a folder, hidden files too."""
    return {path.name for path in folder.iterdir() if path.name != "__pycache__"}
