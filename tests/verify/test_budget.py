"""Budgets: what is asked, how each limit is judged, and what other devices measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haversack.convert.budget import Budget, budget_of, device_latencies, fits, judge, misses
from haversack.convert.errors import UsageError
from haversack.convert.measured import Accuracy, Latency, Verification
from haversack.convert.names import latency_of
from haversack.convert.report import Pack, Variant, decode, encode


def variant(**measured: object) -> Variant:
    known: dict[str, object] = {
        "target": "tflite", "compression": "int8", "path": "m.tflite", "companions": (), "bytes": 60_000,
        "gzip_bytes": 45_000, "brotli_bytes": 40_000, "sha256": "ab" * 32, "verification": Verification(True),
    }  # fmt: skip
    return Variant(**{**known, **measured})  # type: ignore[arg-type]


def accuracy(difference: float, low: float, **more: object) -> Accuracy:
    return Accuracy(0.9 + difference, 0.88, 0.92, 1000, difference, low, -low, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2ms", (2.0, None)),
        ("800us", (0.8, None)),
        ("800 µs", (0.8, None)),
        ("1.5 s", (1500.0, None)),
        ("2ms@pi4", (2.0, "pi4")),
        (".5MS @ pixel 8", (0.5, "pixel 8")),
    ],
)
def test_latencies_are_written_with_a_unit_and_perhaps_a_device(text: str, wanted: tuple[float, str | None]) -> None:
    value, device = latency_of(text)
    assert (pytest.approx(value), device) == wanted


def test_a_latency_here_says_nothing_of_what_is_only_emulated_here() -> None:
    made = variant(target="coreml", verification=Verification(True, label="reference-evaluated"))
    assert judge(made, Budget(max_latency=1.0)) == ()
    assert fits(made, Budget(max_latency=1.0))
    (judged,) = judge(made, Budget(max_latency=1.0, device="iphone"))
    assert (judged.met, judged.measured) == (False, "no latency measured on iphone")


@pytest.mark.parametrize("text", ["2", "ms", "-1ms", "0ms", "2m", "2ms@", "nan ms", "inf ms", "", "2 hours", "1e400s"])
def test_what_is_no_latency_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no latency"):
        latency_of(text)


def test_a_device_needs_its_measurements_and_they_a_device(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--bench"):
        budget_of(max_latency="2ms@pi4")
    with pytest.raises(UsageError, match="2ms@DEVICE"):
        budget_of(max_latency="2ms", bench=tmp_path / "pi4.json")
    with pytest.raises(UsageError, match="--max-drop"):
        budget_of(confident=True)


def test_a_drop_is_judged_by_the_measured_difference_or_by_its_bound() -> None:
    made = variant(accuracy=accuracy(-0.004, -0.015))
    (measured,) = judge(made, Budget(max_drop=1.0))
    assert (measured.met, measured.value) == (True, pytest.approx(0.4))
    (bound,) = judge(made, Budget(max_drop=1.0, confident=True))
    assert (bound.met, bound.value) == (False, pytest.approx(1.5))
    assert fits(made, Budget(max_drop=1.5, confident=True))


def test_a_drop_of_an_error_is_a_rise_in_its_own_unit() -> None:
    made = variant(accuracy=accuracy(0.03, -0.01, metric="mse", higher_is_better=False, unit=""))
    (measured,) = judge(made, Budget(max_drop=0.02))
    assert (measured.met, measured.value) == (False, pytest.approx(0.03))


def test_a_better_variant_has_a_drop_below_zero() -> None:
    assert fits(variant(accuracy=accuracy(+0.01, -0.001)), Budget(max_drop=0.0))


@pytest.mark.parametrize(
    ("budget", "met"),
    [
        (Budget(max_size=60_000), True),
        (Budget(max_size=59_999), False),
        (Budget(max_gzip=45_000), True),
        (Budget(max_wire=39_999), False),
        (Budget(max_latency=2.0), True),
        (Budget(max_latency=0.9), False),
        (Budget(verified=True), True),
        (Budget(min_accuracy=0.9), True),
        (Budget(min_accuracy=0.91), False),
    ],
)
def test_each_limit(budget: Budget, *, met: bool) -> None:
    made = variant(accuracy=accuracy(0.0, -0.01), latency=Latency(1.0, 2.0, 3.0, 10, 1, "litert", "here"))
    (judged,) = judge(made, budget)
    assert judged.met is met
    assert fits(made, budget) is met


def test_what_was_not_measured_is_not_met() -> None:
    bare = variant(gzip_bytes=None, brotli_bytes=None, verification=Verification(False))
    everything = Budget(
        max_drop=9, max_size=10**9, max_gzip=10**9, max_wire=10**9, max_latency=1e6, min_accuracy=0, verified=True
    )
    assert [each.budget for each in judge(bare, everything) if each.met] == ["max_size"]


def test_a_stand_in_for_an_accuracy_is_said_to_be_one() -> None:
    made = variant(accuracy=accuracy(-0.002, -0.01, metric="top1", against="source"))
    drop, least = judge(made, Budget(max_drop=1.0, min_accuracy=0.5))
    assert drop.met
    assert "agreement with the source" in drop.measured
    assert not least.met


def test_a_device_has_its_own_latencies(tmp_path: Path) -> None:
    path = tmp_path / "pi4.json"
    rows = [
        {"artifact": "m.haversack:tflite-int8", "latency": {"p50": 3.0}},
        {"artifact": "m.haversack:tflite-fp32", "sha256": "cd" * 32, "latency": {"p50": 9.0}},
    ]
    path.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    budget = budget_of(max_latency="4ms@pi4", bench=path)
    (judged,) = judge(variant(), budget)
    assert (judged.met, judged.value) == (True, 3.0)
    assert "pi4" in judged.measured
    # With a hash it is that artifact's number and no other's, however it is called.
    (other,) = judge(variant(compression="fp32"), budget)
    assert (other.met, other.value) == (False, None)
    (same,) = judge(variant(compression="fp32", sha256="cd" * 32), budget)
    assert (same.met, same.value) == (False, 9.0)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"rows": [{}]}', '{"rows": [{"artifact": "a", "latency": {"p50": -1}}]}']
)
def test_what_is_no_bench_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "pi4.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"pi4\.json: not what haversack bench --json writes"):
        device_latencies(tmp_path / "pi4.json")
    with pytest.raises(UsageError, match="cannot be read"):
        device_latencies(tmp_path / "none.json")


def test_targets_without_a_variant_within_the_budget_are_named_with_numbers() -> None:
    made = [variant(), variant(target="onnx", bytes=10)]
    (told,) = misses(made, ["tflite", "onnx"], Budget(max_size=100))
    assert told == "tflite: no variant fits 100 bytes; measured: int8 60,000 bytes"
    assert misses(made, ["coreml"], Budget(max_size=100)) == ("coreml: no variant could be made",)
    assert misses(made, ["coreml"], Budget()) == ()


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_relaxing_never_breaks(bytes: int, limit: int) -> None:
    made = variant(bytes=bytes)
    assert fits(made, Budget(max_size=limit)) == (bytes <= limit)
    assert fits(made, Budget(max_size=max(limit, bytes)))


def test_judgements_survive_the_way_to_the_command_line() -> None:
    from haversack.convert.described import Model

    model = Model("m", "onnx", "0" * 64, 1, 21, 1, {}, 1, (), ())
    judged = {"tflite/int8": judge(variant(), Budget(max_size=1, max_latency=1))}
    made = Pack(model, "", 1, (variant(),), budgets=judged)
    assert decode(Pack, json.loads(json.dumps(encode(made)))) == made
