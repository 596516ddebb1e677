"""One Chromium, its page and the conversation with it; and the one that all models of this process share.

    browser = shared(ORT, threads=1)
    header, arrays = browser.ask({"do": "run", ...}, feeds, seconds=60)

Whatever goes wrong is one `EngineError`; after one that leaves the page in no known state, the browser is closed and
`shared` starts another.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from haversack.runtimes.engines.browser.chromium import Chromium
from haversack.runtimes.engines.browser.devtools import DevTools
from haversack.runtimes.engines.browser.frames import Named, pack, unpack
from haversack.runtimes.engines.browser.server import PageServer
from haversack.runtimes.engines.quiet import one_line
from haversack.runtimes.errors import EngineError

START = 60.0
"""Seconds that Chromium and the runtime in its page have to start; on an idle machine they take one or two."""


@dataclass(frozen=True)
class Runtime:
    """A WebAssembly runtime and the page's script for it.

    Attributes:
        name: Of the engine.
        script: In `page/`.
        packages: The folders of its files by their name in the page; called when a browser is started.
        version: Told to a script whose runtime does not know its own.
        folder: The one artifact that it runs, where it is part of it.
    """

    name: str
    script: str
    packages: Callable[[], Mapping[str, Path]]
    version: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Facts:
    """What runs there.

    Attributes:
        chromium: Its version.
        runtime: The runtime and its version.
        threads: How many threads the runtime says that it uses.
        isolated: Whether the page is cross-origin isolated: without, there are no threads, and its clock ticks in
            steps of 100 microseconds instead of 5.
        runtime_ms: From the first byte of the runtime's script to its first call of a trivial model: fetched from this
            machine, compiled and started.
    """

    chromium: str
    runtime: str
    threads: int
    isolated: bool
    runtime_ms: float


class Browser:
    """A started browser whose page has loaded a runtime and waits for commands.

    Args:
        runtime: What the page loads.
        threads: How many threads the runtime may use.
        chromium: Chromium's executable; by default found.
        isolated: False for a page without cross-origin isolation, to see what is lost.

    Raises:
        EngineError: There is no Chromium, it did not start, or the runtime's files are not here.
    """

    def __init__(
        self, runtime: Runtime, *, threads: int = 1, chromium: str | Path | None = None, isolated: bool = True
    ):
        self._runtime = runtime
        self._heard: queue.Queue[bytes | str] = queue.Queue()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self.alive = True
        folders = {"": Path(__file__).with_name("page"), **runtime.packages()}
        self._chromium = Chromium(chromium)
        self._devtools = DevTools(self._chromium.read, self._chromium.write, self._heard.put)
        self._server = PageServer(folders, self._heard.put, isolated=isolated)
        try:
            version = self._devtools.attach()
            query = urlencode({"runtime": runtime.script, "threads": threads, "version": runtime.version})
            self._devtools.open(f"{self._server.address}index.html?{query}")
            hello, _ = self._answer(START, "starting the runtime")
        except EngineError as error:
            said = self._chromium.last_words() if "Chromium ended" in str(error) else ""
            self.close()
            raise EngineError(f"{runtime.name}: {error}{f' ({said})' if said else ''}") from None
        except BaseException:
            self.close()
            raise
        self.facts = Facts(version, hello["version"], hello["threads"], hello["isolated"], hello["runtime_ms"])

    def ask(
        self, command: Mapping[str, Any], arrays: Iterable[Named] = (), *, seconds: float, what: str = "a command"
    ) -> tuple[dict[str, Any], list[Named]]:
        """Have the page do one command.

        Args:
            command: What to do, `do` naming it.
            arrays: What goes with it.
            seconds: How long it may take; then Chromium is ended.
            what: The command in words, for messages.

        Returns:
            The page's answer and its arrays.

        Raises:
            EngineError: The command failed, took too long, Chromium died of it, or put an error on its console.
        """
        frame = pack(dict(command), arrays)
        with self._lock:
            if not self.alive:
                raise EngineError("Chromium is closed")
            self._server.send(frame)
            return self._answer(seconds, what)

    def workers(self) -> int:
        """How many workers the page runs, which are the runtime's threads beside the page's own."""
        return self._devtools.workers()

    def memory(self) -> int | None:
        """Bytes that all of Chromium's processes hold now, shared pages counted once; None where that is not known."""
        return self._chromium.memory()

    def close(self) -> None:
        """End Chromium and stop the server; nothing is left of either."""
        self.alive = False
        if os.getpid() != self._owner:  # a forked child has the object, not the browser
            return
        self._devtools.close()
        self._chromium.close()
        self._server.close()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, seconds: float, what: str) -> tuple[dict[str, Any], list[Named]]:
        try:
            heard = self._heard.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise EngineError(f"{what} took longer than {seconds:g} s in Chromium, which was ended") from None
        except BaseException:  # Ctrl-C: the answer that is still to come would be taken for the next one's
            self.close()
            raise
        if isinstance(heard, str):
            self.close()
            raise EngineError(f"{heard} during {what}")
        header, arrays = unpack(heard)
        try:
            problems = self._devtools.problems()
        except EngineError as error:
            self.close()
            raise EngineError(f"{error} after {what}") from None
        if header.get("broken"):
            self.close()
        if "error" in header:
            raise EngineError(one_line(header["error"]))
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise EngineError(f"Chromium's console has an error of {what}: {problems[0]}{more}")
        return header, arrays


_SHARED: dict[tuple[str, str, int], Browser] = {}
_SHARING = threading.Lock()


def shared(runtime: Runtime, *, threads: int) -> Browser:
    """The browser that all models of this process share, started when first needed and ended with the process.

    One for each runtime and number of threads: a runtime's threads are chosen once, when it starts.

    Raises:
        EngineError: See `Browser`.
    """
    key = runtime.name, runtime.folder, threads
    with _SHARING:
        browser = _SHARED.get(key)
        if browser is None or not browser.alive or browser._owner != os.getpid():
            browser = _SHARED[key] = Browser(runtime, threads=threads)
        return browser


def close_shared() -> None:
    """End the browsers that `shared` started; models that are still open start another when they are run."""
    with _SHARING:
        while _SHARED:
            _, browser = _SHARED.popitem()
            if browser.alive:
                with contextlib.suppress(EngineError):
                    browser.close()


atexit.register(close_shared)
