"""Run coremltools' own op tests with the reference evaluator in Core ML's place.

    python benchmarks/coreml_conformance.py                      every test of the wheel, in float32 and float16
    python benchmarks/coreml_conformance.py --shard 3/20         a fixed twentieth of them
    python benchmarks/coreml_conformance.py -k TestConv --failures 10

The wheel ships the tests of every MIL op. Off Apple they stop after conversion; here `predict` and `make_state` lead to
the evaluator, which reads the package that the test has just written. What the tests expect is computed by NumPy,
PyTorch or TensorFlow, or stated as numbers, so they judge the evaluator independently of Haversack's own lowering.

Counted per op (test class): collected, called (`predict` was called), passed and failed of the called ones. An
exception or a skip after the call is a failure. The totals stand apart for

    fp32    float32 configurations whose program has no float16 value
    mixed   float32 configurations of tests that put float16 values into the program themselves; many of them state
            what they expect in float16, and compare it at a float32 tolerance, which its own rounding exceeds
    fp16    float16 configurations, which the tests compare with an absolute tolerance of 0.5

Tests that need a library which is not installed (PyTorch, TensorFlow) are skipped by coremltools, or fail, before any
call and show as collected but not called.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Read by coremltools' test modules when they are imported.
os.environ.setdefault("PYMIL_TEST_TARGETS", "mlprogram")
os.environ.setdefault("INCLUDE_MIL_FP32_UNIT_TESTS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from haversack.runtimes.engines.coreml import Evaluator, read_package
from haversack.runtimes.engines.coreml.program import Feature, Operation
from haversack.runtimes.errors import EngineError


@dataclass
class Outcome:
    """What became of one test."""

    name: str
    group: str
    precision: str
    called: bool = False
    result: str = "not run"
    message: str = ""


@dataclass
class Conformance:
    """A pytest plugin: selects the shard, puts the evaluator in Core ML's place, and records every outcome."""

    shard: int
    shards: int
    precision: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    current: Outcome | None = None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests of the shard and precision asked for."""
        install(self)
        kept = []
        for item in items:
            if zlib.crc32(item.name.encode()) % self.shards != self.shard:
                continue
            precision = _precision(item)
            if self.precision not in ("all", precision):
                continue
            group = f"{Path(str(item.path)).parent.name}/{item.parent.name if item.parent else ''}"
            self.outcomes[item.nodeid] = Outcome(item.nodeid.rsplit("::", 2)[-1], group, precision)
            kept.append(item)
        items[:] = kept

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Note which test runs."""
        self.current = self.outcomes[item.nodeid]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record what became of a test."""
        outcome = self.outcomes[report.nodeid]
        if report.when == "call" or report.outcome != "passed":
            expected = hasattr(report, "wasxfail") and report.outcome == "skipped"
            outcome.result = "xfailed" if expected else report.outcome
            if report.outcome == "failed":
                outcome.message = _last_line(str(report.longrepr))


def install(plugin: Conformance) -> None:
    """Let coremltools' tests believe in Core ML, and lead its calls to the evaluator."""
    from coremltools.converters.mil import testing_utils
    from coremltools.models import utils
    from coremltools.models.model import MLModel

    utils._macos_version = lambda: (15, 0)
    testing_utils._IS_MACOS = True

    def predict(model: Any, data: dict[str, Any], state: dict[str, np.ndarray] | None = None) -> dict[str, Any]:
        if plugin.current is not None:
            plugin.current.called = True
        evaluator = getattr(model, "_haversack", None)
        if evaluator is None:
            evaluator = model._haversack = Evaluator(read_package(Path(model.package_path)), model.function_name)
        if plugin.current is not None and plugin.current.precision == "fp32" and _has_float16(evaluator):
            plugin.current.precision = "mixed"
        try:
            outputs = evaluator.run(_feeds(evaluator, data), state=state)
        except EngineError as error:  # Core ML's own kind of error, which some tests expect
            raise RuntimeError(f"Unable to compute the prediction using ML Program: {error}") from error
        # Core ML has no scalar outputs: it gives arrays of one element.
        return {n: v.reshape(1) if isinstance(v, np.ndarray) and v.ndim == 0 else v for n, v in outputs.items()}

    def make_state(model: Any) -> dict[str, np.ndarray]:
        return Evaluator(read_package(Path(model.package_path)), model.function_name).new_state()

    MLModel.predict = predict
    MLModel.make_state = make_state


def _has_float16(evaluator: Evaluator) -> bool:
    """Say whether any value of the program, constants included, is float16."""

    def types(operations: tuple[Operation, ...]) -> Iterator[str]:
        for operation in operations:
            yield from (output.type.dtype for output in operation.outputs)
            yield from (constant.type.dtype for constant in operation.attributes.values())
            for bound in operation.inputs.values():
                yield from (value.type.dtype for value in bound if not isinstance(value, str))
            for block in operation.blocks:
                yield from types(block.operations)

    inputs = (item.type.dtype for item in evaluator.function.inputs)
    return "float16" in inputs or "float16" in types(evaluator.function.block.operations)


def _feeds(evaluator: Evaluator, data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Convert what a test hands to `predict` as Core ML does: to the declared dtype, images to pixel values."""
    features = {feature.name: feature for feature in evaluator.program.inputs}
    feeds = {}
    for item in evaluator.function.inputs:
        if item.type.kind == "state":
            continue
        value = data[item.name]
        if not isinstance(value, np.ndarray):
            value = _pixels(value, features[item.name])
        if item.type.shape == ():
            value = value.reshape(())
        feeds[item.name] = value.astype(item.type.storage)
    return feeds


def _pixels(image: Any, feature: Feature) -> np.ndarray:
    pixels = np.asarray(image, np.float32)
    if pixels.ndim == 2:
        return pixels[None, None]
    pixels = pixels[..., :3].transpose(2, 0, 1)[None]
    return pixels[:, ::-1] if feature.color_space == "BGR" else pixels


def _precision(item: pytest.Item) -> str:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    backend = parameters.get("backend")
    return getattr(backend, "precision", backend[1] if isinstance(backend, tuple) else "none")


def _last_line(text: str) -> str:
    lines = [line[2:].strip() for line in text.splitlines() if line.startswith("E ")]
    return " ".join(lines[:3])[:300] if lines else text.strip().splitlines()[-1][:300]


def report(plugin: Conformance, failures: int) -> tuple[dict[str, Any], str]:
    """Return the totals and a table by op."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in plugin.outcomes.values():
        for key in (outcome.group, "total", f"total {outcome.precision}"):
            count = groups[key]
            count["collected"] += 1
            if outcome.called:
                count["called"] += 1
                count["passed" if outcome.result == "passed" else "failed"] += 1
            else:
                count[f"not called, {outcome.result}"] += 1
    lines = [f"{'op':60}{'collected':>10}{'called':>8}{'passed':>8}{'failed':>8}"]
    for key in sorted(groups, key=lambda k: (k.startswith("total"), k)):
        count = groups[key]
        lines.append(f"{key:60}" + f"{count['collected']:10}{count['called']:8}{count['passed']:8}{count['failed']:8}")
    bad = [o for o in plugin.outcomes.values() if o.called and o.result != "passed"]
    lines += [f"{o.group}::{o.name} ({o.result}) {o.message}" for o in bad[:failures]]
    broken = [o for o in plugin.outcomes.values() if not o.called and o.result == "failed"]
    lines += [f"failed before any call: {o.group}::{o.name} {o.message}" for o in broken[:failures]]
    return {key: dict(count) for key, count in groups.items() if key.startswith("total")}, "\n".join(lines)


def run(
    *, shard: str = "1/1", precision: str = "all", keyword: str = "", files: tuple[str, ...] = (), failures: int = 20
) -> tuple[dict[str, Any], str]:
    """Run a shard; returns the totals and the table.

    Args:
        shard: `3/20` is the third of twenty fixed parts.
        precision: `fp32`, `fp16` or `all`.
        keyword: Pytest's `-k` expression.
        files: Paths inside coremltools' op tests, such as `iOS14/test_conv.py`; all when empty.
        failures: How many failures to list.
    """
    from coremltools.converters.mil.mil.ops import tests

    root = Path(tests.__file__).parent
    number, count = (int(part) for part in shard.split("/"))
    plugin = Conformance(number - 1, count, precision)
    arguments = [
        *(str(root / name) for name in files or (".",)),
        *("-q", "--no-header", "--tb=line", "--show-capture=no", "--no-summary", "--continue-on-collection-errors"),
        *("-p", "no:cacheprovider", "-p", "no:warnings", "--import-mode=importlib"),
        *("-c", os.devnull, "--rootdir", str(root)),
    ]
    if keyword:
        arguments += ["-k", keyword]
    pytest.main(arguments, plugins=[plugin])
    return report(plugin, failures)


def main() -> None:
    """Run what the command line asks for and print the table; exit 1 if anything called has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="test files such as iOS14/test_conv.py; all by default")
    parser.add_argument("--shard", default="1/1", help="k/n: the k-th of n fixed parts")
    parser.add_argument("--precision", default="all", choices=("fp32", "fp16", "all"))
    parser.add_argument("-k", dest="keyword", default="", help="pytest's expression")
    parser.add_argument("--failures", type=int, default=50, help="how many failures to list")
    parser.add_argument("--json", type=Path, help="write the totals here")
    given = parser.parse_args()
    totals, table = run(
        shard=given.shard,
        precision=given.precision,
        keyword=given.keyword,
        files=tuple(given.files),
        failures=given.failures,
    )
    print(table)
    if given.json:
        given.json.write_text(json.dumps(totals, indent=2) + "\n", "utf-8")
    sys.exit(1 if totals.get("total", {}).get("failed") else 0)


if __name__ == "__main__":
    main()
