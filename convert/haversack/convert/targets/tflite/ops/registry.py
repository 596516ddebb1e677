"""The one registry of TFLite lowerings; its own module so that the families can import it."""

from __future__ import annotations

from haversack.convert.targets.registry import Registry

REGISTRY = Registry("tflite")
lowers = REGISTRY.lowers
