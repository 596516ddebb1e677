"""What can go wrong with a browser does so here: absent, ended, crashed, hung, killed, complaining."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from haversack.runtimes import EngineError
from haversack.runtimes.engines import browser
from haversack.runtimes.engines.browser import chromium, devtools, session
from haversack.runtimes.engines.browser.session import Browser

from .conftest import endless, one_node, processes

ONES = {"x": np.ones((1, 4), np.float32)}


@pytest.fixture(scope="module")
def started() -> Iterator[list[Browser]]:
    opened: list[Browser] = []
    yield opened
    for each in opened:
        if each.alive:
            each.close()


@pytest.fixture
def own(started: list[Browser]) -> Browser:
    """A browser that no model shares; a new one where a test has ended the last."""
    if not started or not started[-1].alive:
        started.append(Browser(browser.ORT))
    return started[-1]


def waited(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def asked(opened: Browser, times: int = 1) -> None:
    """Commands that do nothing."""
    for number in range(times):
        opened.ask({"do": "close", "id": 0}, seconds=20, what="nothing")
        if number:
            time.sleep(0.05)


def test_no_chromium_is_one_line_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(chromium.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "PLACES", ())
    with pytest.raises(EngineError, match=r"^no Chromium found; install it .* HAVERSACK_CHROMIUM$"):
        Browser(browser.ORT)
    monkeypatch.setenv(chromium.VARIABLE, str(tmp_path / "chromium"))
    with pytest.raises(EngineError, match=r"no Chromium: .* is no executable file"):
        Browser(browser.ORT)


def script(folder: Path, text: str) -> Path:
    path = folder / "chromium"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_chromium_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    program = script(tmp_path, "echo 'error while loading shared libraries: libnss3.so' >&2; exit 127")
    with pytest.raises(EngineError, match=r"^browser: Chromium ended \(error while loading shared libraries"):
        Browser(browser.ORT, chromium=program)


def test_a_chromium_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devtools, "ANSWER", 0.5)
    program = script(tmp_path, f"sleep 600 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(EngineError, match=r"did not answer Browser\.getVersion in 0\.5 s"):
        Browser(browser.ORT, chromium=program)
    child = int((tmp_path / "child").read_text())
    assert waited(lambda: not Path(f"/proc/{child}").exists())


def test_files_that_are_not_vendored_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from haversack.runtimes.engines.browser import vendored

    monkeypatch.setattr(vendored, "VENDOR", tmp_path)
    session.close_shared()
    with pytest.raises(EngineError, match=r"^m\.onnx: onnxruntime-web 1\.30\.0 is not here; fetch it once with"):
        browser.open_artifact(one_node("Neg"), label="m.onnx")


@pytest.mark.slow
def test_a_hanging_page_is_ended_in_time_and_nothing_is_left() -> None:
    engine = browser.open_artifact(endless(), label="m.onnx", seconds=2.0)
    assert engine._browser is not None
    folder = engine._browser._chromium._folder
    assert processes(folder)
    begun = time.monotonic()
    with pytest.raises(EngineError, match=r"^m\.onnx: browser failed: a call took longer than 2 s in Chromium, which"):
        engine.run({"x": np.ones(4, np.float32)})
    assert time.monotonic() - begun < 10
    assert waited(lambda: not processes(folder))
    assert not Path(folder).exists()


@pytest.mark.slow
def test_a_killed_browser_is_said_and_the_next_call_starts_another() -> None:
    slow = browser.open_artifact(endless(), label="m.onnx")
    quick = browser.open_artifact(one_node("Neg"))
    assert slow._browser is not None
    assert slow._browser is quick._browser
    folder = slow._browser._chromium._folder
    (main,) = [each for each in processes(folder) if b"--type=" not in Path(f"/proc/{each}/cmdline").read_bytes()
               and b"keeper.py" not in Path(f"/proc/{each}/cmdline").read_bytes()]  # fmt: skip
    threading.Timer(1.0, os.kill, (main, signal.SIGKILL)).start()
    with pytest.raises(EngineError, match=r"^m\.onnx: browser failed: Chromium ended during a call$"):
        slow.run({"x": np.ones(4, np.float32)})
    assert waited(lambda: not processes(folder))
    np.testing.assert_array_equal(quick.run(ONES)["y"], -ONES["x"])
    assert quick._browser is not slow._browser


def test_a_crashed_page_is_said(own: Browser) -> None:
    threading.Timer(0.2, lambda: own._devtools._post("Page.crash", own._devtools._session, {})).start()
    with pytest.raises(EngineError, match=r"the page crashed (during|after) nothing"):
        asked(own, times=200)
    assert not own.alive


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("console.error('one', {two: 2}, 3)", "one Object 3"),
        ("console.assert(1 === 2, 'unequal')", "unequal"),
        ("setTimeout(() => { throw new TypeError('a page error') })", "TypeError: a page error"),
        ("Promise.reject(new Error('nobody listens'))", "nobody listens"),
        ("fetch('nothing.bin')", "404"),
        ("fetch('http://example.com/').catch(() => 0)", "Content Security Policy"),
        ("new Worker(URL.createObjectURL(new Blob(['console.error(\"in a worker\")'])))", "in a worker"),
    ],
    ids=["console", "assert", "exception", "rejection", "missing file", "another origin", "worker"],
)
def test_an_error_on_the_console_fails_the_call(own: Browser, said: str, heard: str) -> None:
    asked(own)
    own._devtools.ask("Runtime.evaluate", session=own._devtools._session, expression=said)
    with pytest.raises(EngineError, match="Chromium's console has an error of nothing: ") as caught:
        asked(own, times=100)  # what a worker or the network says comes when it comes
    assert heard in str(caught.value)
    assert "\n" not in str(caught.value)
    asked(own, times=3)  # it is said once


@pytest.mark.parametrize(
    "said",
    [
        "console.warn('a warning')",
        "console.log('text')",
        r"console.error('\x1b[0;93m2026-11-28 07:41:07.189104 [W:onnxruntime:, scatter.cc:99 Compute] copying\x1b[m')",
        "console.error('INFO: Created TensorFlow Lite XNNPACK delegate for CPU.')",
    ],
)
def test_a_warning_does_not(own: Browser, said: str) -> None:
    own._devtools.ask("Runtime.evaluate", session=own._devtools._session, expression=said)
    asked(own, times=5)


def test_nothing_but_the_page_can_speak(own: Browser) -> None:
    import urllib.error
    import urllib.request

    address = own._server.address
    port = address.split("/")[2]
    assert urllib.request.urlopen(address + "driver.js").status == 200
    for wrong in (f"http://{port}/", f"http://{port}/driver.js", f"{address}../x", f"{address}%2e%2e/session.py",
                  f"{address}onnxruntime-web/../../session.py", f"{address}none/x"):  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(wrong)
        assert caught.value.code == 404
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://{port}/guess/exchange", data=b"x")
    asked(own)


def test_a_page_that_is_not_isolated_says_so() -> None:
    with Browser(browser.ORT, threads=2, isolated=False) as opened:
        assert not opened.facts.isolated
        assert opened.facts.threads == 1
        assert opened.workers() == 0


OPENS = """
import sys, time
from haversack.runtimes.engines.browser import ORT
from haversack.runtimes.engines.browser.session import shared
print(shared(ORT, threads=2)._chromium._folder, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["kill", "interrupt", "exit", "crash"])
def test_nothing_is_left_however_the_process_ends(ends: str) -> None:
    last = {"exit": "", "crash": "import ctypes; ctypes.string_at(0)"}.get(ends, "time.sleep(600)")
    process = subprocess.Popen([sys.executable, "-c", OPENS + last], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    folder = process.stdout.readline().decode().strip()
    assert Path(folder).is_dir() or ends in ("exit", "crash")
    if ends in ("kill", "interrupt"):
        assert len(processes(folder)) > 3
        process.send_signal(signal.SIGKILL if ends == "kill" else signal.SIGINT)
    process.wait(timeout=30)
    assert waited(lambda: not processes(folder))
    assert waited(lambda: not Path(folder).exists())


def test_an_interrupted_call_closes_the_browser() -> None:
    engine = browser.open_artifact(endless())
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        engine.run({"x": np.ones(4, np.float32)})
    assert engine._browser is not None
    assert not engine._browser.alive
    np.testing.assert_array_equal(browser.open_artifact(one_node("Neg")).run(ONES)["y"], -ONES["x"])


def test_a_fork_leaves_its_parents_browser_alone() -> None:
    engine = browser.open_artifact(one_node("Neg"))
    child = os.fork()
    if child == 0:
        session.close_shared()
        os._exit(0)
    os.waitpid(child, 0)
    np.testing.assert_array_equal(engine.run(ONES)["y"], -ONES["x"])


def test_a_limit_that_no_chromium_lives_under_is_named() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))\n"
        "from haversack.runtimes.engines.browser import ORT\n"
        "from haversack.runtimes.engines.browser.session import Browser\n"
        "Browser(ORT)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "this process may have 24 GiB: ulimit -v" in done.stderr


def test_a_keeper_that_is_late_keeps_all_the_same(tmp_path: Path) -> None:
    """On a busy machine the command may run before the keeper goes on; it then cannot set the command's group."""
    folder = tmp_path / "folder"
    folder.mkdir()
    code = (
        "import os, runpy, sys, time\n"
        "real = os.setpgid\n"
        "def late(process, group):\n"
        "    if process: time.sleep(1)\n"
        "    real(process, group)\n"
        "os.setpgid = late\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    pipes = [*os.pipe(), *os.pipe()]
    keeper = subprocess.Popen(
        [sys.executable, "-c", code, chromium.__file__.replace("chromium.py", "keeper.py"), folder, str(pipes[0]),
         str(pipes[3]), shutil.which("sh") or "", "-c", f"echo $$ > {tmp_path}/pid; sleep 600"],
        stdin=subprocess.PIPE, pass_fds=pipes,
    )  # fmt: skip
    for pipe in pipes:
        os.close(pipe)
    assert waited(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip() != "")
    time.sleep(1.5)
    assert keeper.poll() is None
    assert keeper.stdin is not None
    keeper.stdin.close()
    assert keeper.wait(timeout=15) == 128 + signal.SIGKILL
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert not folder.exists()


def test_a_long_temporary_folder_is_no_reason_to_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with Browser(browser.ORT) as opened:
        asked(opened)
        assert not list(long.iterdir())


def test_the_profile_is_fresh_and_not_the_users(own: Browser) -> None:
    assert shutil.which("chromium") is None or str(Path.home()) not in own._chromium._folder
    assert (Path(own._chromium._folder) / "profile").is_dir()
