"""What Chromium itself says of the page: console and page errors, failed requests, crashes.

Chromium's DevTools protocol over two inherited pipes, JSON messages that end in a zero byte
(https://chromedevtools.github.io/devtools-protocol/, `--remote-debugging-pipe`). No port is opened, and Chromium ends
when the pipes close. Only the domains Log, Runtime and Inspector are switched on, none of which slows a script.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import re
import threading
from collections.abc import Callable
from typing import Any

from haversack.runtimes.engines.quiet import one_line
from haversack.runtimes.errors import EngineError

ANSWER = 20.0
"""Seconds that Chromium has to answer; it takes milliseconds."""

CHATTER = re.compile(r"(\x1b?\[[\d;]*m)?([\d:. -]*\[[VIW]:onnxruntime:|(VERBOSE|DEBUG|INFO|WARNING): )")
"""How lines begin that are no errors although they are put on the console as such: WebAssembly has one stream for all
that C++ logs, and onnxruntime and LiteRT say in the line how grave it is."""


class DevTools:
    """One page, watched.

    Args:
        read: The descriptor that Chromium writes to; this object closes it.
        write: The descriptor that Chromium reads from; likewise.
        died: Hears once, in another thread, that the page crashed or that Chromium ended: why, in words.
    """

    def __init__(self, read: int, write: int, died: Callable[[str], None]):
        self._read, self._write = read, write
        self._died = died
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._problems: list[str] = []
        self._page: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._session = ""
        self._workers: set[str] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def attach(self) -> str:
        """Watch the page that Chromium opened at its start, and everything that page starts; Chromium's version.

        Raises:
            EngineError: Chromium did not answer.
        """
        version = str(self.ask("Browser.getVersion")["product"])
        self.ask("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
        try:
            self._session = self._page.get(timeout=ANSWER)
        except queue.Empty:
            raise EngineError("Chromium opened no page") from None
        for domain in ("Runtime", "Log", "Inspector"):
            self.ask(f"{domain}.enable", session=self._session)
        self.ask(
            "Target.setAutoAttach",
            session=self._session,
            autoAttach=True,
            waitForDebuggerOnStart=False,
            flatten=True,
        )
        return version

    def open(self, address: str) -> None:
        """Have the page go to an address.

        Raises:
            EngineError: It cannot.
        """
        failed = self.ask("Page.navigate", session=self._session, url=address).get("errorText")
        if failed:
            raise EngineError(f"Chromium could not open its page: {failed}")

    def problems(self) -> list[str]:
        """What the page put on its console as errors since the last call, and what else failed in it.

        Asks the page something first: Chromium keeps the order, so all that the page said before is here then.
        """
        self.ask("Runtime.evaluate", session=self._session, expression="0")
        with self._lock:
            found, self._problems = self._problems, []
        return found

    def workers(self) -> int:
        """How many workers the page runs: the threads beside its own."""
        with self._lock:
            return len(self._workers)

    def ask(self, method: str, *, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Call a method and wait for its result.

        Raises:
            EngineError: It failed, or there was no answer in time.
        """
        number, answer = self._post(method, session, parameters)
        try:
            message = answer.get(timeout=ANSWER)
        except queue.Empty:
            raise EngineError(f"Chromium did not answer {method} in {ANSWER:g} s") from None
        finally:
            with self._lock:
                self._answers.pop(number, None)
        if "ended" in message:
            raise EngineError(message["ended"])
        if "error" in message:
            raise EngineError(f"Chromium: {method}: {one_line(message['error'].get('message', 'failed'))}")
        result: dict[str, Any] = message["result"]
        return result

    def close(self) -> None:
        """Close the pipes, of which Chromium ends."""
        self._closed = True
        with contextlib.suppress(OSError):
            os.close(self._write)

    def _post(
        self, method: str, session: str, parameters: dict[str, Any]
    ) -> tuple[int, queue.SimpleQueue[dict[str, Any]]]:
        message: dict[str, Any] = {"id": next(self._numbers), "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        answer: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._lock:
            self._answers[message["id"]] = answer
        content = json.dumps(message).encode() + b"\0"
        try:
            while content:
                content = content[os.write(self._write, content) :]
        except OSError:
            raise EngineError("Chromium ended") from None
        return message["id"], answer

    def _listen(self) -> None:
        pending = b""
        while True:
            try:
                read = os.read(self._read, 1 << 16)
            except OSError:
                read = b""
            if not read:
                break
            *messages, pending = (pending + read).split(b"\0")
            for message in messages:
                self._hear(json.loads(message))
        with contextlib.suppress(OSError):
            os.close(self._read)
        if not self._closed:
            self._end("Chromium ended")

    def _hear(self, message: dict[str, Any]) -> None:
        if "id" in message:
            with self._lock:
                answer = self._answers.get(message["id"])
            if answer is not None:
                answer.put(message)
            return
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Target.attachedToTarget":
            self._attached(parameters["sessionId"], parameters["targetInfo"]["type"])
        elif method == "Target.detachedFromTarget":
            with self._lock:
                self._workers.discard(parameters["sessionId"])
        elif method in ("Inspector.targetCrashed", "Target.targetCrashed"):
            self._end("the page crashed")
        elif method is not None and (text := _problem(method, parameters)):
            with self._lock:
                self._problems.append(one_line(text))

    def _attached(self, session: str, kind: str) -> None:
        if kind == "page":
            self._page.put(session)
            return
        if kind != "worker":
            return
        with self._lock:
            self._workers.add(session)
        # No answer is waited for: this is the thread that hears answers.
        for domain in ("Runtime", "Log"):
            with contextlib.suppress(EngineError):
                self._forget(*self._post(f"{domain}.enable", session, {}))

    def _forget(self, number: int, _: object) -> None:
        with self._lock:
            self._answers.pop(number, None)

    def _end(self, why: str) -> None:
        """Tell it, and let nobody wait for an answer that cannot come."""
        with self._lock:
            waiting = list(self._answers.values())
        self._died(why)
        for answer in waiting:
            answer.put({"ended": why})


def _problem(method: str, parameters: dict[str, Any]) -> str:
    """What an event says that must not happen, in words; empty where it says nothing of the kind."""
    if method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
        text = " ".join(str(each.get("value", each.get("description", ""))) for each in parameters["args"])
        return "" if CHATTER.match(text) else text
    if method == "Runtime.exceptionThrown":
        details = parameters["exceptionDetails"]
        return str(details.get("exception", {}).get("description", details["text"]))
    if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
        return str(parameters["entry"]["text"])
    return ""
