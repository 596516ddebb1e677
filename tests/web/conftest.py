"""Web folders made from the digits model, a plain static server, and real Chromium."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from haversack.convert import convert
from haversack.runtimes.engines.browser import vendored

sys.path.append(str(Path(__file__).parent))

from browsing import Watched

DIGITS = Path(__file__).resolve().parents[2] / "demo" / "haversack" / "demo" / "digits"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


@contextlib.contextmanager
def no_chromium_at_conversion() -> Iterator[None]:
    """These folders are run in Chromium by the tests themselves; conversion's own run is test_in_chromium.py's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAVERSACK_CHROMIUM", "/nowhere/chromium")
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_chromium_at_conversion() -> Iterator[None]:
    """A module's, not the session's: other folders' tests may come after it in one process."""
    with no_chromium_at_conversion():
        yield


@pytest.fixture(scope="session")
def digits() -> Path:
    return DIGITS


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model in float32."""
    return made(tmp_path_factory.mktemp("web") / "digits.web", inputs=str(DIGITS / "evaluation.npz"))


@pytest.fixture(scope="session")
def int8_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model in int8."""
    path = tmp_path_factory.mktemp("web") / "digits-int8.web"
    return made(path, compress="int8", calibration=str(DIGITS / "calibration.npz"))


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model in one page."""
    return made(tmp_path_factory.mktemp("web") / "digits.html", inputs=str(DIGITS / "evaluation.npz"))


def made(path: Path, **options: Any) -> Path:
    """The digits model converted for the web; a skip where the engine is not here."""
    if not vendored.is_here("onnxruntime-web"):
        pytest.skip("onnxruntime-web is not here: make vendor fetches it where npm is")
    with no_chromium_at_conversion():  # session fixtures come before a module's
        assert convert(DIGITS / "digits.onnx", to="web", output=path, **options).verified
    return path


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Playwright's handle on the system's Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium on this machine: make chromium installs it")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def watched(chromium: Any) -> Iterator[Watched]:
    """A fresh profile; any error in it fails the test."""
    context = chromium.new_context()
    found = Watched(context)
    context.on("console", lambda message: message.type == "error" and found.errors.append(message.text))
    context.on("request", lambda request: found.requests.append(request.url))
    yield found
    context.close()
    assert found.errors == []
