"""The page's server: on 127.0.0.1, for one page, for as long as the page is open.

It serves the page's files, isolated (COOP and COEP, so that the page may use threads and fine timers) and under a
policy that lets no request leave it. The page asks for work by `POST exchange`: the body is the answer to the command
before, the response is the next command, held back until there is one. Every address begins with a secret, so that no
other program of the machine can read a model or answer in the page's place.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
}

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' blob: {inline}; worker-src 'self' blob:; "
    "connect-src 'self' blob:; img-src data:; base-uri 'none'; form-action 'none'"
)

ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


class PageServer:
    """Serves one page and passes commands to it.

    Args:
        folders: What is served: the folder of each first part of an address; the empty one is the page itself.
        answered: Hears each answer of the page, in the server's thread.
        isolated: Whether the page may use threads and fine timers.
    """

    def __init__(self, folders: Mapping[str, Path], answered: Callable[[bytes], None], *, isolated: bool = True):
        self._folders = {name: path.resolve() for name, path in folders.items()}
        self._answered = answered
        self._commands: queue.Queue[bytes | None] = queue.Queue()
        policy = POLICY.format(inline=_inline(self._folders[""] / "index.html"))
        self._headers = {"Content-Security-Policy": policy, **(ISOLATED if isolated else {})}
        self._secret = secrets.token_urlsafe(16)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.page = self
        # Polled seldom: nothing shuts it down but `close`.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where the page lies, with a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{self._secret}/"

    def send(self, command: bytes) -> None:
        """Give the page its next command."""
        self._commands.put(command)

    def close(self) -> None:
        """Stop serving; a page that waits is told to stop asking."""
        self._commands.put(None)
        self._server.shutdown()
        self._server.server_close()

    def exchange(self, answer: bytes) -> bytes | None:
        """Take the page's answer and wait for the next command; None: there will be none."""
        self._answered(answer)
        return self._commands.get()

    def file(self, address: str) -> tuple[Path, str] | None:
        """The file that an address names and its type; None where there is none."""
        path = address.partition("?")[0]
        prefix, secret, rest = f"/{self._secret}/", path[: len(self._secret) + 2], path[len(self._secret) + 2 :]
        if not secrets.compare_digest(secret, prefix):
            return None
        first, slash, inner = rest.partition("/")
        folder, name = (self._folders.get(first), inner) if slash else (self._folders[""], rest or "index.html")
        if folder is None:
            return None
        found = (folder / name).resolve()
        if not found.is_relative_to(folder) or not found.is_file():
            return None
        return found, TYPES.get(found.suffix, "application/octet-stream")

    def is_exchange(self, address: str) -> bool:
        """Whether an address is where the page asks for commands."""
        return secrets.compare_digest(address, f"/{self._secret}/exchange")

    @property
    def headers(self) -> Mapping[str, str]:
        """Sent with every response."""
        return self._headers


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    page: PageServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser that was ended drops its connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """A file of the page."""
        found = self.server.page.file(self.path)
        if found is None:
            self._respond(HTTPStatus.NOT_FOUND, b"", "text/plain")
            return
        path, kind = found
        self._respond(HTTPStatus.OK, path.read_bytes(), kind)

    def do_POST(self) -> None:
        """An answer, and the next command."""
        page = self.server.page
        length = int(self.headers.get("Content-Length", 0))
        if not page.is_exchange(self.path):
            self.close_connection = True
            self._respond(HTTPStatus.NOT_FOUND, b"", "text/plain")
            return
        command = page.exchange(self.rfile.read(length))
        if command is None:
            self._respond(HTTPStatus.NO_CONTENT, b"", "text/plain")
        else:
            self._respond(HTTPStatus.OK, command, "application/octet-stream")

    def _respond(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for name, value in self.server.page.headers.items():
                self.send_header(name, value)
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Type", kind)
            if status is not HTTPStatus.NO_CONTENT:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _inline(page: Path) -> str:
    """The page's import map by its hash, the only script in the page's own text that may take effect."""
    text = page.read_bytes()
    begin = text.index(b'<script type="importmap">') + len(b'<script type="importmap">')
    digest = hashlib.sha256(text[begin : text.index(b"</script>", begin)]).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
