"""Samples that are not kept: the same ones at each pass, noticed where they are not, in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from haversack.convert.data import open_data
from haversack.convert.data.dataset import Dataset, Feeds
from haversack.convert.errors import DataError, UsageError
from haversack.convert.verify import execute, samples
from haversack.convert.verify.execute import run_all
from haversack.convert.verify.samples import Streamed, hold
from haversack.runtimes.engines import Array, TensorSpec

SPEC = TensorSpec("x", "float32", ("n", 3))
VALUES = np.arange(120, dtype=np.float32).reshape(40, 3)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "HELD_BYTES", 100)


@pytest.mark.usefixtures("small")
def test_streamed_samples_are_those_that_would_be_kept() -> None:
    given = {"x": VALUES, "label": np.arange(40)}
    streamed = hold(open_data(given, [SPEC]))
    assert isinstance(streamed.feeds, Streamed)
    assert len(streamed) == 40
    assert streamed.labels is not None
    assert streamed.labels.tolist() == list(range(40))
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([feeds["x"] for feeds in streamed.feeds]), VALUES)
    assert [int(feeds["x"][0, 0]) for feeds in streamed.spread(4)] == [0, 30, 60, 90]
    assert [int(feeds["x"][0, 0]) for feeds in streamed.pick([7, 3, 7])] == [21, 9, 21]
    assert int(streamed.feeds[-1]["x"][0, 0]) == 117
    assert [int(feeds["x"][0, 0]) for feeds in streamed.feeds[38:]] == [114, 117]
    with pytest.raises(IndexError):
        streamed.feeds[40]
    outputs = run_all(lambda feeds: {"y": feeds["x"] * 2}, streamed)
    np.testing.assert_array_equal(outputs["y"], VALUES * 2)


def test_few_samples_are_kept() -> None:
    assert isinstance(hold(open_data({"x": VALUES}, [SPEC])).feeds, tuple)


class Fickle(Dataset):
    """Another sample, or fewer, at the second pass."""

    sha256, description = "0", "fickle"

    def __init__(self, *, fewer: bool):
        self._fewer, self._pass = fewer, 0

    def __len__(self) -> int:
        return 5

    def samples(self) -> Iterator[tuple[Feeds, Array | None]]:
        self._pass += 1
        for index in range(4 if self._fewer and self._pass > 1 else 5):
            moved = 0.5 if not self._fewer and self._pass > 1 and index == 3 else 0.0
            yield {"x": np.full((1, 30), index + moved, np.float32)}, None


@pytest.mark.usefixtures("small")
def test_data_that_changes_between_passes_is_refused() -> None:
    with pytest.raises(DataError, match="sample 3 is another one than when it was first read"):
        list(hold(Fickle(fewer=False)).feeds)
    with pytest.raises(DataError, match="5 samples at first and 4 now"):
        list(hold(Fickle(fewer=True)).feeds)


def test_outputs_that_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "OUTPUT_BYTES", 1000)
    held = hold(open_data({"x": VALUES}, [SPEC]))
    with pytest.raises(UsageError, match="the outputs of the first 3 fill"):
        run_all(lambda feeds: {"y": np.zeros((1, 100), np.float32)}, held)  # noqa: ARG005


MEASURE = """
import json, re, sys
from haversack import convert
from haversack.convert.data import arrays
from haversack.convert.verify import samples

def peak():
    # Not ru_maxrss, which a new process takes over from the one that started it.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

arrays.LARGE_BYTES = samples.HELD_BYTES = 16 << 20
model, few, many, folder = sys.argv[1:]
convert.convert(model, output=folder + "/few.tflite", inputs=few)
before = peak()
made = convert.convert(model, output=folder + "/many.tflite", inputs=many)
print(json.dumps([before, peak(), made.variant.verification.samples, made.variant.accuracy.samples]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc to read a peak from")
@pytest.mark.parametrize("form", ["npz", "function"])
def test_a_large_set_never_sits_in_memory(tmp_path: Path, form: str) -> None:
    """570 MB of samples, verified in a process that keeps 16 MB of them: its peak stays where it was with eight."""
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[4, 4]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["scores"]),
    ]
    edges = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 256, 256])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "m", *edges, [weights]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "m.onnx")
    few = np.stack([np.full((3, 256, 256), index, np.float32) for index in range(8)])
    np.savez(tmp_path / "few.npz", x=few, label=np.zeros(8, np.int64))
    if form == "npz":
        many = np.repeat(few, 95, axis=0) + np.arange(760, dtype=np.float32)[:, None, None, None]
        np.savez_compressed(tmp_path / "many.npz", x=many, label=np.zeros(760, np.int64))
        size, data = many.nbytes, str(tmp_path / "many.npz")
        del many
    else:
        (tmp_path / "large_set.py").write_text(
            "import numpy as np\n\ndef many():\n    for index in range(760):\n"
            '        yield {"x": np.full((1, 3, 256, 256), index, np.float32)}, 0\n',
            encoding="utf-8",
        )
        size, data = 760 * few[:1].nbytes, "large_set:many"
    assert size > 540 << 20
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "m.onnx"), str(tmp_path / "few.npz"), data, str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, peak, count, labelled = json.loads(done.stdout.splitlines()[-1])
    print(f"{form}: {before:.0f} MB before, {peak:.0f} after {size >> 20} MB of samples")
    assert (count, labelled) == (760, 760)
    assert peak - before < 100  # MB, of 570
