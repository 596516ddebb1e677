"""A web folder, as it is delivered, in real Chromium against native onnxruntime: what a visitor's page will compute.

The contract is judged natively, on every sample and layer by layer; here the folder's own script and engine run the
same inputs, and what they give is held to what native onnxruntime gave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from haversack.convert.errors import VerificationError
from haversack.convert.report_browser import InBrowser
from haversack.convert.verify.execute import Samples, joined
from haversack.convert.verify.native import compared, described
from haversack.runtimes.engines import WEB_MODEL, Array, Engine
from haversack.runtimes.errors import EngineError

SAMPLES = 256
"""At most so many samples, evenly spread: two engines that differ do so on more than one input in a hundred."""

Feeds = Sequence[Mapping[str, Array]]


def execute(folder: Path, native: Engine, feeds: Feeds) -> InBrowser | str:
    """Run a web folder in Chromium and compare.

    Args:
        folder: The web folder.
        native: The model in it, opened natively.
        feeds: Inputs as the artifact takes them.

    Returns:
        Where it ran, and how far it was from native; or why nothing could run here, in one clause.

    Raises:
        VerificationError: It does not load there, fails, puts an error on the console, or computes something else.
    """
    from haversack.runtimes.engines.browser import ORT, open_artifact
    from haversack.runtimes.engines.browser.chromium import find_chromium
    from haversack.runtimes.engines.browser.session import close_shared, shared

    try:
        try:
            browser = open_artifact(folder)
            found = browser.run_many(feeds)
        except EngineError as error:
            try:
                # Is it the folder, or does no Chromium start here at all? One that is open already does not say.
                find_chromium()
                shared(ORT, threads=1)
            except EngineError as nothing:
                return str(nothing)
            raise VerificationError(f"in Chromium: {error}") from error
        rows = compared(
            folder.name,
            (folder / WEB_MODEL).read_bytes(),
            browser,
            native,
            _joined(found),
            _joined([native.run(each) for each in feeds]),
        )
        return described(browser, native, rows)
    finally:
        close_shared()  # each folder has a browser of its own


def spread(samples: Samples) -> tuple[dict[str, Array], ...]:
    """The samples that are run there."""
    return samples.spread(SAMPLES)


def _joined(outputs: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: joined([each[name] for each in outputs]) for name in outputs[0]}
