"""A worker that crashes, hangs, is killed or eats memory is one line and exit 1, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import haversack, names

KEPT = {"small.onnx", "hostile.py"}


def convert(folder: Path, function: str, *words: str, timeout: float = 60):  # type: ignore[no-untyped-def]
    return haversack(
        "convert", "small.onnx", "--to", "tflite", "--compress", "int8", "--calibration", f"hostile:{function}", *words,
        cwd=folder, timeout=timeout,
    )  # fmt: skip


def test_a_data_function_of_the_users_own_is_found(hostile: Path) -> None:
    done = convert(hostile, "good")
    assert done.code == 0, done.err
    assert names(hostile) == KEPT | {"small.tflite"}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("crash", "SIGSEGV"),
        ("killed", "SIGKILL"),
        ("leave", "exit code 7"),
        ("raises", "an evil data function"),
    ],
)
def test_a_crash_is_one_line(hostile: Path, function: str, said: str) -> None:
    done = convert(hostile, function)
    assert said in done.line
    assert done.code == (2 if function == "raises" else 1)  # What a data function raises is bad data.
    assert names(hostile) == KEPT


def test_the_stage_is_named(hostile: Path) -> None:
    assert "while reading small.onnx" in convert(hostile, "crash").line


@pytest.mark.slow  # It waits for the limit, which must leave the worker the time to start.
def test_a_hang_is_ended_by_the_time_limit(hostile: Path) -> None:
    began = time.monotonic()
    done = convert(hostile, "hang", "--timeout", "6")
    assert done.code == 1
    assert "took longer than 6 s" in done.line
    assert time.monotonic() - began < 30
    assert not alive(int((hostile / "worker.pid").read_text()))
    assert names(hostile) == KEPT | {"worker.pid"}


def test_memory_is_bounded(hostile: Path) -> None:
    done = convert(hostile, "hoard", "--memory", "2GiB", "--timeout", "60", timeout=90)
    assert done.code == 1
    assert "memory" in done.line.lower()
    assert names(hostile) == KEPT


def test_vendors_output_stays_inside(hostile: Path) -> None:
    done = convert(hostile, "noisy")
    assert done.code == 0
    assert "chatter" not in done.out + done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(hostile: Path, number: signal.Signals) -> None:
    command = [
        str(Path(sys.executable).with_name("haversack")), "pack", "small.onnx", "--to", "tflite,coreml,onnx",
        "--calibration", "hostile:hang", "-o", "made.haversack",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=hostile,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job, which a test run may be, ignores SIGINT, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    marker = hostile / "worker.pid"
    deadline = time.monotonic() + 60
    while not marker.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # The private folder is there while the work goes on; that it goes is what the test is about.
    assert any(name.startswith(".haversack-") for name in names(hostile))
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    if number == signal.SIGINT:
        assert said == "haversack: interrupted; nothing was written\n"
    assert names(hostile) == KEPT | {"worker.pid"}
    assert not alive(int(marker.read_text()))


def test_a_killed_parent_leaves_neither_worker_nor_folder(hostile: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("haversack")), "convert", "small.onnx", "--to", "tflite", "--compress",
        "int8", "--calibration", "hostile:hang",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=hostile, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    marker = hostile / "worker.pid"
    deadline = time.monotonic() + 60
    while not marker.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    worker = int(marker.read_text())
    deadline = time.monotonic() + 10
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)
    assert names(hostile) == KEPT | {"worker.pid"}


def test_no_room_is_one_line(model: Path) -> None:
    """A limit of 4 KiB a file, which the shell sets, stands for a full disk: the system refuses the write likewise."""
    model.write_bytes(model.read_bytes() + b"\x1a" + b"\x80\x40" + b" " * 8192)  # a longer doc string
    haversack = Path(sys.executable).with_name("haversack")
    script = f"ulimit -f 4; exec {haversack} convert {model.name} --to tflite -o made.tflite"
    before = names(model.parent)
    done = subprocess.run(["bash", "-c", script], cwd=model.parent, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "limit of this process" in line
    assert "make room there" in line
    assert names(model.parent) == before


def test_the_command_line_opens_no_model_and_no_engine(model: Path) -> None:
    """The parent's own imports, listed by the interpreter, after a whole conversion."""
    script = (
        "import sys\n"
        "from haversack.convert.cli import main\n"
        f"code = main(['convert', {str(model)!r}, '--to', 'onnx', '-o', {str(model.parent / 'made.onnx')!r}])\n"
        "heavy = {'numpy', 'onnx', 'onnx_ir', 'onnxruntime', 'ai_edge_litert', 'coremltools', 'PIL', 'tensorflow'}\n"
        "print(code, sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended but was not yet reaped does not."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
