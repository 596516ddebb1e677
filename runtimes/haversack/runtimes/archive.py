"""Reading one *stored* zip that may come from anyone.

Every member is uncompressed, lies directly behind the one before it from the first byte of the file, and says the same
in its local header as in the central directory. So nothing unpacks to more than the file holds, no two members share
bytes, and no bytes hide between them.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from pathlib import Path
from types import TracebackType

from haversack.runtimes.errors import BundleError

MAX_MEMBERS = 4096

_LOCAL = struct.Struct("<4s5H3I2H")  # the local file header, PKWARE APPNOTE 4.3.7
_END_BYTES = 22  # of the end record without a comment, APPNOTE 4.3.16; its last two are the comment's length
_UTF8 = 0x800  # general purpose flag bit 11: the name is UTF-8


class Archive:
    """An opened zip whose members have all been checked.

    Attributes:
        label: The file's name, for messages.
        sizes: Bytes of each member, by name.
    """

    def __init__(self, path: Path):
        """Open and check a zip.

        Raises:
            BundleError: It is missing, no zip, or holds anything that a bundle does not.
        """
        self.label = path.name
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise BundleError(f"{path.name}: not a file")
            self._file = path.open("rb")
        except OSError as error:
            raise BundleError(f"{path.name}: cannot be opened: {error.strerror}") from None
        try:
            self._zip = zipfile.ZipFile(self._file)
            self._members = self._checked()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, UnicodeError) as error:
            self._file.close()
            raise BundleError(f"{path.name}: not a readable bundle: {error}") from None
        except BundleError:
            self._file.close()
            raise
        self.sizes = {name: info.file_size for name, info in self._members.items()}

    def read(self, name: str) -> bytes:
        """The bytes of one member, its CRC-32 checked.

        Raises:
            BundleError: There is none of that name, or it is damaged.
        """
        if name not in self._members:
            raise BundleError(f"{self.label}: {name} is missing")
        try:
            return self._zip.read(self._members[name])
        except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
            raise BundleError(f"{self.label}: {name} is damaged: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        infos = self._zip.infolist()
        if len(infos) > MAX_MEMBERS:
            self._refuse(f"it holds {len(infos)} members, more than {MAX_MEMBERS}")
        members: dict[str, zipfile.ZipInfo] = {}
        folded: dict[str, str] = {}
        position = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            name = info.filename
            self._check_name(info)
            other = folded.setdefault(name.casefold(), name)
            if name in members or other != name:
                self._refuse(f"two members are called {name!r:.80}")
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ~_UTF8:
                self._refuse(f"{name!r:.80} is compressed or encrypted; a bundle's members are stored")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):  # 0: the writer did not say
                self._refuse(f"{name!r:.80} is no plain file")
            if info.header_offset != position:
                self._refuse(f"{name!r:.80} does not lie directly behind the member before it")
            position = self._end(info)
            members[name] = info
        for name in members:
            for parent in Path(name).parents:
                if parent.as_posix().casefold() in folded:
                    self._refuse(f"{parent.as_posix()!r:.80} is a file and a folder")
        if position != self._zip.start_dir:
            self._refuse("there are bytes between its members and its directory")
        self._file.seek(-_END_BYTES, os.SEEK_END)
        end = self._file.read()
        if not end.startswith(b"PK\5\6") or not end.endswith(b"\0\0"):
            self._refuse("there is a comment, or other bytes, behind its directory")
        return members

    def _check_name(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        parts = name.split("/")
        bad = (
            not name
            or name != info.orig_filename
            or len(name) > 500
            or any(ord(letter) < 32 or letter in '\\:*?"<>|\x7f' for letter in name)
            or any(part in ("", ".", "..") or part != part.rstrip(". ") for part in parts)
        )
        if bad:
            self._refuse(f"unsafe name {info.orig_filename!r:.80}")

    def _end(self, info: zipfile.ZipInfo) -> int:
        """Where a member ends, by its local header, which must agree with the directory."""
        self._file.seek(info.header_offset)
        header = _LOCAL.unpack(self._file.read(_LOCAL.size))
        magic, _, flags, method, _, _, crc, packed, size, name_length, extra_length = header
        name = self._file.read(name_length).decode("utf-8" if flags & _UTF8 else "cp437")
        found = (magic, flags, method, crc, packed, size, name)
        if found != (b"PK\3\4", info.flag_bits, 0, info.CRC, info.file_size, info.file_size, info.orig_filename):
            self._refuse(f"{info.filename!r:.80} has two headers that contradict each other")
        end: int = info.header_offset + _LOCAL.size + name_length + extra_length + size
        if info.compress_size != info.file_size or end > os.fstat(self._file.fileno()).st_size:
            self._refuse(f"{info.filename!r:.80} is shorter than it says")
        return end

    def _refuse(self, reason: str) -> None:
        raise BundleError(f"{self.label}: not a safe bundle: {reason}")
