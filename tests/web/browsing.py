"""A plain static server, and a browser context that is watched."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]


class Server:
    """Serves a folder as any static host does, without a header that helps."""

    def __init__(self, root: Path):
        self.root = root
        self.asked: list[str] = []
        self.port = 0
        self.start()

    def start(self) -> None:
        handler = lambda *arguments: _Quiet(*arguments, directory=str(self.root))  # noqa: E731
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.asked = self.asked  # type: ignore[attr-defined]
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextlib.contextmanager
def served(root: Path) -> Iterator[Server]:
    server = Server(root)
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Watched:
    """A browser context, and all that must not happen in it.

    Attributes:
        context: Playwright's.
        errors: Messages on the console that are errors, exceptions nobody caught, requests that failed.
        requests: Every URL that was asked for.
    """

    context: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def page(self) -> Any:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        return page

    def outside(self, origin: str) -> list[str]:
        """Requests that left the origin."""
        inside = (origin, "data:", f"blob:{origin}")
        return [url for url in self.requests if not url.startswith(inside)]


READY = "document.querySelector('#state-test').dataset.state !== 'busy' && document.querySelector('#result .quiet')"


def ready(page: Any) -> None:
    """Wait until the page has tested itself and shown a result."""
    page.wait_for_function(f"() => {{ try {{ return {READY} }} catch {{ return false }} }}", timeout=60_000)
