"""A plan: how each layer's weights are held, and in which arithmetic the model computes.

A plan is a small JSON file that can be read, edited and given back (`--plan`):

    {
      "plan": 1,
      "name": "wire3.1",
      "model": "0f3c…",                     sha256 of the source it was made for
      "arithmetic": "int8",                 int8, int16, float32 or float16
      "ranges": "mse",                      how int8 chooses an activation's range
      "methods": ["second-order"],          what makes rounding better, `compress/methods`
      "default": {"weights": "int8"},       of layers that are not listed
      "layers": {
        "conv2d_7": {"weights": "int8", "bits": 3.0, "granularity": "per-tensor"},
        "dense": {"weights": "float32"}
      },
      "floats": ["concat_3"],               operators without weights that stay float, each of their inputs with its own scale
      "tensors": {"relu_2": "minmax"}       activations whose range (and that of all that share its scale) is chosen otherwise
    }

`floats` and `tensors` are for integer arithmetic, and left out where they are empty.

| `weights`                      | what it means                                                                      |
|--------------------------------|------------------------------------------------------------------------------------|
| `int8`                         | integer arithmetic on integers in int8; `bits` says how fine their steps are       |
| `int4`                         | integer arithmetic on integers in [-7, 7], held in four bits                       |
| `float32`, `float16`           | float arithmetic                                                                   |
| `int8-weights`, `palette4` ... | float arithmetic on weights held as the recipe of that name holds them             |

`bits` is a measure of the step, not of the file: the step is the largest weight over 2^(bits - 1) - 1/2, so that `bits`
8 are int8's own steps and 3.5 lie between those of 3 and 4 bits. Fewer bits leave fewer different integers, which take
less room once a package or a download is compressed, and as much as before where they lie in int8.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from haversack.convert.compress.recipes import STORAGES, RangeRule
from haversack.convert.errors import UsageError

VERSION = 1

Arithmetic = Literal["int8", "int16", "float32", "float16"]
Granularity = Literal["per-tensor", "per-channel"]

INTEGER = ("int8", "int4")
"""Weights on which a layer computes in integers."""

FLOATS = ("float32", "float16", "int8-weights", *STORAGES)
"""Weights on which a layer computes in floats."""

ARITHMETICS = ("int8", "int16", "float32", "float16")
GRANULARITIES = ("per-tensor", "per-channel")
RULES = ("minmax", "percentile", "mse", "entropy")


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is held.

    Attributes:
        weights: A row of the table above.
        bits: Of `int8`: how fine the steps are, from 2 to 8.
        granularity: Of `int8` and `int4`: one scale for all weights, or one an output channel.
    """

    weights: str = "int8"
    bits: float = 8.0
    granularity: Granularity = "per-channel"

    @property
    def integer(self) -> bool:
        """Whether the layer computes in integers."""
        return self.weights in INTEGER

    def words(self) -> str:
        """For people: `int8 at 3.5 bits, per-tensor`."""
        if not self.integer:
            return self.weights
        fine = f" at {self.bits:g} bits" if self.weights == "int8" and self.bits < 8 else ""
        return f"{self.weights}{fine}, {self.granularity}"


@dataclass(frozen=True)
class Plan:
    """How a whole model is held.

    Attributes:
        name: What variants made from it are called.
        model: sha256 of the source it was made for; empty where it is for any.
        arithmetic: What activations are.
        ranges: How int8 chooses an activation's range.
        methods: Names of `compress.methods`.
        default: Of layers that are not listed.
        layers: By the name of the layer's node.
        floats: Names of nodes without weights that stay float.
        tensors: By the name of an activation: how the range is chosen of the tensors that share its scale.
    """

    name: str
    model: str = ""
    arithmetic: Arithmetic = "int8"
    ranges: RangeRule = "mse"
    methods: tuple[str, ...] = ()
    default: LayerPlan = LayerPlan()
    layers: Mapping[str, LayerPlan] = field(default_factory=dict)
    floats: tuple[str, ...] = ()
    tensors: Mapping[str, RangeRule] = field(default_factory=dict)

    def of(self, layer: str) -> LayerPlan:
        """How the layer of that name is held."""
        return self.layers.get(layer, self.default)

    def to_json(self) -> str:
        """The file's text: the same plan gives the same text."""
        whole: dict[str, Any] = {
            "plan": VERSION,
            "name": self.name,
            "model": self.model,
            "arithmetic": self.arithmetic,
            "ranges": self.ranges,
            "methods": list(self.methods),
            "default": _row(self.default),
            "layers": {name: _row(layer) for name, layer in self.layers.items()},
        }
        lines = json.dumps({key: value for key, value in whole.items() if key != "layers"}, indent=2)
        rows = ",\n".join(f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in whole["layers"].items())
        extra = "".join(
            f",\n  {json.dumps(key)}: {json.dumps(value)}"
            for key, value in (("floats", list(self.floats)), ("tensors", dict(self.tensors)))
            if value
        )
        return lines.removesuffix("\n}") + ',\n  "layers": {\n' + rows + f"\n  }}{extra}\n}}\n"

    @classmethod
    def from_json(cls, text: str, source: str = "the plan") -> Plan:
        """Read a plan.

        Args:
            text: JSON.
            source: What messages call it.

        Raises:
            UsageError: It is no plan, or of a version that this release does not know.
        """
        try:
            whole = json.loads(text)
        except ValueError as error:
            raise UsageError(f"{source}: not JSON ({error})") from None
        if not isinstance(whole, dict) or whole.get("plan") != VERSION:
            raise UsageError(f'{source}: not a plan of version {VERSION}: it must hold "plan": {VERSION}')
        known = {each.name for each in dataclasses.fields(cls)}
        _refuse_unknown(whole.keys() - known - {"plan"}, sorted(known), source)
        layers = whole.get("layers", {})
        if not isinstance(layers, dict) or not isinstance(whole.get("methods", []), list):
            raise UsageError(f'{source}: "layers" is an object of layers by name, "methods" a list of names')
        floats, tensors = whole.get("floats", []), whole.get("tensors", {})
        if not isinstance(floats, list) or not isinstance(tensors, dict):
            raise UsageError(f'{source}: "floats" is a list of nodes, "tensors" an object of range rules by name')
        _choose(whole.get("arithmetic", "int8"), ARITHMETICS, f"{source}: arithmetic")
        _choose(whole.get("ranges", "mse"), RULES, f"{source}: ranges")
        for name, rule in tensors.items():
            _choose(rule, RULES, f"{source}: tensor {name}")
        return cls(
            name=str(whole.get("name", "plan")),
            model=str(whole.get("model", "")),
            arithmetic=whole.get("arithmetic", "int8"),
            ranges=whole.get("ranges", "mse"),
            methods=tuple(str(name) for name in whole.get("methods", [])),
            default=_layer(whole.get("default", {}), f"{source}: default"),
            layers={name: _layer(row, f"{source}: layer {name}") for name, row in layers.items()},
            floats=tuple(str(name) for name in floats),
            tensors=tensors,
        )

    @classmethod
    def open(cls, given: str | Path | Plan) -> Plan:
        """A plan, the JSON of one, or the path of a file that holds it.

        Raises:
            UsageError: It is none of these.
        """
        if isinstance(given, Plan):
            return given
        text = str(given)
        return cls.from_json(text) if text.lstrip().startswith("{") else cls.read(Path(text))

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plan's file.

        Raises:
            UsageError: It cannot be read, or is no plan.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: the plan cannot be read ({error})") from None
        return cls.from_json(text, path.name)


def _row(layer: LayerPlan) -> dict[str, Any]:
    row: dict[str, Any] = {"weights": layer.weights}
    if layer.weights == "int8" and layer.bits != LayerPlan.bits:
        row["bits"] = layer.bits
    if layer.integer:
        row["granularity"] = layer.granularity
    return row


def _layer(row: Any, where: str) -> LayerPlan:
    if not isinstance(row, dict):
        raise UsageError(f'{where}: write it as {{"weights": "int8", "bits": 4}}')
    _refuse_unknown(row.keys() - {"weights", "bits", "granularity"}, ["weights", "bits", "granularity"], where)
    weights = _choose(row.get("weights", "int8"), (*INTEGER, *FLOATS), f"{where}: weights")
    granularity = _choose(row.get("granularity", "per-channel"), GRANULARITIES, f"{where}: granularity")
    bits = row.get("bits", 8.0)
    if isinstance(bits, bool) or not isinstance(bits, int | float) or not 2 <= bits <= 8:
        raise UsageError(f"{where}: bits is a number from 2 to 8, not {bits!r}")
    return LayerPlan(weights, float(bits), granularity)  # type: ignore[arg-type]


def _choose(value: Any, choices: tuple[str, ...], what: str) -> str:
    if value not in choices:
        raise UsageError(f"{what} {value!r} is none of {', '.join(choices)}")
    return str(value)


def _refuse_unknown(unknown: set[str], known: list[str], where: str) -> None:
    if unknown:
        raise UsageError(f"{where}: unknown {', '.join(sorted(unknown))}; known are {', '.join(known)}")
