"""Compression: a pass from the hub graph to a hub graph that is still plain ONNX, so every target gets the same.

`compress(model, recipe, calibration)` never changes `model`. What each recipe leaves behind is a contract that the
targets lower and verification judges against:

**int8.** Which operators run in int8 is the table in `operators.py`; `scale.py` says what a scale is.

- Activation `x`: QuantizeLinear(x, scale, zero_point) → `x_quantized` → DequantizeLinear (same two initializers) →
  `x_dequantized`. The scale is a float32 scalar, the zero point an int8 scalar.
- Graph inputs are float32 and quantized at once, for every reader. A graph output that an int8 node computes comes out
  of a DequantizeLinear and keeps its name; the float value before its QuantizeLinear is called `<name>_float`.
- Weights `w` of Conv (axis 0), ConvTranspose (axis 1; one scale for all where `group` is not 1), Gemm with transB=1
  (axis 0), MatMul with constant rank-2 weights (axis 1): int8 `w_quantized` in [-127, 127] → DequantizeLinear(scale
  float32 [channels] with `axis`, or a scalar without; zero point int8 zeros) → `w_dequantized`.
- Bias `b`: int32 `b_quantized` → DequantizeLinear(scale = input scale × weight scale, [channels] with axis=0 or a
  scalar; no zero point) → `b_dequantized`.
- Any other constant operand `c` of an int8 node (an addend, a PRelu slope, a nonzero Pad value): int8 `c_quantized` →
  DequantizeLinear(scalar scale, int8 zero point). Clip's bounds, and a Pad value of zero, stay plain float.
- Between Conv, ConvTranspose, Gemm, Add, Sub or Mul and a Relu or Clip(0, 6) that alone reads it nothing is quantized.
- Equal-scale operators share one scale on all data inputs and outputs. A softmax, sigmoid, log-softmax or tanh has the
  scale that TFLite prescribes; an equal-scale operator that joins it with other data reads a rescaled copy:
  `x_dequantized` → QuantizeLinear (the group's scale) → `x_requantized` → DequantizeLinear → `x_redequantized`.
- An operator without an int8 kernel stays float32: it reads dequantized values (or the raw one of another float node);
  its output is quantized only for int8 readers.
- Initializers of scales may be shared between tensors.

**fp16.** Initializer float16 `w_fp16` → Cast(to=FLOAT) → `w`.

**int8-weights.** Initializer int8 `w_quantized` → DequantizeLinear (per-channel as above) → `w`.

**int4-weights, int4-block32, palette4, sparse50 and the like** (`recipes.STORAGES`). The forms are in `forms.py`.
The same recipes with `-fp16` behind them have the same form: a target with float16 arithmetic computes in it.

**int8-dynamic.** MatMul, Gemm and Conv with constant weights: DynamicQuantizeLinear → MatMulInteger or ConvInteger →
Cast → Mul(input scale × weight scale) → Add(bias).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from haversack.convert.compress.calibrate import Progress
from haversack.convert.compress.recipes import HALF, RECIPES, STORAGES, Recipe
from haversack.convert.compress.unpacking import unpack_weights
from haversack.convert.errors import UsageError
from haversack.runtimes.engines import Array


@dataclass(frozen=True)
class Compressed:
    """A compressed hub graph.

    Attributes:
        model: Plain ONNX in the form documented above.
        notes: What the user should know, one sentence each.
        repeat: Compresses the same model at other sizes as this one was; raises ValueError where it cannot.
    """

    model: ir.Model
    notes: tuple[str, ...] = ()
    repeat: Callable[[ir.Model], ir.Model] = ir.Model.clone


def compress(
    model: ir.Model,
    recipe: Recipe,
    calibration: Iterable[Mapping[str, Array]] | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """Compress a hub graph.

    Args:
        model: A legal hub graph; never changed.
        recipe: What to do.
        calibration: Batches of real inputs, one array a graph input; `int8` needs them, int4 weights, palettes and
            pruning weigh errors by them where they are given, the others ignore them.
        progress: Told a fraction from 0 to 1 and a short phrase.

    Raises:
        UsageError: The recipe is unknown, or the model is quantized already.
        DataError: `int8` without calibration data, or with data that does not fit.
    """
    if recipe.plan is None and recipe.name not in RECIPES:
        raise UsageError(f"unknown recipe {recipe.name!r}; known are {', '.join(RECIPES)}")
    if recipe.name == "fp32":
        return Compressed(model.clone())
    if is_quantized(model):
        raise UsageError(
            f"{recipe.name}: this model is already quantized; convert it with fp32, which keeps it as it is"
        )
    if recipe.plan is not None or recipe.name == "int16":
        return _planned(model, recipe, calibration, progress)
    if recipe.name == "int8":
        from haversack.convert.compress import int8

        made, notes, repeat = int8.quantize(unpack_weights(model), recipe, calibration, progress)
        return Compressed(made, tuple(notes), repeat)
    if recipe.name == "int8-dynamic":
        from haversack.convert.compress.dynamic import compress_dynamic

        made, notes = compress_dynamic(unpack_weights(model), recipe)
    elif (base := recipe.name.removesuffix(HALF)) == "int8-weights":
        from haversack.convert.compress.weights_only import compress_weights

        made, notes = compress_weights(model, recipe)
    elif base in STORAGES:
        from haversack.convert.compress.storage import observe, store_weights

        source = unpack_weights(model)
        seen = observe(source, calibration, progress)
        made, notes = store_weights(source, recipe, seen, progress)
        return Compressed(made, tuple(notes), lambda other: store_weights(unpack_weights(other), recipe, seen)[0])
    else:
        from haversack.convert.compress.float16 import compress_float16

        made, notes = compress_float16(model)
    return Compressed(made, tuple(notes), lambda other: compress(other, recipe).model)


def _planned(
    model: ir.Model, recipe: Recipe, calibration: Iterable[Mapping[str, Array]] | None, progress: Progress | None
) -> Compressed:
    """Follow a plan; `int16` is one that gives all layers the same."""
    from haversack.convert.compress.methods import checked
    from haversack.convert.compress.mixed import EQUALIZE, apply_plan, observe_model
    from haversack.convert.compress.plan import Plan

    methods = checked(recipe.methods, calibrated=calibration is not None)
    plan = recipe.plan or Plan("int16", arithmetic="int16", ranges=recipe.ranges, methods=methods)
    batches = None if calibration is None else list(calibration)
    data = None if batches is None else lambda: iter(batches)
    observed = observe_model(model, data, progress, equalized=EQUALIZE in plan.methods)
    made, notes, repeat = apply_plan(model, plan, observed)
    return Compressed(made, tuple(notes), repeat)


def is_quantized(model: ir.Model) -> bool:
    """Whether activations of `model` are quantized already (integers dequantized at load do not count)."""
    return any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in model.graph.all_nodes())
