"""A bundle: one stored zip of a manifest, measurements, artifacts and golden vectors.

    manifest.json              what it holds (`haversack.runtimes.manifest`)
    measurements.json          what was measured, and where (`haversack.runtimes.measurements`)
    artifacts/<file>           one a variant, and its companions; a `.mlpackage` or `.web` is a folder here
    golden/<file>              arrays of the golden vectors, raw little-endian

Nothing is handed out before its SHA-256 is that of the manifest.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from types import TracebackType

import numpy as np

from haversack.runtimes.archive import Archive
from haversack.runtimes.digest import tree_sha256
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import BundleError
from haversack.runtimes.manifest import File, GoldenArray, Manifest, Variant, parse_manifest
from haversack.runtimes.measurements import Measurements, parse_measurements

SUFFIX = ".haversack"
MANIFEST, MEASUREMENTS = "manifest.json", "measurements.json"
_MAX_JSON = 32 << 20


class Bundle:
    """An opened bundle; a context manager.

    Attributes:
        path: The file.
        manifest: What it holds.
        measurements: What was measured; empty where the bundle says nothing.
    """

    def __init__(self, path: Path, archive: Archive):
        self.path = path
        self._archive = archive
        self.manifest: Manifest = parse_manifest(self._json(MANIFEST))
        self.measurements = Measurements()
        if MEASUREMENTS in archive.sizes:
            self.measurements = parse_measurements(self._json(MEASUREMENTS))
        self._check_files()

    def variant(self, variant_id: str) -> Variant:
        """The variant of that id.

        Raises:
            BundleError: There is none.
        """
        for variant in self.manifest.variants:
            if variant.id == variant_id:
                return variant
        known = ", ".join(variant.id for variant in self.manifest.variants)
        raise BundleError(f"{self.path.name}: no variant {variant_id!r}; it holds {known}")

    def artifact_bytes(self, variant_id: str) -> bytes:
        """The artifact of a variant, checked, where it is one file.

        Raises:
            BundleError: There is no such variant, the artifact is a folder, or its hash is not the manifest's.
        """
        file = self.variant(variant_id).file
        if file.path not in self._archive.sizes:
            raise BundleError(f"{self.path.name}: {file.path} is a folder; extract it")
        return self._read(file)

    def artifact(self, variant_id: str, into: str | Path) -> Path:
        """Extract a variant's artifact and its companions.

        Args:
            variant_id: Which variant.
            into: An existing folder.

        Returns:
            The artifact's path in that folder: a file, or a `.mlpackage` or `.web` folder.

        Raises:
            BundleError: There is no such variant, a hash is not the manifest's, or a name is taken in the folder.
        """
        variant = self.variant(variant_id)
        for file in (variant.file, *variant.companions):
            self._extract(file, Path(into))
        return Path(into) / Path(variant.file.path).name

    def golden(self, variant_id: str) -> list[tuple[dict[str, Array], dict[str, Array]]]:
        """The golden vectors of a variant: (inputs, expected outputs), by the model's names.

        Raises:
            BundleError: There is no such variant, or an array is damaged.
        """
        return [
            (
                {name: self._array(array) for name, array in vector.inputs.items()},
                {name: self._array(array) for name, array in vector.outputs.items()},
            )
            for vector in self.variant(variant_id).golden
        ]

    def verify(self) -> None:
        """Check the hash of everything that the manifest vouches for.

        Raises:
            BundleError: One is not the manifest's.
        """
        for file in self.manifest.files().values():
            self._contents(file)

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _json(self, name: str) -> bytes:
        if self._archive.sizes.get(name, 0) > _MAX_JSON:
            raise BundleError(f"{self.path.name}: {name} is larger than {_MAX_JSON >> 20} MiB")
        return self._archive.read(name)

    def _check_files(self) -> None:
        """Each member belongs to a file of the manifest, and each of those is there in its size."""
        left = {name for name in self._archive.sizes if name.startswith(("artifacts/", "golden/"))}
        for file in self.manifest.files().values():
            members = self._members(file)
            if not members:
                raise BundleError(f"{self.path.name}: {file.path} is missing")
            size = sum(self._archive.sizes[name] for name in members)
            if size != file.bytes:
                raise BundleError(f"{self.path.name}: {file.path} has {size} bytes, the manifest says {file.bytes}")
            left.difference_update(members)
        if left:
            raise BundleError(f"{self.path.name}: {min(left)} is not in the manifest")

    def _members(self, file: File) -> list[str]:
        if file.path in self._archive.sizes:
            return [file.path]
        return [name for name in self._archive.sizes if name.startswith(file.path + "/")]

    def _read(self, file: File) -> bytes:
        content = self._archive.read(file.path)
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise BundleError(f"{self.path.name}: {file.path} is damaged: its SHA-256 is not the manifest's")
        return content

    def _contents(self, file: File) -> dict[str, bytes]:
        """The files of `file` by their path below it (empty for a plain file), its hash checked."""
        members = self._members(file)
        if members == [file.path]:
            return {"": self._read(file)}
        contents = {name[len(file.path) + 1 :]: self._archive.read(name) for name in members}
        if tree_sha256(contents, contents.__getitem__) != file.sha256:
            raise BundleError(f"{self.path.name}: {file.path} is damaged: its SHA-256 is not the manifest's")
        return contents

    def _extract(self, file: File, into: Path) -> None:
        for name, content in self._contents(file).items():
            target = into / Path(file.path).name / name if name else into / Path(file.path).name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as out:
                    out.write(content)
            except OSError as error:
                raise BundleError(f"{self.path.name}: cannot extract {target}: {error.strerror}") from None

    def _array(self, array: GoldenArray) -> Array:
        dtype = np.dtype(array.dtype).newbyteorder("<")
        content = self._read(array.file)
        if math.prod(array.shape) * dtype.itemsize != len(content):
            raise BundleError(f"{self.path.name}: {array.file.path} does not hold {array.dtype} {list(array.shape)}")
        return np.frombuffer(content, dtype).reshape(array.shape).astype(array.dtype)


def open_bundle(path: str | Path) -> Bundle:
    """Open a `.haversack` and check its form; hashes are checked when something is read.

    Raises:
        BundleError: It is missing, damaged, unsafe, or of a schema version that this runtime does not know.
    """
    archive = Archive(Path(path))
    try:
        return Bundle(Path(path), archive)
    except BaseException:
        archive.close()
        raise
