"""Quantization-aware training in Keras 3, on TensorFlow or PyTorch.

    import qat

    qat.prepare(model)    # every call now rounds as the plan says
    model.compile(...)    # train on as before, a few epochs at a small learning rate
    model.fit(...)
    qat.finish(model)     # the same plain model, its weights rounded: save it and convert it with the plan

A weight's gradient is that of its rounded value (straight-through: Bengio, Léonard, Courville: "Estimating or
Propagating Gradients Through Stochastic Neurons for Conditional Computation", arXiv:1308.3432). What a layer reads is
rounded over a moving average of its range. Per-tensor weights before a batch normalization are rounded as they are once
it is folded into them (Jacob et al.: "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2), so that the fold leaves them on their grid.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import keras
from keras import ops


class Layer(NamedTuple):
    """How a layer is rounded.

    Attributes:
        elements: How many weights it has.
        limit: Weights are whole multiples of their step, at most so many.
        span: The step is the largest weight over this.
        per_channel: One step an output channel, or one for all weights.
        activations: Bits of what it reads, 8 or 16; None: not rounded.
    """

    elements: int
    limit: int
    span: float
    per_channel: bool
    activations: int | None


LAYERS: dict[str, Layer] = {}

MOMENTUM = 0.05
"""The share of a new batch in the moving average of a range."""

SMALLEST = 2.0**-60
"""No step is smaller."""


def prepare(model: Any) -> Any:
    """Round the weights and inputs of the plan's layers in every call, in place.

    Args:
        model: As it was converted, or trained since.

    Returns:
        The model.

    Raises:
        ValueError: The model lacks layers of the plan, is prepared already, or computes where this cannot.
    """
    if keras.backend.backend() not in ("tensorflow", "torch"):
        raise ValueError(f"ranges do not follow the training on {keras.backend.backend()}: use TensorFlow or PyTorch")
    layers = list(model._flatten_layers(include_self=False))
    before = _before_norms(layers)
    norms = {id(layer): norm for norm, layer in before}
    for layer, weights in _planned(model, layers, before):
        rounded = [RoundedWeight(row, layer, variable, norms.get(id(layer))) for row, variable in weights]
        bits = max((row.activations or 0 for row, _ in weights), default=0)
        inputs = RoundedInput(bits, name=f"{layer.name}_input") if bits else None
        if inputs is not None:
            inputs.build(())
        layer.call = _rounding(layer.call, rounded, inputs)
    _trace_again(model)
    return model


def finish(model: Any) -> Any:
    """Leave the rounded weights and take everything else away, in place.

    Returns:
        The model.

    Raises:
        ValueError: The model is not prepared.
    """
    prepared = [layer for layer in model._flatten_layers() if hasattr(vars(layer).get("call"), "rounded")]
    if not prepared:
        raise ValueError("the model is not prepared")
    for layer in prepared:
        for weight in vars(layer).pop("call").rounded:
            weight.variable.assign(weight.value())
    _trace_again(model)
    return model


class RoundedWeight:
    """Weights on the grid of the plan."""

    def __init__(self, row: Layer, layer: Any, variable: Any, norm: Any) -> None:
        self.row, self.variable, self.norm = row, variable, norm
        rank = len(variable.shape)
        channels = _channels(layer, variable)
        self.over = tuple(axis for axis in range(rank) if not row.per_channel or axis not in channels)
        self.channels = tuple(size if axis in channels else 1 for axis, size in enumerate(variable.shape))
        if row.per_channel or "depthwise_kernel" in variable.name:
            self.norm = None  # a scale a channel moves with the fold; within a separable convolution there is none

    def value(self) -> Any:
        """The rounded weights; their gradient is the weights' own."""
        factor = self.factor()
        folded = ops.multiply(self.variable, 1.0 if factor is None else factor)  # a tensor, as custom gradients ask
        largest = ops.max(ops.abs(folded), axis=self.over, keepdims=True)
        step = ops.maximum(ops.stop_gradient(largest) / self.row.span, SMALLEST)
        rounded = _straight(folded, step, float(self.row.limit))
        return rounded if factor is None else rounded / factor

    def factor(self) -> Any:
        """What folding the batch normalization multiplies each channel by; None without one."""
        if self.norm is None:
            return None
        factor = ops.rsqrt(ops.convert_to_tensor(self.norm.moving_variance) + self.norm.epsilon)
        if self.norm.gamma is not None:
            factor = factor * ops.convert_to_tensor(self.norm.gamma)
        factor = ops.where(ops.abs(factor) < SMALLEST, 1.0, factor)
        return ops.stop_gradient(ops.reshape(factor, self.channels))


class RoundedInput(keras.layers.Layer):
    """Activations in integers, over a range that follows the batches of training."""

    def __init__(self, bits: int, **options: Any) -> None:
        super().__init__(**options)
        self.bits = bits

    def build(self, _shape: Any) -> None:
        """Make the range, and whether there is one."""
        self.range = self.add_weight(shape=(2,), initializer="zeros", trainable=False, name="range")
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")

    def call(self, values: Any, training: bool = False) -> Any:
        """Round what a layer reads; as it is, before a batch of training was seen."""
        if training:
            new = ops.stop_gradient(ops.stack([ops.min(values), ops.max(values)]))
            moved = self.range + MOMENTUM * (new - self.range)
            self.range.assign(ops.where(self.seen > 0, moved, new))
            self.seen.assign(1.0)
        low, high = ops.minimum(self.range[0], 0.0), ops.maximum(self.range[1], 0.0)
        if self.bits == 16:
            step = ops.maximum(ops.maximum(-low, high) / 32767, SMALLEST)
            zero, least, most = 0.0, -32768.0, 32767.0
        else:
            step = ops.maximum((high - low) / 255, SMALLEST)
            zero, least, most = ops.clip(ops.round(-128 - low / step), -128.0, 127.0), -128.0, 127.0
        return ops.where(self.seen > 0, _within(values, step, zero, least, most), values)


@ops.custom_gradient
def _straight(weight: Any, step: Any, limit: float) -> Any:
    """Rounds forward, and lets the gradient through as it is."""

    def gradient(*given: Any, upstream: Any = None) -> Any:
        return (given[0] if upstream is None else upstream), None, None

    return ops.clip(ops.round(weight / step), -limit, limit) * step, gradient


@ops.custom_gradient
def _within(values: Any, step: Any, zero: Any, least: float, most: float) -> Any:
    """Rounds forward; the gradient passes where the range holds the value."""
    level = ops.round(values / step) + zero

    def gradient(*given: Any, upstream: Any = None) -> Any:
        upstream = given[0] if upstream is None else upstream
        inside = ops.logical_and(level >= least, level <= most)
        return ops.where(inside, upstream, ops.zeros_like(upstream)), None, None, None, None

    return (ops.clip(level, least, most) - zero) * step, gradient


def _rounding(plain: Any, rounded: list[RoundedWeight], inputs: RoundedInput | None) -> Any:
    """A layer's call with its weights, and what it reads, rounded."""

    @functools.wraps(plain)
    def call(values: Any, *others: Any, **options: Any) -> Any:
        if inputs is not None:
            values = inputs(values)
        state = [(weight.variable, weight.value()) for weight in rounded]
        with keras.StatelessScope(state_mapping=state):
            return plain(values, *others, **options)

    vars(call).update(rounded=rounded, inputs=inputs)
    return call


def _planned(model: Any, layers: list[Any], before: list[tuple[Any, Any]]) -> list[tuple[Any, list[tuple[Layer, Any]]]]:
    """The layers of the plan, each with its rows and the variables that they are about."""
    owners: dict[str, Any] = {}
    for layer in layers:
        if hasattr(vars(layer).get("call"), "rounded"):
            raise ValueError(f"{layer.name} is prepared already")
        for variable in layer.weights:  # an inner layer comes after the one that holds it
            owners[variable.path.rpartition("/")[0].removeprefix(f"{model.name}/")] = layer
    found: dict[int, tuple[Any, list[tuple[Layer, Any]]]] = {}
    unknown = []
    for name, row in LAYERS.items():
        layer = owners.get(_path(name, owners))
        layer = next((each for norm, each in before if norm is layer), layer)
        _, rows = found.setdefault(id(layer), (layer, []))
        for variable in () if layer is None else layer.weights:
            free = all(variable is not other for _, other in rows)
            if free and len(variable.shape) > 1 and _size(variable) == row.elements:
                rows.append((row, variable))
                break
        else:
            unknown.append(name if layer is None else f"{name} of {row.elements:,} weights")
        if layer is not None and layer.compute_dtype != "float32":
            raise ValueError(f"{layer.name} computes in {layer.compute_dtype}; train in float32")
    if unknown:
        raise ValueError(f"the model has no {', '.join(unknown)}; edit the names in LAYERS if only they differ")
    return list(found.values())


def _path(name: str, known: dict[str, Any]) -> str:
    """The layer in a name such as `model/block/conv2d/convolution/ReadVariableOp`."""
    parts = name.split("/")
    paths = ("/".join(parts[start:stop]) for start in range(len(parts)) for stop in range(len(parts), start, -1))
    return next((path for path in paths if path in known), "")


def _size(variable: Any) -> int:
    return functools.reduce(lambda whole, size: whole * size, variable.shape, 1)


def _channels(layer: Any, variable: Any) -> tuple[int, ...]:
    """The axes of the output channels."""
    rank = len(variable.shape)
    kind = type(layer).__name__
    if "depthwise_kernel" in variable.name or kind.startswith("DepthwiseConv"):
        return rank - 2, rank - 1
    if kind.startswith("Conv") and kind.endswith("Transpose"):
        return (rank - 2,)
    if kind == "EinsumDense":
        kernel, output = layer.equation.replace("->", ",").split(",")[1:]
        return tuple(axis for axis, letter in enumerate(kernel) if letter in output)
    return (rank - 1,)


def _before_norms(layers: list[Any]) -> list[tuple[Any, Any]]:
    """Batch normalizations, each with the layer without an activation whose output it reads."""
    outputs = {id(_edge(layer, "output")): layer for layer in layers if _edge(layer, "output") is not None}
    pairs = [
        (norm, outputs.get(id(_edge(norm, "input"))))
        for norm in layers
        if isinstance(norm, keras.layers.BatchNormalization)
    ]
    plain = (None, keras.activations.linear)
    return [(norm, layer) for norm, layer in pairs if layer is not None and getattr(layer, "activation", None) in plain]


def _edge(layer: Any, which: str) -> Any:
    """What a layer reads or gives; None where it is used several times, or not in a graph of layers."""
    try:
        return getattr(layer, which)
    except (AttributeError, ValueError):
        return None


def _trace_again(model: Any) -> None:
    model.train_function = model.test_function = model.predict_function = None
