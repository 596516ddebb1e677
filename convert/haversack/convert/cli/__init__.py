"""The command line: arguments in, one worker started, a report printed.

This process imports no engine and no numpy, and opens no model; see `haversack.convert.isolated`.

    exit 0   done, and verified unless --no-verify
    exit 1   the work could not be done as asked: unsupported, not verified, over budget, the worker crashed
    exit 2   bad input or usage
    exit 130 interrupted; nothing was written
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import typer

from haversack.convert.cli import bench, check, convert, demo, doctor, inspect, pack, plan, run, verify
from haversack.convert.errors import UnsupportedError
from haversack.runtimes.errors import HaversackError

INTERRUPTED = 130

app = typer.Typer(
    name="haversack",
    help="Pack a trained model for the field: verified, compressed artifacts for LiteRT, Core ML and ONNX Runtime.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
for module in (inspect, convert, pack, plan, verify, doctor, run, bench, check, demo):
    app.command(name=module.__name__.rpartition(".")[2], epilog=module.EXAMPLES)(module.command)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"haversack {installed('haversack')}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after `haversack`; by default the process's own.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _listen_to_signals()
    try:
        code = app(words, prog_name="haversack", standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        # A reader that has gone away (haversack ... | head) is noticed here, not at exit, where Python would complain.
        sys.stdout.flush()
        return int(code or 0)
    except KeyboardInterrupt:
        return _told("KeyboardInterrupt", "interrupted; nothing was written", INTERRUPTED, words)
    except HaversackError as error:
        return _failed(error, words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if hasattr(error, "format_message"):  # The argument parser's own errors.
            text = " ".join(error.format_message().split())
            if "no_args_is_help" in text or type(error).__name__ == "NoArgsIsHelpError":
                sys.stderr.write(error.format_message() + "\n")
            else:
                text = text[:1].lower() + text[1:].rstrip(".") + " (haversack --help lists commands and options)"
                _told("UsageError", text, 2, words)
            return 2
        if "--debug" in words:
            traceback.print_exc()
        text = f"unexpected {type(error).__name__}: {' '.join(str(error).split())} (--debug shows where)"
        return _told(type(error).__name__, text, 1, words)


def _failed(error: HaversackError, words: Sequence[str]) -> int:
    """Tell one error in one line, and the whole of it with --debug."""
    if "--debug" in words:
        for note in getattr(error, "__notes__", ()):
            sys.stderr.write(note.rstrip() + "\n")
        traceback.print_exc()
    blockers = [vars(blocker) for blocker in error.blockers] if isinstance(error, UnsupportedError) else None
    return _told(type(error).__name__, str(error), error.exit_code, words, blockers)


def _told(
    kind: str, message: str, code: int, words: Sequence[str], blockers: list[dict[str, object]] | None = None
) -> int:
    """Say what ended the command: one line on stderr, and with --json the same on stdout. Returns the exit code."""
    with contextlib.suppress(OSError):
        if "--json" in words:
            described: dict[str, object] = {"type": kind, "message": message, "exit": code}
            if blockers is not None:
                described["blockers"] = blockers
            print(json.dumps({"error": described}, indent=2), flush=True)
    with contextlib.suppress(OSError):
        sys.stderr.write(f"haversack: {' '.join(message.split())}\n")
    return code


def _listen_to_signals() -> None:
    """Turn the signals that ask for an end into exceptions, so that what was begun is cleaned up, once."""

    def interrupt(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # A second Ctrl-C must not cut the cleaning short.
        raise KeyboardInterrupt

    def terminate(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    with contextlib.suppress(ValueError):  # Not the main thread: the caller handles signals.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, terminate)


__all__ = ["app", "main"]
