"""The web folder and the single file in real Chromium, against onnxruntime on this machine."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from browsing import Server, Watched, ready, served

pytestmark = pytest.mark.slow

RUN = """
async ([url, feeds, threads]) => {
  const { load } = await import(url + "haversack.js");
  const model = await load(url, { threads });
  const outputs = [];
  for (const feed of feeds) {
    const found = await model.run(feed);
    outputs.push(Object.fromEntries(Object.entries(found).map(([name, { data }]) => [name, Array.from(data, Number)])));
  }
  return { outputs, threads: model.threads, isolated: model.isolated, engine: model.engine };
}
"""


def opened(watched: Watched, server: Server) -> Any:
    """The page, after its one reload: under its service worker, and isolated."""
    page = watched.page()
    page.goto(server.url)
    page.wait_for_function("() => globalThis.crossOriginIsolated", timeout=60_000)
    ready(page)
    return page


def state(page: Any, name: str) -> str:
    return page.get_attribute(f"#state-{name}", "data-state")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("which", ["folder", "int8_folder"])
def test_outputs_are_native_onnxruntimes(
    which: str, threads: int, request: pytest.FixtureRequest, watched: Watched, digits: Path
) -> None:
    """Sixteen evaluation samples; fp32 within 1e-4, int8 within one step of its output."""
    root = request.getfixturevalue(which)
    images = np.load(digits / "evaluation.npz")["image"][:16]
    session = onnxruntime.InferenceSession(str(root / "model.onnx"), providers=["CPUExecutionProvider"])
    native = [session.run(None, {"image": image[None]})[0] for image in images]
    with served(root) as server:
        page = opened(watched, server)
        found = page.evaluate(RUN, [server.url, [{"image": image.tolist()} for image in images], threads])
    assert found["isolated"]
    assert found["engine"] == "onnxruntime-web 1.30.0"
    differences = [
        np.abs(np.array(ours["probabilities"]) - theirs.ravel()).max()
        for ours, theirs in zip(found["outputs"], native, strict=True)
    ]
    assert max(differences) <= 1e-4


def test_the_page_tests_itself_and_nothing_leaves_the_origin(folder: Path, watched: Watched) -> None:
    with served(folder) as server:
        page = opened(watched, server)
        assert [state(page, name) for name in ("model", "test", "offline", "threads")] == ["good"] * 4
        page.select_option("#source", "random")
        page.click("#run")
        page.select_option("#runs", "50")
        page.click("#bench")
        page.wait_for_selector("#speed .figures")
        page.wait_for_timeout(500)
        assert len(watched.requests) > 8
        assert watched.outside(server.url) == []
        assert all(path.startswith("/") for path in server.asked)


def test_the_policy_admits_no_other_origin(folder: Path, watched: Watched) -> None:
    """A fetch, an image, a script and a worker of another origin are all refused by the browser."""
    with served(folder) as server, served(folder) as other:
        page = opened(watched, server)
        refused = page.evaluate(
            """async (other) => {
              const element = (name, key) => new Promise((done) => {
                const made = Object.assign(document.createElement(name), {[key]: other + "icon.svg"});
                made.onload = () => done(false); made.onerror = () => done(true);
                document.head.append(made);
              });
              return [
                await fetch(other).then(() => false, () => true),
                await element("img", "src"), await element("script", "src"),
                await import(other + "haversack.js").then(() => false, () => true),
              ];
            }""",
            other.url,
        )
        assert refused == [True] * 4
        assert other.asked == []
    assert all("Content Security Policy" in error or "content security" in error.lower() for error in watched.errors)
    watched.errors.clear()


def test_it_reloads_with_the_server_stopped(folder: Path, watched: Watched) -> None:
    with served(folder) as server:
        page = opened(watched, server)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(server.url, timeout=5)
    page.reload()
    ready(page)
    assert state(page, "test") == "good"
    assert page.evaluate("crossOriginIsolated")
    page.click("#run")
    page.wait_for_selector("#result .scores")
    fresh = watched.page()  # a new tab, not only a reload
    fresh.goto(server.url)
    ready(fresh)
    assert state(fresh, "test") == "good"


def test_a_file_that_was_changed_on_the_server_is_not_kept(folder: Path, tmp_path: Path, watched: Watched) -> None:
    """The service worker keeps a whole version or none, and a model that is not its manifest's is refused."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    content = bytearray((copy / "model.onnx").read_bytes())
    content[-1] ^= 1
    (copy / "model.onnx").write_bytes(content)
    with served(copy) as server:
        page = watched.page()
        page.goto(server.url)
        page.wait_for_selector("#failure:not([hidden])")
        assert "model.onnx is not the file that manifest.json names" in page.inner_text("#failure")
        assert state(page, "offline") == "warn"
        assert page.evaluate("caches.keys()") == []
    assert watched.errors
    watched.errors.clear()


def test_a_new_version_waits_until_it_is_asked_for(
    folder: Path, int8_folder: Path, tmp_path: Path, watched: Watched
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with served(copy) as server:
        page = opened(watched, server)
        shutil.rmtree(copy)
        shutil.copytree(int8_folder, copy)
        page.evaluate("navigator.serviceWorker.getRegistration().then((found) => found.update())")
        page.wait_for_selector("#update:not([hidden])")
        assert "fp32" in page.inner_text("#facts")
        page.click("#take-update")
        page.wait_for_function("() => document.querySelector('#facts')?.textContent.includes('int8')", timeout=60_000)
        ready(page)
        assert state(page, "test") == "good"
        assert len(page.evaluate("caches.keys()")) == 1


def test_the_single_file_works_from_disk(single: Path, folder: Path, watched: Watched, digits: Path) -> None:
    page = watched.page()
    page.goto(single.as_uri())
    ready(page)
    assert state(page, "test") == "good"
    assert state(page, "offline") == "good"
    page.select_option("#source", "json")
    image = np.load(digits / "evaluation.npz")["image"][7]
    page.fill("#json", json.dumps({"image": image.tolist()}))
    page.evaluate("document.querySelector('#result').replaceChildren()")
    page.click("#run")
    page.wait_for_selector("#result .scores")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    native = session.run(None, {"image": image[None]})[0].ravel()
    assert page.inner_text("#result .scores .name >> nth=0") == f"class {native.argmax()}"
    assert page.inner_text("#result .scores .value >> nth=0") == f"{100 * native.max():.1f} %"
    assert [url for url in watched.requests if not url.startswith(("blob:", "data:"))] == [single.as_uri()]


def test_wrong_inputs_are_one_line(folder: Path, watched: Watched) -> None:
    cases = {
        '{"image": [1, 2, 3]}': "input image takes [batch,8,8,1]: give it as {data, shape}",
        '{"picture": [1]}': "input image is missing",
        '{"image": [NaN]}': "That is not JSON",
        "[": "That is not JSON",
        '{"image": "text"}': "input image",
        "null": "inputs are an object, not null",
    }
    with served(folder) as server:
        page = opened(watched, server)
        page.select_option("#source", "json")
        for text, said in cases.items():
            page.fill("#json", text)
            page.click("#run")
            page.wait_for_selector("#result .bad")
            assert said in page.inner_text("#result .bad"), text
            page.evaluate("document.querySelector('#result').replaceChildren()")


def test_it_runs_without_a_service_worker_on_one_thread(folder: Path, chromium: Any) -> None:
    context = chromium.new_context(service_workers="block")
    watch = Watched(context)
    page = watch.page()
    with served(folder) as server:
        page.goto(server.url)
        ready(page)
        assert state(page, "test") == "good"
        assert state(page, "threads") == "warn"
        assert not page.evaluate("crossOriginIsolated")
    context.close()
    assert watch.errors == []


def test_a_server_that_knows_no_wasm_type_is_no_matter(folder: Path, watched: Watched) -> None:
    """onnxruntime-web falls back to compiling what it fetched; under the service worker the type is right again."""

    with served(folder) as server:
        types = http.server.SimpleHTTPRequestHandler.extensions_map
        before = types.get(".wasm")
        types[".wasm"] = "application/octet-stream"
        try:
            page = opened(watched, server)
        finally:
            types.pop(".wasm") if before is None else types.update({".wasm": before})
        assert state(page, "test") == "good"
        kind = page.evaluate(
            "fetch('engine/ort-wasm-simd-threaded.wasm').then((found) => found.headers.get('content-type'))"
        )
        assert re.match("application/wasm", kind)
