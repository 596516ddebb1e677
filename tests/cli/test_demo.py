"""`haversack demo`: what it starts, and what it refuses."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from haversack.convert.cli import demo
from haversack.convert.errors import UsageError

from .conftest import haversack

needs_streamlit = pytest.mark.skipif(
    importlib.util.find_spec("streamlit") is None, reason="the extra haversack[demo] is not installed"
)


def test_a_missing_extra_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "streamlit" else real(name))
    with pytest.raises(UsageError, match=r"pip install 'haversack\[demo\]'"):
        demo.launch([], 8501, headless=True)


@needs_streamlit
def test_a_bundle_that_is_not_there() -> None:
    done = haversack("demo", "nothing.haversack")
    assert done.code == 2
    assert "there is no such bundle: nothing.haversack" in done.line


@needs_streamlit
def test_a_port_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "some.haversack").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = haversack("demo", tmp_path / "some.haversack", "--port", taken.getsockname()[1])
    assert done.code == 2
    assert "is taken" in done.line


@needs_streamlit
@pytest.mark.slow
def test_the_dashboard_is_served_on_this_machine_only(model: Path) -> None:
    bundle = model.parent / "made.haversack"
    assert haversack("pack", model, "--to", "onnx", "--recipes", "fp32", "-o", bundle).code == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("haversack")), "demo", bundle, "--port", str(port), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as answer:
                    assert answer.read() == b"ok"
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(timeout=20)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2)
