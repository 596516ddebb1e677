"""The browser: a folder, or one `.html`, that runs a model offline with ONNX Runtime's WebAssembly build.

    index.html  app.js  app.css         the page that shows and tries the model
    haversack.js  haversack.d.ts        `load(url)` -> model, `model.run(inputs)`, `model.selfTest()`, `model.bench(n)`
    model.onnx                          what the target `onnx` writes
    golden.bin                          inputs and what the model gave for them
    manifest.json                       what all this is, with checksums
    sw.js  manifest.webmanifest  icon.* offline, cross-origin isolated, installable
    engine/                             onnxruntime-web and its licence, vendored

The model is the `.onnx` and not its `.ort`: `python -m benchmarks.web_folder` measures both (docs/results.md). What is
fixed when the folder is written is in `folder.py`; what is known only after the model was executed, `complete` adds.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from haversack.convert.errors import Blocker, UnsupportedError
from haversack.convert.report import Part
from haversack.convert.targets import Options, Proof, Written
from haversack.convert.targets.ort import TARGET as ORT
from haversack.convert.targets.ort.runtimes import Runtime
from haversack.convert.targets.web import folder, single_file, wire
from haversack.runtimes.engines.browser import vendored
from haversack.runtimes.errors import EngineError

ENGINE: Runtime = "onnxruntime-web"
SINGLE_FILE = ".html"
MIN_RUNTIME = "Chrome 97, Firefox 102, Safari 16.4"
"""The first with WebAssembly SIMD and threads, and `'wasm-unsafe-eval'` in a Content-Security-Policy; the single file
also needs DecompressionStream (Chrome 80, Firefox 113, Safari 16.4)."""


@dataclass(frozen=True)
class WebTarget:
    """The target `web`; see `haversack.convert.targets.Target` and `Completes`."""

    name: str = "web"
    suffix: str = ".web"
    recipes: tuple[str, ...] = ORT.recipes

    def preflight(self, model: ir.Model, recipe: str, options: Options) -> list[Blocker]:
        """Every reason why onnxruntime-web cannot run `model`, its own absence among them."""
        found = []
        try:
            vendored.folder(ENGINE, verify=False)
        except EngineError as error:
            said, _, remedy = str(error).partition("; ")
            found.append(Blocker(ENGINE, "engine", said, remedy))
        return [*found, *ORT.preflight(model, recipe, options, runtime=ENGINE)]

    def precisions(self, node: ir.Node) -> tuple[str, ...]:
        """The precisions that it can hold a layer of the float hub graph in: onnxruntime's."""
        return ORT.precisions(node)

    def write(self, model: ir.Model, recipe: str, path: Path, options: Options) -> Written:
        """Write the folder `path`, or for `*.html` the folder `<stem>.web` beside it, which `complete` packs into one.

        Raises:
            UnsupportedError: onnxruntime-web cannot run the model, or is not here; nothing was written.
            EngineError: Its files are not those that were vendored.
        """
        found = self.preflight(model, recipe, options)
        if found:
            raise UnsupportedError(self.name, found)
        engine = vendored.folder(ENGINE)
        where = _folder(path)
        where.mkdir()
        try:
            file = where / folder.MODEL
            written = ORT.write(model, recipe, file, dataclasses.replace(options, ort_format=False), ENGINE)
            folder.add_engine(where, engine, vendored.PACKAGES[ENGINE])
            if path.suffix == SINGLE_FILE:
                path.touch()  # `complete` fills it
        except BaseException:
            shutil.rmtree(where, ignore_errors=True)
            raise
        return dataclasses.replace(
            written, path=path, companions=(), inside=file, min_runtime=MIN_RUNTIME, deployment=None
        )

    def complete(self, written: Written, proof: Proof) -> tuple[Part, ...]:
        """Add the page and what is known of the model; give the sizes of what a browser fetches."""
        where = _folder(written.path)
        folder.add_page(where, proof, vendored.PACKAGES[ENGINE], written)
        if written.path.suffix == SINGLE_FILE:
            single_file.write(where, written.path)
            return wire.single_part(written.path)
        return wire.parts(where, vendored.PACKAGES[ENGINE])


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.stem}.web") if path.suffix == SINGLE_FILE else path


TARGET = WebTarget()
