"""What relaxing a budget would take, said so that it can be typed and holds."""

from __future__ import annotations

import dataclasses
import re

from hypothesis import given
from hypothesis import strategies as st

from haversack.convert.budget import Budget, budget_of, fits
from haversack.convert.measured import Accuracy, Latency, Verification
from haversack.convert.names import size_of
from haversack.convert.planning.choice import relaxing, rounded_up
from haversack.convert.report import Variant


@given(st.floats(1e-9, 1e9))
def test_three_digits_are_enough_and_not_far_beyond(value: float) -> None:
    told = float(f"{rounded_up(value):g}")
    assert value <= told <= 1.011 * value


@given(
    drop=st.floats(-2, 20),
    size=st.integers(1, 10**8),
    milliseconds=st.floats(1e-3, 1e5),
)
def test_what_is_said_to_be_enough_is_enough(drop: float, size: int, milliseconds: float) -> None:
    variant = Variant(
        target="tflite",
        compression="int8",
        path="m.tflite",
        companions=(),
        bytes=size,
        gzip_bytes=size,
        brotli_bytes=size,
        sha256="ab" * 32,
        verification=Verification(True),
        accuracy=Accuracy(0.9 - drop / 100, 0.6, 1.0, 1000, -drop / 100, -1.0, 1.0),
        latency=Latency(milliseconds, milliseconds, milliseconds, 100, 1, "litert", "here"),
    )
    # One limit is kept by far, the other is missed: each in turn is what must be relaxed.
    generous = Budget(max_drop=1e3, max_size=10**9, max_wire=10**9, max_latency=1e9)
    for name, option in (("max_drop", "--max-drop"), ("max_size", "--max-size"), ("max_latency", "--max-latency")):
        missed = dataclasses.replace(generous, **{name: -1e3 if name == "max_drop" else 0})
        assert not fits(variant, missed)
        (sentence,) = relaxing([variant], missed, ())
        told = re.fullmatch(rf"tflite: {option} (\S+) would be enough \(int8\)", sentence)
        assert told is not None, sentence
        read = {
            "max_drop": lambda text: budget_of(max_drop=float(text)),
            "max_size": lambda text: budget_of(max_size=size_of(text)),
            "max_latency": lambda text: budget_of(max_latency=text),
        }[name](told[1])
        assert fits(variant, dataclasses.replace(generous, **{name: getattr(read, name)}))
