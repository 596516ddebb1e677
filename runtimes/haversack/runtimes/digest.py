"""SHA-256 of files and of folders, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path


def tree_sha256(names: Iterable[str], read: Callable[[str], bytes]) -> str:
    """Hash a folder: for each file, sorted by relative path, the path, its length in bytes and its bytes.

    Args:
        names: Relative paths with forward slashes.
        read: Gives the bytes of one.

    Returns:
        64 hexadecimal digits. Hashed is `path NUL decimal-length NUL bytes`, in UTF-8, file after file.
    """
    digest = hashlib.sha256()
    for name in sorted(names):
        content = read(name)
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def path_sha256(path: Path) -> str:
    """Hash a file's bytes, or a folder by `tree_sha256`."""
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        return tree_sha256(names, lambda name: (path / name).read_bytes())
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
