"""Browser against native: what is held to what, and what the commands make of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from haversack.convert.cli import main
from haversack.convert.errors import VerificationError
from haversack.convert.latency_browser import middle, paired
from haversack.convert.verify.native import compared
from haversack.runtimes.engines import Array

from .conftest import endless, one_node, processes

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "demo" / "haversack" / "demo" / "digits"
FLOATS, INTEGERS = b"Conv MatMul DequantizeLinear", b"Conv QuantizeLinear"


@dataclass
class Named:
    """What a comparison reads of an engine."""

    name: str
    version: str = "1.0"


def held(content: bytes, wanted: Array, found: Array) -> float:
    (row,) = compared("m.onnx", content, Named("browser"), Named("onnxruntime"), {"y": found}, {"y": wanted})  # type: ignore[arg-type]
    return row.max_relative


WANTED = np.linspace(-1, 1, 256, dtype=np.float32)


def moved(by: float, every: int = 1) -> Array:
    found = WANTED.copy()
    found[::every] += np.float32(by)
    return found


def test_floats_are_held_to_1e_4() -> None:
    assert held(FLOATS, WANTED, WANTED) == 0
    assert held(FLOATS, WANTED, moved(9e-5)) == pytest.approx(9e-5, rel=1e-2)
    with pytest.raises(VerificationError, match=r"output y in browser \(1\.0\) differs from onnxruntime"):
        held(FLOATS, WANTED, moved(1.1e-4))


def test_integers_may_round_a_tie_apart_and_no_more() -> None:
    step = 2 / 255
    with pytest.raises(VerificationError):
        held(FLOATS, WANTED, moved(step, every=50))
    assert held(INTEGERS, WANTED, moved(2 * step * 0.999)) > 1e-4
    # Three steps: one value in 256 is less than what rounding costs in the mean, every tenth is not.
    assert held(INTEGERS, WANTED, moved(3 * step, every=256)) > 1e-4
    with pytest.raises(VerificationError, match="exceeds"):
        held(INTEGERS, WANTED, moved(3 * step, every=10))


@pytest.mark.parametrize("content", [FLOATS, INTEGERS])
def test_nan_must_be_where_it_is_natively(content: bytes) -> None:
    nan, infinite = WANTED.copy(), WANTED.copy()
    nan[3], infinite[3] = np.nan, np.inf
    assert held(content, nan, nan) == 0
    assert held(content, infinite, infinite) == 0
    for wanted, found in ((WANTED, nan), (nan, WANTED), (infinite, nan), (WANTED, infinite), (infinite, -infinite)):
        with pytest.raises(VerificationError, match="not finite"):
            held(content, wanted, found)


def test_shape_and_type_and_text_must_be_the_same() -> None:
    text = np.array(["a", "b"], object)
    assert held(FLOATS, text, text.copy()) == 0
    for wanted, found in ((WANTED, WANTED[:-1]), (WANTED, WANTED.astype(np.float64)), (text, text[::-1])):
        with pytest.raises(VerificationError):
            held(FLOATS, wanted, found)


class Clock:
    """An engine whose every call takes what it says."""

    def __init__(self, milliseconds: list[float]):
        self.milliseconds, self.asked = milliseconds, 0

    def time(self, feeds: object, *, seconds: float, runs: int) -> Array:  # noqa: ARG002
        self.asked += 1
        return np.array(self.milliseconds)


def test_a_ratio_is_formed_of_paired_rounds() -> None:
    one, two = Clock([1.0, 1.0, 1.0, 1.0, 100.0]), Clock([2.0, 3.0, 2.5, 2.5, 900.0])
    first, second = paired([one, two], {}, runs=1000, seconds=1)  # type: ignore[list-item]
    assert one.asked == two.asked == 21
    assert first.ratio == 1
    assert second.ratio == pytest.approx(np.mean([2.5, 2.5, 3.0]))  # an outlier is no part of the middle half
    assert len(second.milliseconds) == 20 * 5
    assert middle(np.array([0.0, 1.0, 2.0, 100.0])) == 1.5


def haversack(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from haversack.convert.cli import main; sys.exit(main())"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_run_in_the_browser(tmp_path: Path) -> None:
    given, written = DIGITS / "evaluation.npz", tmp_path / "y.npz"
    done = haversack("run", DIGITS / "digits.onnx", "--input", given, "--engine", "browser", "--json", "-o", written)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    browser = said["browser"]
    assert said["samples"] == 540
    assert browser["isolated"] is True
    assert browser["threads"] == 1
    assert browser["chromium"].startswith("Chrome/")
    assert browser["runtime"] == "onnxruntime-web 1.30.0"
    assert browser["native"].startswith("onnxruntime 1.")
    assert browser["outputs"][0]["max_relative"] <= 1e-4
    assert browser["runtime_ms"] > 0 < browser["load_ms"]
    import onnxruntime

    session = onnxruntime.InferenceSession(DIGITS / "digits.onnx", providers=["CPUExecutionProvider"])
    with np.load(given) as data, np.load(written) as outputs:
        wanted = session.run(None, {"image": data["image"]})[0]
        np.testing.assert_allclose(outputs["probabilities"], wanted, atol=1e-4)


@pytest.mark.slow
def test_verify_and_bench_in_the_browser() -> None:
    model = DIGITS / "digits.onnx"
    done = haversack("verify", model, "--against", model, "--inputs", DIGITS / "evaluation.npz", "--engine", "browser")
    assert done.returncode == 0, done.stderr
    assert "by browser onnxruntime-web 1.30.0 in Chrome/" in done.stdout
    assert "with 1 thread, isolated" in done.stdout
    done = haversack("bench", model, "--engine", "browser", "--seconds", 1, "--threads", 2, "--json")
    assert done.returncode == 0, done.stderr
    native, browser = json.loads(done.stdout)["rows"]
    assert native["browser"] is None
    assert native["ratio"] is None
    assert browser["browser"]["threads"] == 2
    assert browser["ratio_low"] <= browser["ratio"] <= browser["ratio_high"]
    for row in (native, browser):
        latency = row["latency"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
        assert latency["runs"] >= 100
    assert browser["cold_start_ms"] > native["cold_start_ms"]
    assert browser["peak_rss_mb"] > 100


@pytest.mark.slow
def test_verification_in_the_browser_can_fail(tmp_path: Path) -> None:
    """Another model's artifact is no artifact of this model, in a browser as elsewhere."""
    (tmp_path / "one.onnx").write_bytes(one_node("Neg", shape=(1, 4)))
    (tmp_path / "two.onnx").write_bytes(one_node("Exp", shape=(1, 4)))
    done = haversack("verify", tmp_path / "one.onnx", "--against", tmp_path / "two.onnx", "--engine", "browser")
    assert done.returncode == 1
    assert "differs from the source" in done.stderr


@pytest.mark.slow
def test_a_command_that_is_stopped_leaves_no_browser(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(endless())
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    before = set(processes("haversack-chromium-"))
    done = haversack("run", tmp_path / "m.onnx", "--input", tmp_path / "x.npz", "--engine", "browser", "--timeout", 12)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    import time

    until = time.monotonic() + 15
    while set(processes("haversack-chromium-")) - before and time.monotonic() < until:
        time.sleep(0.1)
    assert not set(processes("haversack-chromium-")) - before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "{d}/digits.onnx", "--input", "{d}/evaluation.npz", "--engine", "chrome"], "unknown engine 'chrome'"),
        (
            ["run", "{d}/digits.onnx", "--input", "{d}/evaluation.npz", "--engine", "litertjs"],
            "runs in browser or onnx",
        ),
        (["verify", "{d}/digits.onnx", "--against", "{d}/digits.onnx", "--engine", "litertjs"], "not in litertjs"),
        (["bench", "{d}/digits.onnx", "--engine", "litertjs"], "litertjs runs none of digits.onnx"),
    ],
)
def test_an_engine_that_does_not_run_it(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([each.format(d=DIGITS) for each in arguments]) in (1, 2)
    assert says in capsys.readouterr().err
