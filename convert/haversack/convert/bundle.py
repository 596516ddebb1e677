"""Writing a bundle: the same contents give the same bytes, and it appears whole or not at all."""

from __future__ import annotations

import os
import struct
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from haversack.convert.errors import UsageError
from haversack.convert.publish import check_output, private_folder, publish, size
from haversack.runtimes.bundle import MANIFEST, MEASUREMENTS, SUFFIX, open_bundle
from haversack.runtimes.digest import tree_sha256
from haversack.runtimes.engines import Array
from haversack.runtimes.manifest import (
    File,
    GoldenArray,
    GoldenVector,
    Manifest,
    Provenance,
    Tensor,
    Tolerance,
    Variant,
)
from haversack.runtimes.measurements import Measurements
from haversack.runtimes.preprocess import Preprocess

ALIGNMENT = 64
"""Every member's bytes start at a multiple of this, so that a device can map an artifact instead of copying it."""

_PADDING = 0xD935  # the extra field that Android's zipalign pads with
_LIMIT = (1 << 31) - 1  # bytes, without ZIP64


@dataclass(frozen=True)
class NewVariant:
    """One variant to be written; see `haversack.runtimes.manifest.Variant` for what the fields mean.

    Attributes:
        id: Unique in the bundle.
        target: The target's name.
        compression: The recipe's name.
        artifact: The file, or the folder of a `.mlpackage`; it keeps its name in the bundle.
        inputs: As the artifact has them, in the order of the model's.
        outputs: As the artifact has them, in the order of the model's.
        companions: Files that belong to it; each keeps its name in the bundle.
        golden: (inputs, outputs that the artifact gave for them) by the model's names, as the artifact takes them.
        tolerance: For those.
        recipe: What the recipe was given.
        verified: Whether it was executed and keeps its contract.
        judged_by: What executed it and what it was compared with.
        emulated: That is not what a device has.
        min_runtime: The oldest runtime that runs it.
        notes: What a user should know.
    """

    id: str
    target: str
    compression: str
    artifact: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    companions: tuple[Path, ...] = ()
    golden: Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    recipe: Mapping[str, str] = field(default_factory=dict)
    verified: bool = False
    judged_by: str = ""
    emulated: bool = False
    min_runtime: str | None = None
    notes: tuple[str, ...] = ()


def write_bundle(
    path: str | Path,
    *,
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    variants: Sequence[NewVariant],
    provenance: Provenance,
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    measurements: Measurements | None = None,
    force: bool = False,
) -> Manifest:
    """Write a bundle, read it back with the runtime's own reader, and publish it by rename.

    Args:
        path: The `.haversack` to write.
        name: Of the model.
        inputs: The model's own, before any target.
        outputs: Likewise.
        variants: What it holds, at least one.
        provenance: Where the model comes from.
        labels: Name of each class.
        preprocess: How an image becomes the model's input.
        measurements: What was measured, outside the hashed part.
        force: Replace an existing file.

    Returns:
        The manifest that was written.

    Raises:
        UsageError: The output exists or cannot be written, or a file's name is taken twice.
        BundleError: What was given makes no valid bundle (two variants of one id, a golden vector of other names).
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise UsageError(f"a bundle is named *{SUFFIX}, not {path.name}")
    check_output(path, force=force)
    _check_size(sum(size(each) for variant in variants for each in (variant.artifact, *variant.companions)))
    members: dict[str, bytes] = {}
    manifest = Manifest(
        name=name,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        variants=tuple(_entry(variant, members) for variant in variants),
        provenance=provenance,
        labels=None if labels is None else tuple(labels),
        preprocess=preprocess,
    )
    first = {MANIFEST: manifest.to_json().encode()}
    if measurements is not None:
        first[MEASUREMENTS] = measurements.to_json().encode()
    with private_folder(beside=path) as folder:
        made = folder / path.name
        write_zip(made, first | dict(sorted(members.items())))
        with open_bundle(made) as bundle:
            bundle.verify()
        publish([(made, path)], force=force)
    return manifest


def write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    """Write a stored zip whose bytes depend on nothing but the members.

    Timestamps are `SOURCE_DATE_EPOCH`'s where it is set, else 1980-01-01, the oldest that a zip can hold.

    Raises:
        UsageError: It would be larger than 2 GiB.
    """
    _check_size(sum(map(len, members.values())))
    stamp = _timestamp()
    with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, stamp)
            info.create_system = 3  # Unix, whatever this is
            info.external_attr = 0o100644 << 16
            start = file.tell() + 30 + len(name.encode()) + 4  # local header, name, header of the extra field
            info.extra = struct.pack("<HH", _PADDING, -start % ALIGNMENT) + bytes(-start % ALIGNMENT)
            archive.writestr(info, content)


def _check_size(total: int) -> None:
    """Refuse what a zip without ZIP64, the only one that every reader of bundles takes, may not hold."""
    if total > _LIMIT:
        raise UsageError(
            f"a bundle holds at most 2 GiB, and this one would hold {total / 2**30:.1f} GiB: leave variants out, or "
            "convert each large one to a file of its own"
        )


def _entry(variant: NewVariant, members: dict[str, bytes]) -> Variant:
    """The manifest's entry of a variant, its files added to the members."""
    return Variant(
        id=variant.id,
        target=variant.target,
        compression=variant.compression,
        file=_add_path(variant.artifact, members),
        inputs=variant.inputs,
        outputs=variant.outputs,
        recipe=dict(variant.recipe),
        companions=tuple(_add_path(companion, members) for companion in variant.companions),
        verified=variant.verified,
        judged_by=variant.judged_by,
        emulated=variant.emulated,
        min_runtime=variant.min_runtime,
        tolerance=variant.tolerance,
        golden=tuple(
            GoldenVector(
                {key: _add_array(value, members) for key, value in given.items()},
                {key: _add_array(value, members) for key, value in expected.items()},
            )
            for given, expected in variant.golden
        ),
        notes=variant.notes,
    )


def _add_path(path: Path, members: dict[str, bytes]) -> File:
    """Add an artifact or companion; a folder with everything in it."""
    root = f"artifacts/{path.name}"
    if root in members or any(name.startswith(root + "/") for name in members):
        raise UsageError(f"two files of the bundle are called {path.name}")
    if not path.is_dir():
        members[root] = content = path.read_bytes()
        return File(root, len(content), sha256(content).hexdigest())
    contents = {
        file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()
    }
    members.update({f"{root}/{name}": content for name, content in contents.items()})
    return File(root, sum(map(len, contents.values())), tree_sha256(contents, contents.__getitem__))


def _add_array(array: Array, members: dict[str, bytes]) -> GoldenArray:
    """Add one array of a golden vector, named after its content, so that variants share their inputs."""
    content = array.astype(array.dtype.newbyteorder("<")).tobytes()  # in C order, whatever the array's own
    digest = sha256(content).hexdigest()
    path = f"golden/{digest[:32]}.bin"
    members[path] = content
    return GoldenArray(File(path, len(content), digest), array.dtype.name, tuple(array.shape))


def _timestamp() -> tuple[int, int, int, int, int, int]:
    """The time that every member carries, in UTC, clamped to what a zip can hold (1980 to 2107)."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"SOURCE_DATE_EPOCH must be seconds since 1970, found {text!r}")
    earliest, latest = 315_532_800, 4_354_819_198
    moment = time.gmtime(min(max(int(text), earliest), latest))
    return moment.tm_year, moment.tm_mon, moment.tm_mday, moment.tm_hour, moment.tm_min, moment.tm_sec
