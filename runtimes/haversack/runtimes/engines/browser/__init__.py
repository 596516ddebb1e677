"""The browser engines: run `.onnx`, `.ort` and `.web` with onnxruntime-web, in a real Chromium without a window.

    chromium.py  finds, starts and ends Chromium; keeper.py ends it when this process is killed
    server.py    serves the page on 127.0.0.1 and passes commands; frames.py the bytes they travel in
    devtools.py  console errors, page errors, crashes, as Chromium itself reports them
    session.py   all of that as one conversation, kept open for many models and calls
    page/        the page: a driver, and one script for each runtime
    vendored.py  the runtimes' files

It needs NumPy, the standard library, a Chromium, and the vendored files.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array, TensorSpec
from haversack.runtimes.engines.browser.frames import Named
from haversack.runtimes.engines.browser.session import Browser, Facts, Runtime, shared
from haversack.runtimes.engines.browser.vendored import folder
from haversack.runtimes.errors import EngineError

SECONDS = 120.0
"""How long loading a model, or one call, may take."""

BATCH_BYTES = 32 << 20
"""Inputs of several calls are sent together up to this size."""

ORT = Runtime("browser", "ort.js", lambda: {"onnxruntime-web": folder("onnxruntime-web")})

_IDS = itertools.count(1)


class BrowserEngine:
    """A model loaded in a page; see `haversack.runtimes.engines.Engine`.

    Attributes:
        load_ms: The model's own loading, the runtime being started already.
        first_ms: The first call; None before it.
    """

    emulated = False

    def __init__(self, runtime: Runtime, content: bytes, *, threads: int, label: str, seconds: float = SECONDS):
        self.name = runtime.name
        self._runtime, self._content, self._threads = runtime, content, threads
        self._label, self._seconds = label, seconds
        self._browser: Browser | None = None
        self._id = 0
        self.first_ms: float | None = None
        answer = self._open()
        self.load_ms: float = answer["load_ms"]
        self.inputs = tuple(_spec(label, runtime, row) for row in answer["inputs"])
        self.outputs = tuple(_spec(label, runtime, row) for row in answer["outputs"])
        self._input_names = {spec.name for spec in self.inputs}
        self.version = f"{self.facts.runtime} in {self.facts.chromium}"

    @property
    def facts(self) -> Facts:
        """What runs the model, and how."""
        assert self._browser is not None
        return self._browser.facts

    @property
    def workers(self) -> int:
        """How many threads Chromium has seen the runtime start beside the page's own."""
        assert self._browser is not None
        return self._browser.workers()

    def memory(self) -> int | None:
        """Bytes that all of Chromium's processes hold now, shared pages counted once; None where that is not known."""
        assert self._browser is not None
        return self._browser.memory()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once.

        Args:
            feeds: One array an input, of the exact dtype and a fitting shape.

        Returns:
            The outputs by name.

        Raises:
            EngineError: An input is missing, unknown or does not fit; the runtime failed; it took too long; Chromium
                crashed; or something was put on the console as an error.
        """
        return self.run_many([feeds])[0]

    def run_many(self, samples: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """Run once on each of `samples`, with fewer trips to the page.

        Raises:
            EngineError: As `run`.
        """
        results: list[dict[str, Array]] = []
        for batch in _batches(samples):
            arrays = [self._named(feeds) for feeds in batch]
            command = {"do": "run", "samples": len(batch)}
            header, found = self._ask(command, [row for rows in arrays for row in rows], len(batch) * self._seconds)
            if self.first_ms is None:
                self.first_ms = header["first_ms"]
            each = len(self.outputs)
            results += [dict(found[at : at + each]) for at in range(0, len(found), each)]
        return results

    def time(self, feeds: Mapping[str, Array], *, seconds: float, runs: int = 100_000, warm_up: int = 0) -> Array:
        """Time calls in the page, one after the other, copies of the inputs and outputs included.

        Args:
            feeds: As for `run`.
            seconds: No call begins later than this after the first; five are made at least.
            runs: At most so many calls.
            warm_up: Calls before the first that counts.

        Returns:
            Milliseconds, float64 [calls]. The page's clock ticks in steps of 5 microseconds, of 100 where it is not
            isolated.

        Raises:
            EngineError: As `run`.
        """
        command = {"do": "time", "seconds": seconds, "runs": runs, "warm_up": warm_up}
        _, ((_, times),) = self._ask(command, self._named(feeds), seconds + (10 + warm_up) * self._seconds)
        return times

    def _ask(self, command: dict[str, Any], arrays: list[Named], seconds: float) -> tuple[dict[str, Any], list[Named]]:
        if self._browser is None or not self._browser.alive:
            self._open()  # another model, or this one, was the end of the browser
        assert self._browser is not None
        try:
            return self._browser.ask(command | {"id": self._id}, arrays, seconds=seconds, what="a call")
        except EngineError as error:
            raise EngineError(f"{self._label}: {self._runtime.name} failed: {error}") from None

    def _open(self) -> dict[str, Any]:
        try:
            self._browser = shared(self._runtime, threads=self._threads)
        except EngineError as error:
            raise EngineError(f"{self._label}: {error}") from None
        self._id = next(_IDS)
        content = np.frombuffer(self._content, np.uint8)
        try:
            answer, _ = self._browser.ask(
                {"do": "open", "id": self._id}, [("model", content)], seconds=self._seconds, what="loading the model"
            )
        except EngineError as error:
            remedy = "; keep the weights in the file: no page has its siblings" if "external data" in str(error) else ""
            raise EngineError(f"{self._label}: {self._runtime.name} rejects it: {error}{remedy}") from None
        weakref.finalize(self, _release, self._browser, self._id)
        return answer

    def _named(self, feeds: Mapping[str, Array]) -> list[Named]:
        if set(feeds) != self._input_names:
            wanted = ", ".join(spec.name for spec in self.inputs)
            raise EngineError(f"{self._label}: expected the inputs {wanted}, found {', '.join(feeds) or 'none'}")
        rows = []
        for spec in self.inputs:
            value = np.asarray(feeds[spec.name])
            text = value.dtype.kind in "OUST"
            if (spec.dtype == "object") != text or not (text or value.dtype == spec.dtype):
                raise EngineError(f"{self._label}: input {spec.name} is {spec.dtype}, found {value.dtype}")
            rows.append((spec.name, value))
        return rows


def open_artifact(
    path: str | Path | bytes,
    *,
    threads: int = 1,
    label: str | None = None,
    seconds: float = SECONDS,
) -> BrowserEngine:
    """Load a model in Chromium, with onnxruntime-web on the CPU.

    A `.web` folder runs as it would on a user's page: by its own script, with its own copy of onnxruntime-web.

    Args:
        path: A `.onnx` or `.ort`, or its bytes; or a `.web` folder.
        threads: How many threads one call may use.
        label: What messages call it; by default the file's name.
        seconds: How long loading, or one call, may take; then Chromium is ended.

    Raises:
        EngineError: There is no Chromium, the runtime's files are not here, the file cannot be read, or
            onnxruntime-web rejects it.
    """
    if not isinstance(path, bytes) and Path(path).is_dir():
        label = label or Path(path).name
        _check_folder(Path(path), label)
        return BrowserEngine(_folder_runtime(Path(path)), b"", threads=threads, label=label, seconds=seconds)
    content, label = read(path, label, "the ONNX model")
    return BrowserEngine(ORT, content, threads=threads, label=label, seconds=seconds)


def _folder_runtime(path: Path) -> Runtime:
    return Runtime("browser", "web.js", lambda: {"folder": path}, folder=str(path.resolve()))


def _check_folder(path: Path, label: str) -> None:
    missing = [name for name in ("haversack.js", "manifest.json") if not (path / name).is_file()]
    if missing:
        raise EngineError(f"{label}: {missing[0]} is not in it; it is no folder that Haversack packed for the web")


def read(path: str | Path | bytes, label: str | None, unnamed: str) -> tuple[bytes, str]:
    """An artifact's bytes and what messages call it.

    Raises:
        EngineError: It cannot be read.
    """
    if isinstance(path, bytes):
        return path, label or unnamed
    label = label or Path(path).name
    try:
        return Path(path).read_bytes(), label
    except OSError as error:
        raise EngineError(f"{label}: {error.strerror}: {path}") from None


def _release(browser: Browser, number: int) -> None:
    """Let go of a model in the page, where that still lives."""
    if browser.alive:
        try:
            browser.ask({"do": "close", "id": number}, seconds=10.0, what="closing the model")
        except EngineError:
            return


def _batches(samples: Sequence[Mapping[str, Array]]) -> Iterator[list[Mapping[str, Array]]]:
    batch: list[Mapping[str, Array]] = []
    held = 0
    for feeds in samples:
        size = sum(np.asarray(value).nbytes for value in feeds.values())
        if batch and held + size > BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(feeds)
        held += size
    if batch:
        yield batch


def _spec(label: str, runtime: Runtime, row: Mapping[str, Any]) -> TensorSpec:
    name, dtype = row["name"], row["dtype"]
    if dtype is None or dtype in ("int4", "uint4"):
        raise EngineError(
            f"{label}: {name} is {dtype or 'a sequence, a map or an optional'}, which {runtime.name} cannot pass; "
            "remove it from the graph's inputs and outputs (scikit-learn: export with zipmap off)"
        )
    shape = tuple(size if isinstance(size, int) else size or f"{name}_{axis}" for axis, size in enumerate(row["shape"]))
    return TensorSpec(name=name, dtype="object" if dtype == "string" else dtype, shape=shape)
