"""ONNX's own backend tests in a real Chromium: of those that native onnxruntime passes, which pass there too.

    python -m benchmarks.browser_backend                           about two minutes on two cores
    python -m benchmarks.browser_backend -k resize
    python -m benchmarks.browser_backend --write docs/results.md   put the figures between the file's marks

Cases are those of `benchmarks.backend_cases` as they are published, judged by its `difference` against onnx's expected
outputs. A case is skipped only where an input or output is nothing that NumPy and JavaScript both hold: a sequence, an
optional, and the element types bfloat16, float8, float4, complex, and integers of 4 and 2 bits. Every case that passes
natively and fails in Chromium is named, with the runtime's own reason; it must stand in
`haversack.runtimes.engines.browser.unsupported`, where a preflight finds it, or the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.backend_cases import Case, collect, difference
from benchmarks.marks import write_between_marks
from haversack.runtimes.engines import Array, browser
from haversack.runtimes.engines.browser.unsupported import BACKEND_CASES, INPUT_OUTPUT_TYPES


@dataclass(frozen=True)
class Ended:
    """What became of one case.

    Attributes:
        name: onnx's.
        ops: Of its graph.
        native: Why native onnxruntime does not pass; empty where it does.
        found: Why Chromium does not; empty where it does.
        node: Whether it is one of onnx's node tests.
    """

    name: str
    ops: tuple[str, ...]
    native: str
    found: str
    node: bool


def _unheld(model: onnx.ModelProto) -> Iterator[str]:
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            yield kind.removesuffix("_type")
            continue
        element = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
        if element not in INPUT_OUTPUT_TYPES:
            yield re.sub(r"^(float8).*", r"\1", element)


def native(case: Case) -> str:
    """Why native onnxruntime does not pass; empty where it does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            case.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for feeds, expected in case.data:
            found = session.run(None, {each.name: np.asarray(feeds[each.name]) for each in session.get_inputs()})
            if reason := _judged(found, expected):
                return reason
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        return _line(error)
    return ""


def in_chromium(case: Case) -> str:
    """Why Chromium does not pass; empty where it does."""
    from haversack.runtimes.errors import EngineError

    try:
        engine = browser.open_artifact(case.model.SerializeToString(), label=case.name, seconds=30.0)
        for feeds, expected in case.data:
            found = engine.run({spec.name: np.asarray(feeds[spec.name]) for spec in engine.inputs})
            if reason := _judged(list(found.values()), expected):
                return reason
    except EngineError as error:
        return _line(error).removeprefix(f"{case.name}: ")
    return ""


def _judged(found: Sequence[Array], expected: Sequence[Array]) -> str:
    if len(found) != len(expected):
        return f"{len(found)} outputs for {len(expected)}"
    for one, two in zip(found, expected, strict=True):
        if two.dtype.kind in "OUST":
            if one.shape != two.shape or one.ravel().tolist() != _texts(two):
                return "differs in text"
        elif reason := difference(one, two):
            return reason
    return ""


def _texts(array: Array) -> list[str]:
    return [each.decode() if isinstance(each, bytes) else str(each) for each in array.ravel().tolist()]


def _line(error: Exception) -> str:
    line = " ".join(str(error).split())
    return line if len(line) <= 200 else line[:197] + "..."


def run(cases: Sequence[Case], nodes: frozenset[str]) -> list[Ended]:
    """Every case, natively and, where that passes, in Chromium."""
    ended = []
    for count, case in enumerate(cases):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = native(case)
            found = "" if before else in_chromium(case)
        ended.append(Ended(case.name, _ops(case.model), before, found, case.name in nodes))
        if sys.stderr.isatty() and count % 20 == 0:
            print(f"\r{count} of {len(cases)}", end="", file=sys.stderr, flush=True)
    return ended


def _ops(model: onnx.ModelProto) -> tuple[str, ...]:
    return tuple(sorted({f"{node.domain}.{node.op_type}".lstrip(".") for node in model.graph.node}))


def table(ended: Sequence[Ended], version: str, skipped: int) -> str:
    """The figures in Markdown."""
    import onnxruntime

    lines = [
        f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, {version}; "
        f"{skipped} cases skipped for want of a tensor that holds them.",
        "",
        "| tests | pass in onnxruntime | of these pass in Chromium | of these do not |",
        "|---|--:|--:|--:|",
    ]
    for name, rows in (("node", [one for one in ended if one.node]), ("all", list(ended))):
        passed = [one for one in rows if not one.native]
        failed = [one for one in passed if one.found]
        lines.append(f"| {name} ({len(rows):,}) | {len(passed):,} | {len(passed) - len(failed):,} | {len(failed):,} |")
    lines += ["", "| not in Chromium | operators | what onnxruntime-web says |", "|---|---|---|"]
    for one in ended:
        if not one.native and one.found:
            lines.append(f"| {one.name} | {', '.join(one.ops)} | {one.found.replace('|', ' ')} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", metavar="TEXT", default="", help="only cases whose name holds this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the figures between the file's marks")
    arguments = parser.parse_args()
    cases, skipped = collect(_unheld)
    cases = [case for case in cases if arguments.k in case.name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        nodes = frozenset(case.name for case in collect_testcases(None))
    from haversack.runtimes.engines.browser.session import shared

    facts = shared(browser.ORT, threads=1).facts
    start = time.perf_counter()
    ended = run(cases, nodes)
    text = table(ended, f"{facts.runtime} in {facts.chromium}", sum(map(len, skipped.values())))
    print(text)
    kinds = ", ".join(f"{kind} {len(names)}" for kind, names in skipped.items())
    print(f"{time.perf_counter() - start:.0f} s; skipped: {kinds}")
    failed = {one.name for one in ended if not one.native and one.found}
    listed = {name for name in BACKEND_CASES if arguments.k in name}
    for name in sorted(failed ^ listed):
        print(f"{name} {'fails and is not' if name in failed else 'passes and is'} in unsupported.py")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in ended], indent=1) + "\n", encoding="utf-8")
    if arguments.write:
        write_between_marks(arguments.write, text, "browser-backend")
    return int(failed != listed)


if __name__ == "__main__":
    sys.exit(main())
