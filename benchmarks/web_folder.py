"""The web folders of KWS, ResNet8 and the digits model: what a first visit fetches, and how soon it predicts.

    python -m benchmarks.web_folder                           three models, fp32 and int8, about five minutes
    python -m benchmarks.web_folder --model digits --loads 3
    python -m benchmarks.web_folder --write docs/results.md   put the tables between the file's `web-folder` marks

In real Chromium, driven by playwright, from a plain server on this machine that compresses nothing. *Cold* is a fresh
profile: everything is fetched and kept by the service worker, the page reloads once, isolated, and predicts; *cached*
is the next visit of that profile, with the server stopped. Both from the start of the navigation to the first
prediction, as the browser's own timeline has it. What the network would add is in the bytes.

`.onnx` against `.ort` is what chose the format: the same folder with the file that target `onnx` writes beside, both
loaded in one isolated page with one thread, their calls interleaved.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.marks import write_between_marks
from benchmarks.mlperf_tiny import CASES, DATA, Case
from haversack.convert import convert
from haversack.convert.report import Part
from haversack.convert.wire import brotli_size, gzip_size

DIGITS = Path(__file__).resolve().parents[1] / "demo/haversack/demo/digits"
RECIPES = ("fp32", "int8")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
ROUNDS, CALLS = 15, 40

FIRST = """async () => {
  const mark = () => performance.getEntriesByName("haversack first prediction")[0];
  while (!(crossOriginIsolated && mark())) await new Promise((done) => setTimeout(done, 20));
  return performance.timeOrigin + mark().startTime;
}"""
FORMATS = """async ([rounds, calls]) => {
  const models = {};
  const loads = {};
  for (const name of ["onnx", "ort"]) {
    const { load } = await import(`/${name}/haversack.js`);
    await (await load(`/${name}/`, { threads: 1 })).release(); // the engine is started now
    const began = performance.now();
    models[name] = await load(`/${name}/`, { threads: 1 });
    loads[name] = performance.now() - began;
  }
  const medians = { onnx: [], ort: [] };
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 ? ["ort", "onnx"] : ["onnx", "ort"]) {
      medians[name].push((await models[name].bench(calls)).p50);
    }
  }
  return { loads, medians };
}"""


@dataclass(frozen=True)
class Row:
    """One folder.

    Attributes:
        name: Model and recipe.
        parts: Sizes of model, engine and page.
        cold: Milliseconds to the first prediction, one a fresh profile.
        cached: The same of the visit after it, with the server stopped.
        ort: Bytes of the `.ort`: as it is, with gzip, with brotli; None where there is none.
        loads: Milliseconds to load the model of either format, the engine being there.
        ratio: Latency of `.ort` over `.onnx`: median, 5th and 95th percentile of the rounds' ratios.
        onnx_ms: Median latency of the `.onnx`, one thread.
    """

    name: str
    parts: tuple[Part, ...]
    cold: tuple[float, ...]
    cached: tuple[float, ...]
    ort: tuple[int, int, int] | None
    loads: dict[str, float]
    ratio: tuple[float, float, float] | None
    onnx_ms: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("digits", *(case.name for case in CASES))
    parser.add_argument("--model", choices=names, action="append", help="by default all")
    parser.add_argument("--loads", type=int, default=5, help="first visits of each folder")
    parser.add_argument("--write", type=Path, metavar="FILE")
    asked = parser.parse_args(arguments)
    rows = []
    with _chromium() as browser:
        for name in asked.model or names:
            for recipe in RECIPES:
                print(f"{name} {recipe}", file=sys.stderr)
                with tempfile.TemporaryDirectory() as folder:
                    rows.append(_measure(name, recipe, Path(folder), browser, asked.loads))
        version = browser.version
    text = _tables(rows, version)
    print(text)
    if asked.write:
        write_between_marks(asked.write, text, "web-folder")
    return 0


def _measure(name: str, recipe: str, folder: Path, browser: Any, loads: int) -> Row:
    source, options = _source(name, recipe)
    made = convert(source, to="web", output=folder / "onnx", compress=recipe, **options)
    cold, cached = zip(*(_visit(browser, folder / "onnx") for _ in range(loads)), strict=True)
    convert(source, to="onnx", output=folder / "model.onnx", compress=recipe, **options)
    flat = folder / "model.ort"
    if not flat.exists():
        return Row(f"{name} {recipe}", made.variant.parts, cold, cached, None, {}, None, 0.0)
    _with_model(folder / "onnx", flat, folder / "ort")
    with _served(folder) as url:
        page = browser.new_context().new_page()
        _until_first(page, f"{url}onnx/")
        found = page.evaluate(FORMATS, [ROUNDS, CALLS])
        page.context.close()
    medians = {name: np.array(values) for name, values in found["medians"].items()}
    low, middle, high = np.percentile(medians["ort"] / medians["onnx"], [5, 50, 95])
    sizes = (flat.stat().st_size, gzip_size(flat) or 0, brotli_size(flat) or 0)
    return Row(
        f"{name} {recipe}", made.variant.parts, cold, cached, sizes, found["loads"], (middle, low, high),
        float(np.median(medians["onnx"])),
    )  # fmt: skip


def _source(name: str, recipe: str) -> tuple[Path, dict[str, Any]]:
    """The model, and what its conversion is given."""
    case = next((case for case in CASES if case.name == name), None)
    if case is None:
        case = Case(name, str(DIGITS / "digits.onnx"), str(DIGITS / "calibration.npz"), "")
    options: dict[str, Any] = {"preprocess": case.preprocess}
    options["calibration" if recipe == "int8" else "inputs"] = str(DATA / case.calibration)
    return DATA / case.source, options


def _visit(browser: Any, folder: Path) -> tuple[float, float]:
    """A first visit of a fresh profile, and the next one without the server."""
    context = browser.new_context()
    try:
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and errors.append(said.text))
        with _served(folder) as url:
            cold = _until_first(page, url)
        cached = _until_first(page, url)
        if errors:
            raise SystemExit(f"{folder.name}: {errors[0]}")
        return cold, cached
    finally:
        context.close()


def _until_first(page: Any, url: str) -> float:
    began = page.evaluate("performance.timeOrigin + performance.now()")
    page.goto(url, wait_until="commit")
    for _ in range(3):
        try:
            return float(page.evaluate(FIRST)) - float(began)
        except Exception as error:  # the page reloaded itself while it was asked
            if "navigation" not in str(error):
                raise
    raise SystemExit("the page reloads without end")


def _with_model(folder: Path, model: Path, copy: Path) -> None:
    """The same folder with another model file."""
    shutil.copytree(folder, copy)
    shutil.copyfile(model, copy / "model.ort")
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["model"] = {"file": "model.ort", "bytes": model.stat().st_size}
    manifest["sha256"]["model.ort"] = hashlib.sha256(model.read_bytes()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def _chromium() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SystemExit("playwright is not installed: make test installs it") from None
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("there is no Chromium on this machine: make chromium installs it")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


def _tables(rows: Sequence[Row], version: str) -> str:
    lines = [
        f"Chromium {version}, headless; bytes as a server sends them: as they are / gzip -9 / brotli -11.",
        "",
        "| folder | model | engine | page | first visit | cold, ms | cached offline, ms |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        whole = Part("", *(_sum(row.parts, kind) for kind in ("bytes", "gzip_bytes", "brotli_bytes")))
        cells = [_bytes(part.bytes, part.gzip_bytes, part.brotli_bytes or 0) for part in (*row.parts, whole)]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {_spread(row.cold)} | {_spread(row.cached)} |")
    lines += [
        "",
        "| model | .onnx | .ort | load .onnx, ms | load .ort, ms | one thread, .onnx, µs | .ort over .onnx |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        model = row.parts[0]
        onnx = _bytes(model.bytes, model.gzip_bytes, model.brotli_bytes or 0)
        if row.ort is None or row.ratio is None:
            lines.append(f"| {row.name} | {onnx} | – | – | – | – | – |")
            continue
        middle, low, high = row.ratio
        lines.append(
            f"| {row.name} | {onnx} | {_bytes(*row.ort)} | {row.loads['onnx']:.0f} | {row.loads['ort']:.0f} | "
            f"{1e3 * row.onnx_ms:.0f} | {middle:.2f} [{low:.2f}, {high:.2f}] |"
        )
    return "\n".join(lines) + "\n"


def _sum(parts: Sequence[Part], kind: str) -> int:
    return sum(getattr(part, kind) or 0 for part in parts)


def _bytes(*sizes: int) -> str:
    return " / ".join(f"{size:,}" for size in sizes)


def _spread(values: Sequence[float]) -> str:
    return f"{np.median(values):.0f} [{min(values):.0f}, {max(values):.0f}]"


if __name__ == "__main__":
    sys.exit(main())
