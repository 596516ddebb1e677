"""Starts a worker, hears it out, and turns whatever happens to it into a result or one clear error.

This side imports no engine, no numpy, and opens no model. A worker that crashes, hangs or runs out of memory becomes a
`WorkerError` that names the signal and the stage it was in.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from haversack.convert import errors
from haversack.convert.errors import Blocker, UnsupportedError, WorkerError
from haversack.convert.publish import no_room
from haversack.runtimes import errors as runtime_errors

Progress = Callable[[float, str], None]

GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """What a worker may use.

    Attributes:
        seconds: Wall-clock time.
        memory: Address space in bytes; None: the machine's memory, and at least 8 GiB, because TensorFlow and
            onnxruntime reserve much more than they touch.
        file_size: Bytes of the largest file it may write.
    """

    seconds: float = 3600.0
    memory: int | None = None
    file_size: int = 16 * GIB

    def as_job(self) -> dict[str, int]:
        """The numbers that the worker sets on itself."""
        cores = os.cpu_count() or 1
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return {
            "memory": self.memory if self.memory is not None else max(physical, 8 * GIB),
            "cpu_seconds": int(self.seconds * cores) + 1,
            "file_size": self.file_size,
        }


def call(
    command: str,
    arguments: dict[str, Any],
    private: Path,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Any:
    """Have a fresh worker do `command` and return its result.

    Args:
        command: A name in `worker_commands.COMMANDS`.
        arguments: JSON-able keyword arguments; paths absolute.
        private: An empty folder of this user's, in which the worker copies the model and leaves what it makes.
        limits: What it may use.
        progress: Hears how far it is.

    Returns:
        The result as JSON.

    Raises:
        HaversackError: What the worker raised, as its own type.
        WorkerError: The worker crashed, hung, ran out of memory, or failed in a way nobody foresaw.
    """
    limits = limits or Limits()
    with _pipe() as (hear, answer), _pipe() as (lifeline, _):
        job = private / "job.json"
        _write(
            job,
            json.dumps(
                {
                    "command": command,
                    "arguments": arguments,
                    "private": str(private),
                    "answer": answer.fileno(),
                    "lifeline": lifeline.fileno(),
                    "limits": limits.as_job(),
                }
            ),
        )
        log = private / "log.txt"
        with log.open("wb") as vendor:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "haversack.convert.worker", str(job)],
                stdin=subprocess.DEVNULL,
                stdout=vendor,
                stderr=vendor,
                cwd=private,
                env=_environment(private),
                pass_fds=(answer.fileno(), lifeline.fileno()),
                start_new_session=True,
            )
        try:
            # The worker has its own; with ours open too, its end would never be heard.
            answer.close()
            lifeline.close()
            return _listen(process, hear, limits, progress, log)
        finally:
            _end(process)


def _write(job: Path, text: str) -> None:
    try:
        job.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkerError(no_room(error, job.parent.parent) or f"{job.parent.parent}: {error.strerror}") from error


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """A pipe's reading and writing end, closed at the end.

    They are file objects, which know that they are closed: the number of a descriptor closed twice may be another
    thread's by then.
    """
    read, write = os.pipe()
    with FileIO(read, "r") as reader, FileIO(write, "w") as writer:
        yield reader, writer


def _environment(private: Path) -> dict[str, str]:
    """The user's environment, with temporary files in the private folder and vendors told to be quiet."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONUNBUFFERED": "1"}
    # Small matrices, one sample at a time: BLAS threads would only wait for one another (30 times slower on a busy
    # machine).
    quiet["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "1")
    temporary = private / "tmp"
    temporary.mkdir(exist_ok=True)
    return {**os.environ, **quiet, "TMPDIR": str(temporary)}


def _listen(
    process: subprocess.Popen[bytes], hear: FileIO, limits: Limits, progress: Progress | None, log: Path
) -> Any:
    deadline = time.monotonic() + limits.seconds
    stage = "starting"
    pending = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([hear], [], [], left)[0]:
            raise WorkerError(f"the worker took longer than {limits.seconds:g} s and was stopped while {stage}")
        read = hear.read(1 << 16)
        if not read:
            raise _crashed(process, stage, log, limits)
        *lines, pending = (pending + read).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "progress" in message:
                fraction, stage = message["progress"]
                if progress is not None:
                    progress(fraction, stage)
            elif "result" in message:
                return message["result"]
            else:
                raise _rebuilt(message["error"], stage, limits)


def _crashed(process: subprocess.Popen[bytes], stage: str, log: Path, limits: Limits) -> WorkerError:
    """Say how a worker that gave no answer ended."""
    code = process.wait()
    trace = log.read_text(encoding="utf-8", errors="replace")[-4000:]
    if code < 0:
        name = signal.Signals(-code).name
        cause = {
            signal.SIGKILL: " (the system may have run out of memory)",
            signal.SIGABRT: f" (a library gave up; out of its {limits.as_job()['memory'] / GIB:.1f} GiB of memory?)",
            signal.SIGXCPU: " (its CPU time is used up)",
        }.get(signal.Signals(-code), "")
        how = f"was killed by {name}{cause}"
    else:
        how = f"ended with exit code {code} and no answer"
    error = WorkerError(f"the worker that opened the model {how} while {stage}")
    error.add_note(trace)
    return error


def _rebuilt(described: dict[str, Any], stage: str, limits: Limits) -> Exception:
    """The worker's exception, as its own type where it is one of ours."""
    kind = getattr(errors, described["type"], None) or getattr(runtime_errors, described["type"], None)
    error: Exception
    if kind is UnsupportedError:
        error = UnsupportedError(described["target"], [Blocker(**blocker) for blocker in described["blockers"]])
    elif isinstance(kind, type) and issubclass(kind, runtime_errors.HaversackError):
        error = kind(described["message"])
    elif described["type"] == "MemoryError":
        bound = limits.as_job()["memory"] / GIB
        error = WorkerError(f"the worker ran out of its {bound:.1f} GiB of memory while {stage}")
    else:
        error = WorkerError(f"unexpected {described['type']} while {stage}: {described['message']} (--debug shows all)")
    error.add_note(described.get("trace", ""))
    return error


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the worker's whole process group, if any of it is left, and reap it."""
    # The group outlives its leader where the worker started processes of its own.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


__all__ = ["Limits", "Progress", "call"]
