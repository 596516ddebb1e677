"""Tries an input on variants of a bundle, in a worker process.

The dashboard opens no engine itself: a bundle that somebody uploaded may crash a vendor's parser, and then one variant
has an error and the dashboard lives on.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array

SECONDS = 120
"""Time that one worker may take."""


@dataclass(frozen=True)
class Outcome:
    """What one variant gave for an input.

    Attributes:
        outputs: Its outputs by the model's names, in the model's own axis order and float dtypes.
        error: Why there are none, in one line; empty where there are.
        engine: What ran it, with its version.
        emulated: That is not what a device has: the Core ML reference evaluator.
    """

    outputs: Mapping[str, Array] = field(default_factory=dict)
    error: str = ""
    engine: str = ""
    emulated: bool = False


def run_variants(bundle: Path, variants: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Outcome]:
    """Run variants on one input.

    Args:
        bundle: The `.haversack`.
        variants: Ids of its variants.
        feeds: One array an input, as the model takes it (batch axis included).

    Returns:
        One outcome a variant. A variant that ends its worker costs the others nothing: a fresh one goes on with them.
    """
    outcomes: dict[str, Outcome] = {}
    left = list(variants)
    while left:
        done, ending = _work(bundle, left, feeds)
        outcomes |= done
        left = left[len(done) :]
        if left:
            outcomes[left.pop(0)] = Outcome(error=ending)
    return outcomes


def _work(bundle: Path, variants: Sequence[str], feeds: Mapping[str, Array]) -> tuple[dict[str, Outcome], str]:
    """What one worker gave, and how it ended."""
    with tempfile.TemporaryDirectory(prefix="haversack-trial-") as name:
        folder = Path(name)
        job = {"bundle": str(bundle), "variants": list(variants), "inputs": list(feeds), "seconds": SECONDS}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        np.savez(folder / "feeds.npz", *feeds.values())
        command = [sys.executable, "-P", "-m", "haversack.demo.trial_worker", name]
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
            try:
                process.wait(SECONDS)
                ending = _ending(process.returncode, folder / "log.txt")
            except subprocess.TimeoutExpired:
                ending = f"took longer than {SECONDS} s and was stopped"
            finally:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
        outcomes = {}
        for number, variant in enumerate(variants):
            answer = folder / f"{number}.json"
            if not answer.exists():
                break
            outcomes[variant] = _read(json.loads(answer.read_text(encoding="utf-8")), folder / f"{number}.npz")
        return outcomes, ending


def _read(answer: Mapping[str, Any], arrays: Path) -> Outcome:
    if "error" in answer:
        return Outcome(error=answer["error"])
    with np.load(arrays, allow_pickle=False) as archive:
        outputs = {name: archive[f"arr_{index}"] for index, name in enumerate(answer["outputs"])}
    return Outcome(outputs, engine=answer["engine"], emulated=answer["emulated"])


def _ending(code: int, log: Path) -> str:
    if code < 0:
        return f"the engine was killed by {signal.Signals(-code).name}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"the engine's process ended with exit code {code}: {lines[-1] if lines else 'no message'}"
