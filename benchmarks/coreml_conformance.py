"""Run coremltools' own op tests with the reference evaluator in Core ML's place.

    python -m benchmarks.coreml_conformance --jobs 2 --results done.jsonl     all of them; continues where it stopped
    python -m benchmarks.coreml_conformance --shard 3/100                     a fixed hundredth
    python -m benchmarks.coreml_conformance iOS14/test_conv.py -k TestConv --precision fp32

The wheel ships the tests of every MIL op. Off Apple they stop after conversion; here `predict` and `make_state` lead to
the evaluator, which reads the package that the test has just written. What the tests expect is computed by NumPy,
PyTorch or TensorFlow, or stated as numbers, so they judge the evaluator independently of Haversack's own lowering.

Counted per op (test class): collected, called (`predict` was called), passed and failed of the called ones. An
exception or a skip after the call is a failure. The totals stand apart for

    fp32    float32 configurations whose program has no float16 value
    mixed   float32 configurations of tests that put float16 values into the program themselves, and compare with
            float32's tolerance (1e-4) what the program rounds to float16 (5e-4 of the value)
    fp16    float16 configurations, which the tests compare with an absolute tolerance of 0.5

A called test that does not pass is listed with its reason; `coreml_reasons` says which there are.

Each test starts from random numbers seeded by its name, so it gives the same result every time. With `--results` every
finished test is appended to a file, and none is run twice for the same evaluator, way of running it and libraries.
Tests that need a library which is not installed, or one too new for coremltools, are skipped by it or fail before any
call, and show as collected but not called.
"""

from __future__ import annotations

import argparse
import functools
import gc
import hashlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
import types
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

# Read by coremltools' test modules when they are imported. The first adds every older opset to the latest.
os.environ.setdefault("RUN_BACKWARD_COMPATIBILITY", "1")
os.environ.setdefault("PYMIL_TEST_TARGETS", "mlprogram")
os.environ.setdefault("INCLUDE_MIL_FP32_UNIT_TESTS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from benchmarks.coreml_reasons import REASONS, float16_reason
from haversack.runtimes.engines import coreml
from haversack.runtimes.engines.coreml import Evaluator, read_package
from haversack.runtimes.engines.coreml.program import Feature, Operation
from haversack.runtimes.errors import EngineError

CLASSES = ("fp32", "mixed", "fp16", "none")


@dataclass
class Outcome:
    """What became of one test."""

    name: str
    group: str
    precision: str
    called: bool = False
    result: str = "not run"
    message: str = ""
    reason: str = ""


@dataclass
class Record:
    """Finished tests in a file of JSON lines, each with the state of the code that gave it.

    Attributes:
        path: The file; created when the first test has finished.
        state: A digest of the evaluator, of what runs a test here and of the versions of what the tests compare with.
        lines: Results not yet written.
    """

    path: Path
    state: str
    lines: list[str] = field(default_factory=list)

    def read(self) -> dict[str, Outcome]:
        """Return the outcomes of this state by test id."""
        outcomes = {}
        for line in self.path.read_text("utf-8").splitlines() if self.path.exists() else ():
            values = json.loads(line)
            if values.pop("state") == self.state:
                test = values.pop("id")
                outcomes[test] = Outcome(**values)
        return outcomes

    def add(self, test: str, outcome: Outcome) -> None:
        """Keep a test's outcome for the file."""
        self.lines.append(json.dumps({"state": self.state, "id": test, **asdict(outcome)}) + "\n")
        if len(self.lines) >= 20:
            self.flush()

    def flush(self) -> None:
        """Append what is kept, in one write, so that several processes may share the file."""
        with self.path.open("ab", buffering=0) as file:
            file.write("".join(self.lines).encode())
        self.lines.clear()


def state() -> str:
    """Return the digest that `Record.state` describes."""
    parts = (Conformance, install, _judge, float16_reason, _has_float16, _feeds, _pixels, _precision)
    digest = hashlib.sha256("".join(inspect.getsource(part) for part in parts).encode())
    for path in sorted(Path(coreml.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    for name in ("coremltools", "numpy", "torch", "tensorflow"):
        digest.update(f"{name} {_version(name)}".encode())
    return digest.hexdigest()[:12]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


@dataclass
class Conformance:
    """A pytest plugin: selects the tests, puts the evaluator in Core ML's place, and records every outcome.

    Attributes:
        shard: k and n for the k-th of n fixed parts.
        worker: k and n for the k-th of n processes that share the work.
        precision: `fp32`, `fp16` or `all`.
        record: Where finished tests are kept, or None.
        outcomes: By test id.
        current: Of the test that runs.
        judge: Names the reason why an output, given by identity, is not what a test expects.
    """

    shard: tuple[int, int]
    worker: tuple[int, int]
    precision: str
    record: Record | None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    current: Outcome | None = None
    judge: Callable[[Any, Any, float, float], None] | None = None

    @pytest.hookimpl(trylast=True)  # after pytest's own -k
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests of the shard and precision asked for that have no result yet."""
        done = self.record.read() if self.record else {}
        kept = []
        for item in items:
            precision = _precision(item)
            number, count = self.shard
            if zlib.crc32(item.name.encode()) % count != number - 1 or self.precision not in ("all", precision):
                continue
            group = f"{Path(str(item.path)).parent.name}/{item.parent.name if item.parent else ''}"
            name = item.nodeid.rsplit("::", 2)[-1]
            self.outcomes[item.nodeid] = done.get(item.nodeid) or Outcome(name, group, precision)
            kept.append(item)
        kept.sort(key=lambda item: zlib.crc32(item.name.encode()))  # a run stopped halfway is a random half
        number, count = self.worker
        items[:] = [item for item in kept[number - 1 :: count] if item.nodeid not in done]
        gc.collect()
        gc.freeze()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Note which test runs, and seed its random numbers."""
        self.current = self.outcomes[item.nodeid]
        seed = zlib.crc32(item.name.encode())
        np.random.seed(seed)
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(seed)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record what became of a test."""
        outcome = self.outcomes[report.nodeid]
        if report.when == "call" or report.outcome != "passed":
            expected = hasattr(report, "wasxfail") and report.outcome == "skipped"
            outcome.result = "xfailed" if expected else report.outcome
            if report.outcome == "skipped":
                outcome.message = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "")[:200]
            if report.outcome == "failed":
                outcome.message = _summary(str(report.longrepr))
        if report.when == "teardown" and self.record:
            self.record.add(report.nodeid, outcome)

    def pytest_sessionfinish(self) -> None:
        """Write what is not yet written."""
        if self.record:
            self.record.flush()


def install(plugin: Conformance) -> None:
    """Let coremltools' tests believe in Core ML, and lead its calls to the evaluator."""
    from coremltools.converters import _converters_entry as entry
    from coremltools.converters.mil import testing_utils
    from coremltools.models import utils
    from coremltools.models.model import MLModel

    # It collects garbage in every conversion, which costs ten times the conversion among 38,000 tests.
    entry.gc = types.SimpleNamespace(collect=lambda: 0)
    utils._macos_version = lambda: (15, 2)  # the first that has all of iOS 18 right, as the tests say
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
        outputs = {n: v.reshape(1) if isinstance(v, np.ndarray) and v.ndim == 0 else v for n, v in outputs.items()}
        plugin.judge = None
        if plugin.current is not None and plugin.current.precision == "mixed" and state is None:
            plugin.judge = functools.partial(_judge, plugin.current, evaluator, data, outputs)
        return outputs

    def make_state(model: Any) -> dict[str, np.ndarray]:
        return Evaluator(read_package(Path(model.package_path)), model.function_name).new_state()

    def compare(actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0, **options: Any) -> None:
        try:
            plain(actual, desired, rtol=rtol, atol=atol, **options)
        except AssertionError:
            if plugin.judge:
                plugin.judge(actual, desired, rtol, atol)
            raise

    plain = np.testing.assert_allclose
    np.testing.assert_allclose = compare  # type: ignore[assignment]
    MLModel.predict = predict
    MLModel.make_state = make_state


def _judge(
    outcome: Outcome,
    evaluator: Evaluator,
    data: Mapping[str, Any],
    outputs: Mapping[str, Any],
    actual: Any,
    desired: Any,
    rtol: float,
    atol: float,
) -> None:
    """Note in the outcome why an output of a program with float16 values is not what its test expects."""
    for name, value in outputs.items():
        if value is actual:
            outcome.reason = float16_reason(evaluator, lambda wide: _feeds(wide, data), name, desired, rtol, atol)


def _has_float16(evaluator: Evaluator) -> bool:
    """Say whether any value of the program, constants included, is float16."""

    def dtypes(operations: tuple[Operation, ...]) -> Iterator[str]:
        for operation in operations:
            yield from (output.type.dtype for output in operation.outputs)
            yield from (constant.type.dtype for constant in operation.attributes.values())
            for bound in operation.inputs.values():
                yield from (value.type.dtype for value in bound if not isinstance(value, str))
            for block in operation.blocks:
                yield from dtypes(block.operations)

    inputs = (item.type.dtype for item in evaluator.function.inputs)
    return "float16" in inputs or "float16" in dtypes(evaluator.function.block.operations)


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
    return str(getattr(backend, "precision", backend[1] if isinstance(backend, tuple) else "none"))


def _summary(text: str) -> str:
    """Return the lines of a failure that say what is wrong."""
    lines = [line[2:].strip() for line in text.splitlines() if line.startswith("E ")]
    return " ".join(line for line in lines if line)[:400] if lines else text.strip().splitlines()[-1][:400]


def report(outcomes: Iterable[Outcome], failures: int) -> tuple[dict[str, Any], str]:
    """Return the totals, and a table by op with the called tests that did not pass."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    bad, uncalled = [], Counter[tuple[str, str]]()
    for outcome in outcomes:
        for key in (outcome.group, "total", f"total {outcome.precision}"):
            count = groups[key]
            count["collected"] += 1
            if outcome.called:
                count["called"] += 1
                count["passed" if outcome.result == "passed" else "failed"] += 1
            else:
                count[f"not called, {outcome.result}"] += 1
        if outcome.called and outcome.result != "passed":
            known = REASONS.get((outcome.group, outcome.name.split("[")[0]))
            bad.append(replace(outcome, reason=known or outcome.reason or "unexplained"))
            for key in ("total", f"total {outcome.precision}"):
                groups[key]["unexplained"] += bad[-1].reason == "unexplained"
        elif not outcome.called:
            uncalled[outcome.result, outcome.message] += 1
    lines = [f"{'op':60}{'collected':>10}{'called':>8}{'passed':>8}{'failed':>8}{'passed of called':>18}"]
    for key in sorted(groups, key=lambda k: (k.startswith("total"), k)):
        counts = [groups[key][name] for name in ("collected", "called", "passed", "failed")]
        share = f"{100 * counts[2] / counts[1]:.2f} %" if counts[1] else "-"
        lines.append(f"{key:60}{counts[0]:10}{counts[1]:8}{counts[2]:8}{counts[3]:8}{share:>18}")
    lines += ["", "not called"]
    lines += [f"{n:6} {result:8} {message}" for (result, message), n in uncalled.most_common(failures)]
    why = Counter((o.precision, o.reason, o.group) for o in bad)
    lines += ["", "called, not passed"]
    lines += [f"{n:6} {kind:6} {group:50} {reason}" for (kind, reason, group), n in sorted(why.items())]
    bad.sort(key=lambda o: (CLASSES.index(o.precision), o.reason != "unexplained", o.group, o.name))
    lines += [f"{o.precision} {o.group}::{o.name} ({o.result}, {o.reason}) {o.message}" for o in bad[:failures]]
    return {key: dict(count) for key, count in groups.items() if key.startswith("total")}, "\n".join(lines)


def run(given: argparse.Namespace, worker: tuple[int, int], record: Record | None) -> dict[str, Outcome]:
    """Run this process' share of the tests asked for; returns the outcomes by test id."""
    from coremltools.converters.mil.mil.ops import tests

    root = Path(tests.__file__).parent
    plugin = Conformance(given.shard, worker, given.precision, record)
    install(plugin)  # before the tests are imported: some ask for the version of macOS then
    arguments = [
        *(str(root / name) for name in given.files or (".",)),
        *("-q", "--no-header", "--tb=short", "--show-capture=no", "--no-summary", "--continue-on-collection-errors"),
        *("-p", "no:cacheprovider", "-p", "no:warnings", "--import-mode=importlib"),
        *("-c", os.devnull, "--rootdir", str(root)),
    ]
    if given.keyword:
        arguments += ["-k", given.keyword]
    pytest.main(arguments, plugins=[plugin])
    return plugin.outcomes


def share(jobs: int, record: Record) -> None:
    """Let several processes run the tests that the command line asks for; a later `run` finds the results."""
    command = [sys.executable, "-m", "benchmarks.coreml_conformance", *sys.argv[1:], "--results", str(record.path)]
    processes = [subprocess.Popen([*command, "--worker", f"{k + 1}/{jobs}"]) for k in range(jobs)]
    for process in processes:
        process.wait()


def part(text: str) -> tuple[int, int]:
    """Read `k/n`."""
    number, count = (int(item) for item in text.split("/"))
    if not 1 <= number <= count:
        raise ValueError(text)
    return number, count


def main() -> None:
    """Run what the command line asks for and print the table; exit 1 if anything called has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="test files such as iOS14/test_conv.py; all by default")
    parser.add_argument("--shard", type=part, default=(1, 1), help="k/n: the k-th of n fixed parts")
    parser.add_argument("--precision", default="all", choices=("fp32", "fp16", "all"))
    parser.add_argument("-k", dest="keyword", default="", help="pytest's expression")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes")
    parser.add_argument("--results", type=Path, help="keep finished tests here, and continue there")
    parser.add_argument("--failures", type=int, default=50, help="how many failures to list")
    parser.add_argument("--json", type=Path, help="write the totals here")
    parser.add_argument("--worker", type=part, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept = given.results or (Path(folder) / "results.jsonl" if given.jobs > 1 else None)
        record = Record(kept, state()) if kept else None
        if given.worker:
            run(given, given.worker, record)
            return
        if record and given.jobs > 1:
            share(given.jobs, record)
        totals, table = report(run(given, (1, 1), record).values(), given.failures)
    print(table)
    if given.json:
        given.json.write_text(json.dumps(totals, indent=2) + "\n", "utf-8")
    sys.exit(1 if totals.get("total", {}).get("failed") else 0)


if __name__ == "__main__":
    main()
