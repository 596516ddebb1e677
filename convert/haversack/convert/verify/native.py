"""An artifact in a browser engine against the same artifact in its native engine, whenever a browser runs one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from haversack.convert.errors import VerificationError
from haversack.convert.report_browser import InBrowser, ToNative
from haversack.convert.verify.compare import distance
from haversack.convert.verify.contract import FLOAT32
from haversack.runtimes.engines import BY_NAME, Array, Engine

INTEGER_OPS = (
    b"QuantizeLinear",
    b"QLinear",
    b"MatMulInteger",
    b"ConvInteger",
    b"QGemm",
    b"QAttention",
    b"DynamicQuant",
)
"""How the operators that compute in integers are spelled in an `.onnx` or `.ort` file, where an operator's name is
plain text; `DequantizeLinear`, which alone computes in floats, is spelled with a small q."""


def is_browser(engine: str | None) -> bool:
    """Whether an engine's name is a browser engine's."""
    return engine in BY_NAME


def computes_in_integers(content: bytes, native: Engine) -> bool:
    """Whether an artifact's outputs come out of integer kernels, which may round apart between processors.

    Args:
        content: Its bytes.
        native: The same, opened natively.
    """
    if native.name == "litert":
        details = native._interpreter.get_tensor_details()  # type: ignore[attr-defined]
        return any(each["dtype"] in (np.int8, np.int16) and each["quantization"][0] for each in details)
    return any(op in content for op in INTEGER_OPS)


def compared(
    name: str, content: bytes, browser: Engine, native: Engine, found: Mapping[str, Array], wanted: Mapping[str, Array]
) -> tuple[ToNative, ...]:
    """Hold what a browser gave to what the native engine gave for the same samples.

    Float kernels: a relative error of at most 1e-4, the contract of `fp32`. Integer kernels: the same, or, since two
    correct ones may round a tie apart and what follows may carry that on, a difference that 8 bits do not show: at
    most two steps, a step being the output's range over 255, or in the mean no more than rounding to that step costs
    (its variance is step^2 / 12).

    Args:
        name: The artifact's, for messages.
        content: Its bytes.
        browser: The browser's engine.
        native: The native one.
        found: The browser's outputs, joined over all samples.
        wanted: The native engine's.

    Raises:
        VerificationError: They differ by more, in shape, or in where they are not finite.
    """
    rows = []
    for output, value in wanted.items():
        other = found[output]
        where = f"{name}: output {output} in {browser.name} ({browser.version})"
        if other.shape != value.shape or other.dtype != value.dtype:
            raise VerificationError(
                f"{where} is {other.dtype} {list(other.shape)}, {value.dtype} {list(value.shape)} in {native.name}"
            )
        if value.dtype.kind in "OUS":
            if not np.array_equal(other, value):
                raise VerificationError(f"{where} is other text than in {native.name}")
            rows.append(ToNative(output, 0.0, 0.0))
            continue
        far = distance(value, other)
        rows.append(ToNative(output, far.max_abs, far.relative))
        if far.relative <= FLOAT32:
            continue
        said = f"{where} differs from {native.name}: relative error {far.relative:.2e}, {FLOAT32:g} allowed"
        if not np.isfinite(far.max_abs):
            raise VerificationError(f"{where} is not finite where it is in {native.name}, or the reverse")
        if not computes_in_integers(content, native):
            raise VerificationError(said)
        if not _within_rounding(value, other):
            raise VerificationError(f"{said}, or else what two integer kernels may round apart, which it exceeds")
    return tuple(rows)


def _within_rounding(wanted: Array, found: Array) -> bool:
    finite = np.isfinite(wanted)
    one, two = wanted[finite].astype(np.float64), found[finite].astype(np.float64)
    step = float(np.ptp(one)) / 255 if wanted.dtype.kind == "f" else 1.0
    apart = np.abs(one - two)
    return float(apart.max(initial=0.0)) <= 2 * step or float(np.square(apart).mean()) <= step**2 / 12


def described(browser: Any, native: Engine, outputs: tuple[ToNative, ...]) -> InBrowser:
    """What a report says of a run in a browser."""
    facts = browser.facts
    return InBrowser(
        chromium=facts.chromium,
        runtime=facts.runtime,
        threads=facts.threads,
        isolated=facts.isolated,
        runtime_ms=facts.runtime_ms,
        load_ms=browser.load_ms,
        first_run_ms=browser.first_ms,
        native=f"{native.name} {native.version}",
        outputs=outputs,
    )


def sentences(browser: InBrowser) -> list[str]:
    """Where an artifact ran and how far it was from the native engine, for notes."""
    threads = f"{browser.threads} thread{'s' if browser.threads > 1 else ''}"
    where = f"In {browser.chromium} with {threads}, {'isolated' if browser.isolated else 'not isolated'}"
    worst = max(browser.outputs, key=lambda each: each.max_relative, default=None)
    far = "the same to the last bit as"
    if worst is not None and worst.max_abs:
        far = f"within a relative error of {worst.max_relative:.1e} (output {worst.name}) of"
    return [f"{where}: {far} {browser.native}."]
