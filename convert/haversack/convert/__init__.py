"""The workshop: one trained model in; verified, compressed artifacts out, for LiteRT, Core ML and ONNX Runtime.

    >>> from haversack import convert
    >>> made = convert.convert("resnet8.onnx", to="tflite", output="resnet8.tflite")
    >>> made.verified, made.variant.bytes
    (True, 313344)

`convert`, `pack`, `inspect`, `verify_artifact` and `diagnose` are imported when first used, so that importing this
package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haversack.convert.diagnosis import Diagnosis
    from haversack.convert.doctor.diagnose import diagnose
    from haversack.convert.inspection import inspect
    from haversack.convert.packing import pack
    from haversack.convert.pipeline import convert
    from haversack.convert.report import Checked, Conversion, Inspection, Pack
    from haversack.convert.verify.artifact import verify_artifact

_WHERE = {
    "convert": "pipeline",
    "pack": "packing",
    "inspect": "inspection",
    "verify_artifact": "verify.artifact",
    "diagnose": "doctor.diagnose",
    "Conversion": "report",
    "Pack": "report",
    "Inspection": "report",
    "Checked": "report",
    "Diagnosis": "diagnosis",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"{__name__}.{_WHERE[name]}")
    value = getattr(module, name)
    globals()[name] = value
    return value


__all__ = [
    "Checked",
    "Conversion",
    "Diagnosis",
    "Inspection",
    "Pack",
    "convert",
    "diagnose",
    "inspect",
    "pack",
    "verify_artifact",
]
