"""What a report says of a run in a browser."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ToNative:
    """How far one output was from what the native engine gave for the same inputs, over all samples.

    Attributes:
        name: The output.
        max_abs: Largest absolute difference; 0 for text, which is the same or an error.
        max_relative: `max_abs / max(largest absolute native value, 1e-6)`.
    """

    name: str
    max_abs: float
    max_relative: float


@dataclass(frozen=True)
class InBrowser:
    """Where an artifact ran, and how long it took to be ready.

    Attributes:
        chromium: The browser and its version.
        runtime: The WebAssembly runtime and its version.
        threads: How many threads the runtime says that it uses; without isolation always one.
        isolated: Whether the page was cross-origin isolated: threads, and a clock of 5 instead of 100 microseconds.
        runtime_ms: Starting the runtime: its files fetched from this machine, compiled, and a trivial model run.
        load_ms: Loading the artifact after that.
        first_run_ms: Its first call; None before there was one.
        native: The engine that gave the outputs that the browser's were compared with, and its version.
        outputs: How far each output was from the native one.
    """

    chromium: str
    runtime: str
    threads: int
    isolated: bool
    runtime_ms: float
    load_ms: float
    first_run_ms: float | None
    native: str
    outputs: tuple[ToNative, ...]
