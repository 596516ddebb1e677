"""What a device would do, done here: run a bundle or an artifact on inputs, and measure how fast it is.

The runtime does the work; this module reads the inputs and reports.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from haversack.convert import latency, latency_browser
from haversack.convert.data import open_data
from haversack.convert.errors import DataError, UsageError
from haversack.convert.measured import REFERENCE_EVALUATED
from haversack.convert.report import Bench, Benched, Output, Ran
from haversack.convert.report_browser import InBrowser
from haversack.convert.sources.read import check_content
from haversack.convert.verify.execute import joined, silent
from haversack.convert.verify.native import compared, described, is_browser
from haversack.runtimes import Model, load, open_bundle
from haversack.runtimes.bundle import SUFFIX
from haversack.runtimes.digest import path_sha256
from haversack.runtimes.engines import WEB_MODEL, Array, engine_name
from haversack.runtimes.engines import runs as can_run
from haversack.runtimes.errors import EngineError, FeedError
from haversack.runtimes.preprocess import Preprocess

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm")

Progress = Callable[[float, str], None]

COLD_START = """
import json, resource, sys, time
begun = float(sys.argv[3])
import numpy as np
from haversack.runtimes import load
opened = time.time()
engine = sys.argv[4]
model = load(sys.argv[1], variant=sys.argv[2] or None, engine=engine or None)
feeds = {
    spec.name: np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], spec.dtype)
    for spec in model.inputs
}
model(feeds)
now = time.time()
if engine:
    held = model.engine.memory()
    peak = None if held is None else held / 2**20
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([(now - begun) * 1e3, (now - opened) * 1e3, peak]))
"""
"""Run in a fresh process: the time from its start to its first output, and its peak memory."""


def run(
    artifact: Path,
    *,
    input: str | Path,
    output: Path | None = None,
    engine: str | None = None,
    preprocess: str | Preprocess | None = None,
    top: int = 3,
    progress: Progress | None = None,
) -> Ran:
    """Run a bundle or an artifact on inputs of the user's.

    Args:
        artifact: A `.haversack`, `.tflite`, `.onnx`, `.ort`, `.mlpackage` or `.web`.
        input: An `.npz` named like the inputs (each array one sample or many), or an image.
        output: Where the outputs are written, an `.npz` by their names, all samples along axis 0.
        engine: Only this engine; what a browser's engine gives is compared with the native engine's.
        preprocess: How an image becomes the input; by default what the bundle says.
        top: How many of the best classes are reported for each sample.
        progress: Hears how far it is.

    Raises:
        DataError: The input cannot be read or does not fit.
        EngineError: No engine runs it, or it failed.
        VerificationError: A browser's outputs are not the native engine's.
    """
    if progress is not None:
        progress(0.0, f"loading {artifact.name}")
    _check_artifact(artifact)
    model = load(artifact, engine=engine)
    prepare = Preprocess.from_spec(preprocess) if isinstance(preprocess, str) else preprocess or model.preprocess
    collected: dict[str, list[Array]] = {}
    samples = _feeds(model, Path(input), prepare)
    for outputs in model.run_many(samples):
        for name, value in outputs.items():
            collected.setdefault(name, []).append(value)
    results = {name: joined(values) for name, values in collected.items()}
    in_browser = None
    if is_browser(engine):
        in_browser = _against_native(artifact, model, samples, results)
    if output is not None:
        write_npz(output, results)
    given = tuple(
        Output(name, value.dtype.name, tuple(value.shape), _best(value, model.labels, top))
        for name, value in results.items()
    )
    emulated = model.engine.emulated
    by = f"{model.engine.name} {model.engine.version}"
    variant = "" if model.variant is None else f"{model.variant.id} in "
    label = REFERENCE_EVALUATED if emulated else ""
    return Ran(str(artifact), variant + by, label, len(samples), given, browser=in_browser)


def bench(
    artifacts: Sequence[Path],
    *,
    names: Sequence[str],
    engine: str | None = None,
    threads: int = 1,
    runs: int = 500,
    seconds: float = 5.0,
    progress: Progress | None = None,
) -> Bench:
    """Measure artifacts, and every variant of bundles, on zeros of the input's shape.

    Args:
        artifacts: Bundles and artifacts.
        names: What each is called in the report.
        engine: Only what this engine runs; a browser's engine is measured in paired rounds with the native one.
        threads: How many CPU threads one call may use.
        runs: Timed calls of each, at most.
        seconds: Time for each, at most.
        progress: Hears how far it is.

    Raises:
        UsageError: The engine runs none of them.
    """
    for path in artifacts:
        _check_artifact(path)
    found = [row for path, name in zip(artifacts, names, strict=True) for row in _variants(path, name, engine)]
    if not found:
        raise UsageError(f"{engine} runs none of {', '.join(names)}")
    say = progress or silent
    notes: tuple[str, ...] = ()
    if not is_browser(engine):
        notes = tuple(f"{row[2]}: {reason}" for row in found if (reason := unmeasured(row[0], row[1])))
        found = [row for row in found if not unmeasured(row[0], row[1])]
    colds = []
    for index, (path, variant, name) in enumerate(found):
        say(0.5 * index / len(found), f"cold start of {name}")
        colds.append(_cold(path, variant, engine))
    say(0.5, "measuring latency")
    if is_browser(engine):
        assert engine is not None
        return Bench(_in_browser(found, colds, engine, threads, runs, seconds))
    models = [load(path, variant=variant, threads=threads) for path, variant, _ in found]
    calls = [_call(model) for model in models]
    times = latency.interleaved(calls, runs=runs, seconds=seconds) if calls else []
    rows = [
        Benched(
            artifact=name,
            latency=latency.summary(taken, threads=threads, engine=f"{model.engine.name} {model.engine.version}"),
            cold_start_ms=cold[0],
            first_call_ms=cold[1],
            peak_rss_mb=cold[2],
            sha256=_sha256(path, variant),
        )
        for (path, variant, name), model, taken, cold in zip(found, models, times, colds, strict=True)
    ]
    return Bench(tuple(rows), notes)


def _against_native(
    path: Path, model: Model, samples: Sequence[Mapping[str, Array]], results: Mapping[str, Array]
) -> InBrowser:
    """Run the samples natively too, and compare."""
    variant = None if model.variant is None else model.variant.id
    collected: dict[str, list[Array]] = {}
    with load(path, variant=variant) as native:
        for outputs in native.run_many(samples):
            for name, value in outputs.items():
                collected.setdefault(name, []).append(value)
        wanted = {name: joined(values) for name, values in collected.items()}
        content = content_of(path, variant)
        rows = compared(path.name, content, model.engine, native.engine, results, wanted)
        return described(model.engine, native.engine, rows)


def content_of(path: Path, variant: str | None) -> bytes:
    """The bytes of an artifact, or of a bundle's variant; of a `.web` folder the model's."""
    if variant is None:
        return (path / WEB_MODEL if path.is_dir() else path).read_bytes()
    with open_bundle(path) as bundle, tempfile.TemporaryDirectory() as folder:
        artifact = bundle.artifact(variant, into=Path(folder))
        return (artifact / WEB_MODEL if artifact.is_dir() else artifact).read_bytes()


def _in_browser(
    found: Sequence[tuple[Path, str | None, str]],
    colds: Sequence[tuple[float, float, float | None]],
    engine: str,
    threads: int,
    runs: int,
    seconds: float,
) -> tuple[Benched, ...]:
    """Each artifact in its native engine and in the browser, in paired rounds, its outputs compared first."""
    rows = []
    for (path, variant, name), cold in zip(found, colds, strict=True):
        with (
            load(path, variant=variant, threads=threads) as native,
            load(path, variant=variant, engine=engine, threads=threads) as model,
        ):
            feeds = _zeros(model)
            content = content_of(path, variant)
            outputs = compared(name, content, model.engine, native.engine, model(feeds), native(feeds))
            given = {own.name: feeds[spec.name] for own, spec in zip(model.engine.inputs, model.inputs, strict=True)}
            one, two = latency_browser.paired([native.engine, model.engine], given, runs=runs, seconds=seconds)
            for engine_, taken in ((native.engine, one), (model.engine, two)):
                times = latency.summary(
                    taken.milliseconds.tolist(), threads=threads, engine=f"{engine_.name} {engine_.version}"
                )
                row = Benched(name, times, *(cold if engine_ is model.engine else _cold(path, variant)))
                row = dataclasses.replace(row, sha256=_sha256(path, variant))
                if engine_ is model.engine:
                    row = dataclasses.replace(
                        row,
                        ratio=taken.ratio,
                        ratio_low=taken.low,
                        ratio_high=taken.high,
                        browser=described(engine_, native.engine, outputs),
                    )
                rows.append(row)
    return tuple(rows)


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an `.npz`; `numpy.savez` takes names as keywords, and not every output's name can be one."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)


def _check_artifact(path: Path) -> None:
    """Refuse a file that is plainly not what its suffix says, before an engine does so in its own words."""
    if path.is_file() and path.suffix in (".onnx", ".tflite"):
        check_content(path, path.suffix[1:])


def _feeds(model: Model, path: Path, prepare: Preprocess | None) -> list[dict[str, Array]]:
    """The samples of an `.npz`, or the one of an image."""
    if path.suffix.lower() in IMAGES:
        return [_image(model, path, prepare)]
    if path.suffix.lower() != ".npz":
        raise DataError(f"{path.name}: --input is an .npz or an image ({', '.join(IMAGES)})")
    dataset = open_data(path, model.inputs, prepare)
    return [feeds for feeds, _ in dataset.batches(1)]


def _image(model: Model, path: Path, prepare: Preprocess | None) -> dict[str, Array]:
    if len(model.inputs) != 1:
        raise DataError(f"{path.name}: an image is one input, and the model has {len(model.inputs)}; give an .npz")
    if prepare is None:
        raise DataError(f"{path.name}: say with --preprocess how an image becomes the input")
    spec = model.inputs[0]
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            pixels = np.asarray(opened.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path.name}: cannot be read as an image: {error}") from None
    try:
        value = prepare.fit(spec.shape, spec.dtype).apply(pixels)
    except FeedError as error:
        raise DataError(f"{path.name}: {error}") from None
    return {spec.name: value[None]}


def _best(scores: Array, labels: Sequence[str] | None, top: int) -> tuple[tuple[tuple[str, float], ...], ...]:
    """The best classes of each row of [samples, classes], best first; nothing for another shape."""
    if scores.ndim != 2 or scores.shape[1] < 2 or scores.dtype.kind not in "fiu":
        return ()
    if labels is not None and len(labels) != scores.shape[1]:
        return ()
    order = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :top]
    return tuple(
        tuple((labels[i] if labels is not None else str(i), float(row[i])) for i in best)
        for row, best in zip(scores, order, strict=True)
    )


def _variants(path: Path, name: str, engine: str | None) -> list[tuple[Path, str | None, str]]:
    """Each artifact to be measured: path, variant of a bundle, name."""
    if path.suffix != SUFFIX:
        return [(path, None, name)] if engine is None or can_run(engine, path) else []
    with open_bundle(path) as bundle:
        return [
            (path, variant.id, f"{name}:{variant.id}")
            for variant in bundle.manifest.variants
            if engine is None or can_run(engine, variant.file.path)
        ]


def unmeasured(path: Path, variant: str | None) -> str:
    """Why the speed of an artifact here would say nothing of where it runs; empty where it would."""
    if path.suffix != SUFFIX:
        artifact = path.name
    else:
        with open_bundle(path) as bundle:
            artifact = bundle.variant(variant or "").file.path
    if artifact.endswith(".web"):
        return "it runs in a browser, several times slower than its model does outside one; its page measures it"
    if engine_name(artifact) != "coreml":
        return ""
    import platform

    if platform.system() == "Darwin":
        return ""
    return "only emulated here, by the Core ML reference evaluator, whose speed says nothing of a device"


def _sha256(path: Path, variant: str | None) -> str:
    """Of an artifact, as a bundle's manifest has it."""
    if variant is None:
        return path_sha256(path)
    with open_bundle(path) as bundle:
        return bundle.variant(variant).file.sha256


def _call(model: Model) -> Callable[[], Mapping[str, Array]]:
    feeds = _zeros(model)
    return lambda: model(feeds)


def _zeros(model: Model) -> dict[str, Array]:
    return {
        spec.name: np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], spec.dtype)
        for spec in model.inputs
    }


def _cold(path: Path, variant: str | None, engine: str | None = None) -> tuple[float, float, float | None]:
    import time

    named = engine if engine is not None and is_browser(engine) else ""
    arguments = [sys.executable, "-P", "-c", COLD_START, str(path), variant or "", repr(time.time()), named]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineError(f"{path.name}: a fresh process could not run it: {last}")
    whole, first, peak = json.loads(done.stdout.strip().splitlines()[-1])
    return whole, first, peak
