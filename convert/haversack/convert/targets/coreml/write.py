"""MIL program → `.mlpackage`, with the same bytes every time.

coremltools serializes the program and its weights and lays out the package. What it adds that changes from run to run,
or says nothing about the model, is taken out: the conversion's date and versions, and the random identifiers in
`Manifest.json`, which become identifiers derived from the files they stand for.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

from haversack.convert.targets.coreml import sdk
from haversack.convert.targets.coreml.compact import compact

MAIN_PASSES = (
    "common::dead_code_elimination",
    "common::fuse_gelu_exact",
    "common::fuse_gelu_tanh_approximation",
    "common::dead_code_elimination",
)
"""The graph passes that run on the program; coremltools adds those that its serializer needs.

The lowerings already emit what most of coremltools' 80 default passes look for (linear with a bias, fused
normalisations, explicit output shapes), each value once. Left are patterns that exporters spell out in several nodes.
"""

_NAMESPACE = uuid.UUID("6f3c2d0e-6d5c-4f0e-9a7b-2c1f5f0b8f11")


def write(program: Any, ios: int, path: Path) -> frozenset[str]:
    """Save a program as the package `path`; it appears whole or not at all.

    Args:
        program: A coremltools `Program`.
        ios: Deployment target: 16, 17 or 18.
        path: Ends in `.mlpackage`; a package that is there is replaced.

    Returns:
        Names of the variables in the saved program.
    """
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        weights, package = Path(folder, "weights"), Path(folder, "new.mlpackage")
        weights.mkdir()
        proto = _serialized(program, ios, weights)
        _package(proto, weights, package)
        _fix_identifiers(package)
        if path.exists():
            path.replace(Path(folder, "old.mlpackage"))
        package.replace(path)
    operations = proto.mlProgram.functions["main"].block_specializations
    return frozenset(
        output.name for block in operations.values() for operation in block.operations for output in operation.outputs
    ) | frozenset(value.name for value in proto.mlProgram.functions["main"].inputs)


def _serialized(program: Any, ios: int, weights: Path) -> Any:
    coremltools = sdk.load()
    from coremltools.converters.mil.converter import ConverterRegistry, _reset_conversion_state, mil_convert_to_proto

    proto, _ = mil_convert_to_proto(
        program,
        "milinternal",
        "mlprogram",
        ConverterRegistry,
        main_pipeline=coremltools.PassPipeline(list(MAIN_PASSES), "haversack"),
        specification_version=getattr(coremltools.target, f"iOS{ios}").value,
        weights_dir=str(weights),
    )
    _reset_conversion_state()
    proto.description.metadata.Clear()
    proto.mlProgram.attributes.clear()
    compact(proto, weights / "weight.bin")
    return proto


def _package(proto: Any, weights: Path, package: Path) -> None:
    from coremltools.models.utils import _create_mlpackage

    has_weights = any(weights.iterdir())
    _create_mlpackage(proto, str(weights) if has_weights else None, str(package))
    specification = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    specification.write_bytes(proto.SerializeToString(deterministic=True))  # maps in the order of their keys
    for file in package.rglob("*"):  # the specification is readable by its owner only
        file.chmod(0o755 if file.is_dir() else 0o644)


def _fix_identifiers(package: Path) -> None:
    """Rewrite `Manifest.json`: each item's identifier is derived from the bytes of the item."""
    path = package / "Manifest.json"
    manifest = json.loads(path.read_text())
    renamed = {
        old: str(uuid.uuid5(_NAMESPACE, _digest(package / "Data" / entry["path"]))).upper()
        for old, entry in manifest["itemInfoEntries"].items()
    }
    manifest["itemInfoEntries"] = {renamed[old]: entry for old, entry in manifest["itemInfoEntries"].items()}
    manifest["rootModelIdentifier"] = renamed[manifest["rootModelIdentifier"]]
    path.write_text(json.dumps(manifest, separators=(",", ":"), sort_keys=True))


def _digest(item: Path) -> str:
    """SHA-256 of an item: its path, and the name and bytes of each of its files."""
    digest = hashlib.sha256(item.name.encode())
    for file in sorted([item] if item.is_file() else item.rglob("*")):
        if file.is_file():
            digest.update(file.relative_to(item.parent).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
