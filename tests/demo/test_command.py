"""`haversack demo` as a process: served, driven by a real browser, ended."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haversack.runtimes import load, open_bundle

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="a browser test needs Debian's chromium and the package playwright",
)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(*arguments: object) -> subprocess.Popen[str]:
    """The command, in a process group of its own."""
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("haversack")), "demo", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell's background job ignores Ctrl-C; a terminal's foreground job, which is meant here, does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_until_served(process: subprocess.Popen[str], port: int) -> str:
    """Its address, when the dashboard answers."""
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return address
        except OSError:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "the dashboard did not come up in a minute"
            time.sleep(0.2)


@pytest.fixture
def served(bundle_path: Path) -> Iterator[str]:
    """The address of the dashboard on the digits bundle."""
    port = free_port()
    process = start(bundle_path, "--no-browser", "--port", port)
    try:
        yield wait_until_served(process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.fixture
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Watch:
    """What a page asked for and complained about."""

    def __init__(self, page: Any):
        self.outside: list[str] = []
        self.inside = 0
        self.errors: list[str] = []
        page.on("request", lambda request: self._requested(request.url))
        page.on("websocket", lambda socket: self._requested(socket.url))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _requested(self, url: str) -> None:
        if url.startswith(("data:", "blob:")):
            return
        if url.split("://", 1)[1].startswith("127.0.0.1:"):
            self.inside += 1
        else:
            self.outside.append(url)


@needs_browser
@pytest.mark.slow
def test_in_a_real_browser(served: str, browser: Any, bundle_path: Path, tmp_path: Path) -> None:
    """The table, an input, downloads; nothing leaves this machine and nothing is complained about."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    watch = Watch(page)
    page.goto(served)
    page.wait_for_selector(".hv-tried", timeout=60_000)
    with open_bundle(bundle_path) as bundle:
        manifest = bundle.manifest
        feeds, _ = bundle.golden("tflite-fp32")[2]
    shown = page.eval_on_selector_all(
        ".hv-scroll tbody tr", "rows => rows.map(row => [row.dataset.variant, row.cells[2].innerText])"
    )
    assert shown == [[variant.id, f"{variant.file.bytes:,}"] for variant in manifest.variants]

    # The third golden vector, by the keyboard as a user would.
    page.get_by_label("Sample, 0 to 2").fill("2")
    page.keyboard.press("Enter")
    with load(bundle_path, variant="tflite-fp32") as model:
        scores = model(feeds)["probabilities"][0]
    first = page.locator(".hv-tried tbody tr").first
    page.wait_for_function(
        "wanted => document.querySelector('.hv-tried tbody tr').cells[1].innerText === wanted",
        arg=str(scores.argmax()),
    )
    assert first.get_attribute("data-variant") == "tflite-fp32"
    assert first.locator("td").nth(2).inner_text() == f"{scores.max():.4f}"

    # A file as it is, then a folder as a zip.
    assert _downloaded(page, tmp_path / "fp32").read_bytes() == _member(bundle_path, manifest.variants[0].file.path)
    digest = hashlib.sha256((tmp_path / "fp32").read_bytes()).hexdigest()
    assert digest == manifest.variants[0].file.sha256
    page.get_by_role("combobox", name="Artifact").click()
    page.get_by_role("option", name="digits-fp32.mlpackage").click()
    page.wait_for_selector("text=sha256 of the folder in it")
    with zipfile.ZipFile(_downloaded(page, tmp_path / "coreml.zip")) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(bundle_path) as archive:
        inside = [name for name in archive.namelist() if "digits-fp32.mlpackage/" in name]
        wanted = {name.removeprefix("artifacts/"): archive.read(name) for name in inside}
    assert found == wanted
    assert len(found) >= 3

    page.wait_for_timeout(500)
    assert watch.outside == []
    assert watch.inside > 10
    assert watch.errors == []


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800])
def test_nothing_overflows(served: str, browser: Any, width: int, scheme: str) -> None:
    """The page and its table are no wider than the window, and text is legible on the page's ground."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(served)
    page.wait_for_selector(".hv-tried", timeout=60_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = "e => e.scrollWidth - e.clientWidth"
    assert page.eval_on_selector(".hv-scroll", wide) <= 0
    color, ground = page.evaluate(
        "[getComputedStyle(document.querySelector('.hv-table td')).color,"
        " getComputedStyle(document.querySelector('.stApp')).backgroundColor]"
    )
    assert _contrast(color, ground) >= 4.5  # WCAG 2.2, success criterion 1.4.3
    assert (_luminance(ground) < 0.2) == (scheme == "dark")


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 420])
def test_the_fronts_in_a_real_browser(served: str, browser: Any, width: int) -> None:
    """A picture a target, said in words too; another axis by a click; tabs; nothing wider than the window."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    watch = Watch(page)
    page.goto(served)
    page.wait_for_selector(".hv-tried", timeout=60_000)
    spoken = "[...document.querySelectorAll('[role=graphics-document]')].map(each => each.getAttribute('aria-label'))"
    page.wait_for_function(f"{spoken}.filter(each => (each || '').includes('The front: ')).length === 3")
    assert page.evaluate(f"{spoken}.every(each => each.includes('on disk, kB') || !each.includes('The front: '))")
    assert page.eval_on_selector_all(".hv-panel", "all => all.length") == 3
    page.get_by_text("latency", exact=True).click()
    # Nothing says how fast Core ML is.
    page.wait_for_function(f"{spoken}.filter(each => (each || '').includes('median of one call')).length === 2")
    for tab, inside in (("Model and engine", ".hv-added"), ("Is the difference real?", ".hv-proof")):
        # While the page is drawn anew, what it replaces is still there for a moment.
        same = f"[...document.querySelectorAll('[role=tab]')].filter(each => each.innerText.trim() === '{tab}')"
        page.wait_for_function(f"{same}.length === 1")
        page.get_by_role("tab", name=tab).click()
        page.locator(inside).wait_for(state="visible")
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert watch.outside == []
    assert watch.errors == []


def _downloaded(page: Any, path: Path) -> Path:
    with page.expect_download() as waiting:
        page.locator("[data-testid=stDownloadButton] button").click()
    waiting.value.save_as(path)
    return path


def _member(bundle: Path, name: str) -> bytes:
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(name)


def _luminance(color: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG 2.2 defines it."""
    channels = np.array([float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _contrast(one: str, other: str) -> float:
    low, high = sorted([_luminance(one), _luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "kill -INT"])
def test_ctrl_c_ends_it(bundle_path: Path, whole_group: bool) -> None:
    """Exit 0, no traceback, and the port is free again."""
    port = free_port()
    process = start(bundle_path, "--no-browser", "--port", port)
    wait_until_served(process, port)
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in output
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def test_a_taken_port_is_one_line(bundle_path: Path) -> None:
    """Exit 2 and the option that helps."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start(bundle_path, "--no-browser", "--port", taken.getsockname()[1])
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(output.splitlines()) == 1
    assert "--port" in output


def test_a_missing_bundle_is_one_line(tmp_path: Path) -> None:
    """Exit 2 and the bundle's name."""
    process = start(tmp_path / "none.haversack", "--no-browser", "--json")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in output
    assert "none.haversack" in json.loads(output[: output.rindex("}") + 1])["error"]["message"]
