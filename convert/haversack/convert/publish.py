"""Publishing by rename: an output appears whole at its name, or not at all.

Work happens in a private folder beside the output (the same file system, so that a rename is atomic); what was made
there is flushed to the disk and renamed to its name. Whatever ends the work early removes the private folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from haversack.convert.errors import UsageError

WEB_FORMAT = '"format": "haversack-web"'
"""What the manifest of a web folder begins with."""

NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than the limit of this process",
}


def check_output(path: Path, *, force: bool = False) -> None:
    """Refuse an output that cannot be written or is there already, before any long work.

    Raises:
        UsageError: It exists and `force` is false, its folder is missing, or its name is a folder's.
    """
    folder = path.parent
    if not folder.is_dir():
        raise UsageError(f"the output's folder does not exist: {folder}")
    if path.name in ("", ".", ".."):
        raise UsageError(f"the output must be a file, not a folder: {path}")
    if (path.exists() or path.is_symlink()) and not force:
        raise UsageError(f"the output exists already: {path} (--force replaces it)")
    if path.is_dir() and not _is_artifact(path):
        raise UsageError(f"the output is a folder that Haversack did not make: {path}")


@contextlib.contextmanager
def private_folder(beside: Path | None = None) -> Iterator[Path]:
    """A new folder that only this user can read, removed at the end whatever happens.

    Args:
        beside: The output that is being made: the folder lies in the same one. None: the system's temporary folder.

    Raises:
        UsageError: The output's folder takes no new file.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=".haversack-", dir=None if beside is None else beside.parent.resolve()))
    except OSError as error:
        where = "the temporary folder" if beside is None else f"the output's folder {beside.parent}"
        raise UsageError(f"{where} cannot be written: {error.strerror}") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(files: Sequence[tuple[Path, Path]], *, force: bool = False) -> None:
    """Rename each (made, name) pair; both lie on one file system.

    Raises:
        UsageError: One of the names is taken and `force` is false; nothing was renamed.
    """
    for _, name in files:
        check_output(name, force=force)
    for made, name in files:
        _flush(made)
        if (made.is_dir() and os.path.lexists(name)) or (name.is_dir() and not name.is_symlink()):
            # A folder cannot be renamed over a file or a full folder, so the old one steps aside first.
            aside = made.parent / f"{name.name}.replaced"
            name.rename(aside)
        made.replace(name)
    for folder in {name.parent for _, name in files}:
        _sync(folder)


def _is_artifact(folder: Path) -> bool:
    """Whether a folder is one that `--force` may replace: a Core ML package, a web folder, or an empty one."""
    if folder.suffix == ".mlpackage" or not any(folder.iterdir()):
        return True
    try:
        return WEB_FORMAT in (folder / "manifest.json").read_text(encoding="utf-8")[:200]
    except (OSError, UnicodeDecodeError):
        return False


def no_room(error: OSError, folder: Path) -> str:
    """What to say of a write that found no room, in one clause; empty of another error.

    Args:
        error: What the system said.
        folder: Where the work was done.
    """
    cause = NO_ROOM.get(error.errno or 0)
    return f"{cause}, working in {folder}: make room there, or write elsewhere" if cause else ""


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def _flush(path: Path) -> None:
    """Flush a file, or a folder and all that is in it, so that a power cut cannot leave a name without content."""
    if path.is_dir():
        for entry in path.rglob("*"):
            _sync(entry)
    _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # Some file systems cannot flush a folder; the rename is then as durable as they make it.
        if not path.is_dir():
            raise
    finally:
        os.close(handle)
