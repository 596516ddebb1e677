"""What an engine's C++ code prints on stderr, caught instead of shown.

Vendors' libraries write banners and errors straight to file descriptor 2, past Python's `sys.stderr`. An application
that loads a model must not find them on its console, and the last of those lines often says more than the exception.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()


@contextmanager
def quiet_stderr() -> Iterator[Callable[[], str]]:
    """Send file descriptor 2 to a temporary file while the block runs.

    The descriptor belongs to the whole process, so only the short opening of an artifact stands inside such a block,
    never a run, and one thread at a time does it.

    Yields:
        A function that returns the text caught so far.
    """
    with _LOCK:
        try:
            saved = os.dup(2)
        except OSError:  # no stderr at all: a daemon, or a windowed program
            yield lambda: ""
            return
        try:
            with tempfile.TemporaryFile() as caught:
                os.dup2(caught.fileno(), 2)

                def text() -> str:
                    size = os.fstat(caught.fileno()).st_size
                    return os.pread(caught.fileno(), size, 0).decode(errors="replace")

                try:
                    yield text
                finally:
                    os.dup2(saved, 2)
        finally:
            os.close(saved)


def one_line(*texts: object) -> str:
    """The texts as one line: whitespace collapsed, and no longer than a terminal can take."""
    line = " ".join(" ".join(str(text).split()) for text in texts if str(text).strip())
    return line if len(line) <= 300 else line[:297] + "..."
