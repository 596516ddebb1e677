"""`haversack demo`: the dashboard."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from haversack.convert.cli import options
from haversack.convert.errors import UsageError

EXAMPLES = "Examples:  haversack demo   |   haversack demo kws.haversack vww.haversack --port 8502"

DEFAULT_PORT = 8501


def command(
    bundles: Annotated[
        list[Path] | None, typer.Argument(metavar="[BUNDLE...]", help="Bundles; without any, the digits one.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where to serve.")] = DEFAULT_PORT,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser where there is one.")] = True,
    json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  (read by `main`, which sees every error)
) -> int:
    """Serve the dashboard on bundles, on this machine only."""
    command_line = launch(bundles or [], port, headless=not (browser and has_browser()))
    address = f"http://127.0.0.1:{port}"
    if json:
        import json as codec

        print(codec.dumps({"address": address, "command": command_line}), flush=True)
    else:
        print(f"dashboard at {address} (Ctrl-C ends it)", flush=True)
    process = subprocess.Popen(command_line)
    try:
        return process.wait()
    except BaseException as error:
        process.send_signal(signal.SIGTERM)
        process.wait()
        if isinstance(error, KeyboardInterrupt):
            return 0  # Ctrl-C is how a server is ended.
        raise


def launch(bundles: list[Path], port: int, *, headless: bool) -> list[str]:
    """The command that serves the dashboard.

    Raises:
        UsageError: The extra is not installed, a bundle is missing, or the port is taken.
    """
    folder = _package()
    missing = [name for name in ("streamlit", "altair") if importlib.util.find_spec(name) is None]
    if missing or folder is None:
        raise UsageError(f"the dashboard needs {' and '.join(missing) or 'its package'}: pip install 'haversack[demo]'")
    shown = bundles or [folder / "digits" / "digits.haversack"]
    for bundle in shown:
        if not bundle.is_file():
            raise UsageError(f"there is no such bundle: {bundle}")
        if bundle.suffix != ".haversack":
            raise UsageError(f"{bundle} is no bundle, which is named *.haversack; haversack pack makes one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise UsageError(f"port {port} is taken; choose another with --port") from None
    settings = {
        "browser.gatherUsageStats": "false",
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.headless": str(headless).lower(),
        "server.fileWatcherType": "none",
        "client.toolbarMode": "minimal",
        "global.developmentMode": "false",
        "theme.light.primaryColor": "#0b6e5e",
        "theme.dark.primaryColor": "#178a72",
    }
    flags = [f"--{name}={value}" for name, value in settings.items()]
    paths = [str(bundle.absolute()) for bundle in shown]
    return [sys.executable, "-m", "streamlit", "run", *flags, str(folder / "app.py"), "--", *paths]


def has_browser() -> bool:
    """Whether a desktop is there on which a browser could open."""
    import shutil

    if sys.platform in ("darwin", "win32"):
        return True
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(display) and shutil.which("xdg-open") is not None


def _package() -> Path | None:
    """The folder of `haversack.demo`, found without importing it."""
    found = importlib.util.find_spec("haversack.demo")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent
