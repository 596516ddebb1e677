"""Images in a folder or a zip, by class: `DATA/<class>/<image>`, or all of them beside each other without labels.

Pixels are taken as the file has them: no EXIF rotation, as the common training loaders leave it too; transparency is
dropped; the first frame of several. A zip is read in memory and never extracted.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from haversack.convert.data.dataset import Dataset, Feeds, describe
from haversack.convert.errors import DataError
from haversack.runtimes.digest import path_sha256, tree_sha256
from haversack.runtimes.engines import Array, TensorSpec
from haversack.runtimes.errors import FeedError
from haversack.runtimes.preprocess import PRESETS, Preprocess

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
_MAX_BYTES = 64 << 20  # of one encoded image
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})  # of 8 bits a channel


class Files(Protocol):
    """Where the images lie."""

    def names(self) -> list[str]:
        """The relative path of every file, with forward slashes, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            DataError: It cannot be read, or is larger than an image should be.
        """
        ...

    def sha256(self) -> str:
        """Of the zip, or of the folder's sorted relative paths and bytes."""
        ...


class ImageDataset(Dataset):
    """One sample an image, decoded when it is read."""

    def __init__(self, source: str, files: Files, spec: TensorSpec, preprocess: Preprocess):
        self._source, self._files, self._input, self._preprocess = source, files, spec.name, preprocess
        self._names = [name for name in files.names() if _is_image(name)]
        if not self._names:
            raise DataError(f"{source}: no images in it; known are {', '.join(sorted(SUFFIXES))}")
        folders = _class_folders(source, self._names)
        self._labels: list[int] | None = None
        if folders is not None:
            numbers, self.classes = _number_classes(source, sorted(set(folders)))
            self._labels = [numbers[folder] for folder in folders]
        self.sha256 = files.sha256()
        self.description = f"{source}, {len(self)} images" + (
            f" of {len(set(folders))} classes" if folders is not None else ""
        )

    def __len__(self) -> int:
        return len(self._names)

    def samples(self) -> Iterator[tuple[Feeds, Array | None]]:
        """One prepared image at a time."""
        for position, name in enumerate(self._names):
            image = decode(self._files.read(name), f"{self._source}: {name}")
            label = None if self._labels is None else np.array([self._labels[position]], np.int64)
            yield {self._input: self._preprocess.apply(image)[None]}, label


def open_images(path: Path, inputs: Sequence[TensorSpec], preprocess: Preprocess | None) -> ImageDataset:
    """Read a folder or a zip of images.

    Raises:
        DataError: The model has not exactly one input that takes images, `preprocess` is missing or does not fit it,
            or the images are missing, damaged or not sorted into classes.
    """
    spec, fitted = image_input(path.name, inputs, preprocess)
    files = FolderFiles(path) if path.is_dir() else ZipFiles(path)
    return ImageDataset(path.name, files, spec, fitted)


def image_input(
    source: str, inputs: Sequence[TensorSpec], preprocess: Preprocess | None
) -> tuple[TensorSpec, Preprocess]:
    """The one input that images feed, and the preprocessing completed for it.

    Raises:
        DataError: There is no such input, or it cannot be told how pixels become its values.
    """
    if len(inputs) != 1:
        raise DataError(
            f"{source}: images feed one input, and the model has {len(inputs)}: "
            f"{'; '.join(map(describe, inputs))}; give an .npz with an array for each"
        )
    spec = inputs[0]
    if preprocess is None:
        if spec.dtype != "uint8":
            raise DataError(
                f"{source}: how pixels become {describe(spec)} is not known; say --preprocess with one of "
                f"{', '.join(PRESETS)}, as the model was trained (pixels 0..255 as they are: raw-0-255; 0..1: unit)"
            )
        preprocess = Preprocess()  # pixels are uint8 already, so there is nothing to choose
    try:
        return spec, preprocess.fit(spec.shape, spec.dtype)
    except FeedError as error:
        raise DataError(f"{source}: {describe(spec)}: {error}") from None


class FolderFiles:
    """The files of a folder; links that lead out of it are refused."""

    def __init__(self, root: Path):
        self._root = root
        self._inside = root.resolve()

    def names(self) -> list[str]:
        """Every file, relative to the folder."""
        found = (path for path in self._root.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._root).as_posix() for path in found)

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        path = self._root / name
        if not path.resolve().is_relative_to(self._inside):
            raise DataError(f"{self._root.name}: {name} is a link that leads out of the folder")
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise DataError(f"{self._root.name}: {name} is larger than {_MAX_BYTES >> 20} MiB")
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{self._root.name}: cannot read {name}: {error.strerror}") from None

    def sha256(self) -> str:
        """Over the relative path, the length and the bytes of every image, in sorted order."""
        return tree_sha256(filter(_is_image, self.names()), self.read)


class ZipFiles:
    """The members of a zip, read in memory."""

    def __init__(self, path: Path):
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise DataError(f"{path.name}: not a readable zip: {error}") from None
        self._members = {info.filename: info for info in self._zip.infolist() if not info.is_dir()}
        unsafe = next((name for name in self._members if name.startswith("/") or ".." in name.split("/")), None)
        if unsafe is not None:
            raise DataError(f"{path.name}: unsafe name in the zip: {unsafe!r}")

    def names(self) -> list[str]:
        """Every member that is a file."""
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """The bytes of one member; what it unpacks to is bounded, whatever its header says."""
        try:
            with self._zip.open(self._members[name]) as member:
                content = member.read(_MAX_BYTES + 1)
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
            raise DataError(f"{self._path.name}: cannot read {name}: {error}") from None
        if len(content) > _MAX_BYTES:
            raise DataError(f"{self._path.name}: {name} is larger than {_MAX_BYTES >> 20} MiB")
        return content

    def sha256(self) -> str:
        """Of the zip's bytes."""
        return path_sha256(self._path)


def decode(content: bytes, label: str) -> Array:
    """Decode an image to uint8 [H, W, 3], RGB, or [H, W, 1] where it is grey.

    Raises:
        DataError: It is damaged, too large to be an image, or has more than 8 bits a channel.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                if image.mode not in _MODES:
                    raise DataError(f"{label}: {image.mode} pixels are not 8 bits a channel; convert the image first")
                if image.mode in ("1", "L", "LA"):
                    return np.asarray(image.convert("L"))[:, :, None]
                return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever a damaged file leads them to
        raise DataError(f"{label}: not a readable image: {error}") from None


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def _class_folders(source: str, names: Sequence[str]) -> list[str] | None:
    """The class of each image: the folder it lies in; None where all lie in the same place without classes."""
    parents = [PurePosixPath(name).parent for name in names]
    if all(parent == PurePosixPath(".") for parent in parents):
        return None
    roots = [parent.parent if parent.name else None for parent in parents]
    odd = next((name for name, root in zip(names, roots, strict=True) if root is None or root != roots[-1]), None)
    if odd is not None:
        raise DataError(
            f"{source}: images must all lie in folders of one level, one a class; {odd} and {names[-1]} do not"
        )
    return [parent.name for parent in parents]


def _number_classes(source: str, folders: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """The label of each class folder, and the classes by label.

    Folders numbered from 0 (`0_airplane`, `10`) have their number as the label; others count in the order of their
    names.
    """
    numbered = [re.fullmatch(r"(\d+)(?:[_-](.+))?", folder) for folder in folders]
    matches = [match for match in numbered if match]
    if len(matches) < len(folders):
        return {folder: label for label, folder in enumerate(folders)}, list(folders)
    numbers = {folder: int(match[1]) for folder, match in zip(folders, matches, strict=True)}
    if len(set(numbers.values())) < len(folders) or min(numbers.values()) != 0 or max(numbers.values()) > 100_000:
        raise DataError(
            f"{source}: the class folders are numbered ({', '.join(folders[:3])}, ...), so the numbers are the "
            "labels, which must differ and count from 0; rename the folders"
        )
    classes = [str(label) for label in range(max(numbers.values()) + 1)]
    for folder, match in zip(folders, matches, strict=True):
        classes[numbers[folder]] = match[2] or folder
    return numbers, classes
