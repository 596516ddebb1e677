"""Runs variants of a bundle on one input, in a process of its own; `trial.py` starts it and reads its answers.

    python -P -m haversack.demo.trial_worker FOLDER

`FOLDER/job.json` names the bundle and the variants, `FOLDER/feeds.npz` holds the input as the model takes it. Each
variant leaves `FOLDER/<number>.npz` (its outputs) or `FOLDER/<number>.json` (an error), in the job's order, so that the
parent can tell which one ended the process.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from haversack.demo import edges
from haversack.runtimes import load
from haversack.runtimes.errors import HaversackError

MEMORY = 8 << 30
"""Bytes of address space; engines reserve much more than they touch."""


def main() -> None:
    """Do the job in the folder that the command line names."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    _end_with_parent()
    _limit(int(job["seconds"]))
    with np.load(folder / "feeds.npz", allow_pickle=False) as archive:
        feeds = {name: archive[f"arr_{index}"] for index, name in enumerate(job["inputs"])}
    for number, name in enumerate(job["variants"]):
        answer: dict[str, Any] = {}
        try:
            with load(job["bundle"], variant=name) as model:
                assert model.manifest is not None
                assert model.variant is not None
                answer["engine"] = f"{model.engine.name} {model.engine.version}"
                answer["emulated"] = model.engine.emulated
                own = edges.enter(feeds, model.manifest, model.variant)
                outputs = edges.leave(model(own), model.manifest, model.variant)
            np.savez(folder / f"{number}.npz", *outputs.values())
            answer["outputs"] = list(outputs)
        except HaversackError as error:
            answer["error"] = str(error)
        except MemoryError:
            answer["error"] = "out of memory"
        part = folder / f"{number}.part"
        part.write_text(json.dumps(answer), encoding="utf-8")
        part.rename(folder / f"{number}.json")


def _limit(seconds: int) -> None:
    """Bound address space and CPU time, and write no core dump."""
    for kind, bound in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))


def _end_with_parent() -> None:
    """End this process when the parent's end of standard input closes: a killed dashboard leaves no worker behind."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main()
