"""The worker: the only process in which the command line opens a model file.

`python -P -m haversack.convert.worker JOB` reads the job from `JOB`, a JSON file in its private folder, limits itself,
works on a copy of every model file, and answers with JSON lines on the pipe whose number the job names:

    {"progress": [0.4, "lowering to tflite"]}      any number of times
    {"result": {...}}                              last, or
    {"error": {"type": ..., "message": ..., ...}}  last

The other end is `worker_client.py`. Nothing heavy is imported before the limits hold.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from haversack.convert.errors import OUT_OF_MEMORY, UnsupportedError
from haversack.convert.publish import no_room
from haversack.runtimes.errors import HaversackError


class Channel:
    """The answering end of the pipe.

    Args:
        handle: The pipe's file descriptor.
    """

    def __init__(self, handle: int):
        self._pipe = os.fdopen(handle, "w", encoding="utf-8")

    def send(self, kind: str, value: Any) -> None:
        """Write one line."""
        self._pipe.write(json.dumps({kind: value}) + "\n")
        self._pipe.flush()

    def progress(self, fraction: float, phrase: str) -> None:
        """Say how far the work is."""
        self.send("progress", [round(float(fraction), 4), phrase])


def main() -> int:
    """Do one job and answer it."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    channel = Channel(job["answer"])
    _die_with_parent(job["lifeline"], Path(job["private"]))
    _limit(job["limits"])
    try:
        channel.send("result", _work(job, channel.progress))
    except HaversackError as error:
        channel.send("error", _described(error))
        return error.exit_code
    except MemoryError:
        channel.send("error", {"type": "MemoryError", "message": "", "trace": traceback.format_exc()})
        return 1
    except Exception as error:
        channel.send("error", _unforeseen(error, Path(job["private"])))
        return 1
    return 0


def _unforeseen(error: Exception, private: Path) -> dict[str, str]:
    text = " ".join(str(error).split())[:400]
    kind = "MemoryError" if any(sign in text for sign in OUT_OF_MEMORY) else type(error).__name__
    room = no_room(error, private.parent) if isinstance(error, OSError) else ""
    if room:
        kind, text = "WorkerError", room
    return {"type": kind, "message": text, "trace": traceback.format_exc()}


def _work(job: dict[str, Any], progress: Callable[[float, str], None]) -> Any:
    from haversack.convert import worker_commands

    return worker_commands.run(job["command"], job["arguments"], Path(job["private"]), progress)


def _described(error: HaversackError) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "message": str(error),
        "trace": traceback.format_exc(),
    }
    if isinstance(error, UnsupportedError):
        described["target"] = error.target
        described["blockers"] = [vars(blocker) for blocker in error.blockers]
    return described


def _limit(limits: dict[str, int]) -> None:
    """Bound address space, CPU time and the size of a written file; write no core dump.

    The bound of the address space is one that a process may lift for itself: Chromium must, which reserves terabytes
    that it never touches.
    """
    for name, key in (("RLIMIT_AS", "memory"), ("RLIMIT_CPU", "cpu_seconds"), ("RLIMIT_FSIZE", "file_size")):
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        bound = limits[key] if hard == resource.RLIM_INFINITY else min(limits[key], hard)
        lifted = hard != resource.RLIM_INFINITY or name == "RLIMIT_AS"
        resource.setrlimit(kind, (bound, hard if lifted else bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _die_with_parent(handle: int, private: Path) -> None:
    """End when the parent's end of a pipe closes: a killed parent leaves neither worker nor private folder behind."""

    def wait() -> None:
        os.read(handle, 1)
        # A parent that lives has killed this process before it closes the pipe, so the folder is nobody's.
        for _ in range(3):  # The main thread may still be writing in it.
            shutil.rmtree(private, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
