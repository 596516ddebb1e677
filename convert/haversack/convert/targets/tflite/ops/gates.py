"""The activation functions of recurrent cells, by the names and parameters that ONNX gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from haversack.convert.targets.gate_activations import BadGatesError, gate_activations
from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import activation

Activation = Callable[[Builder, Tensor], Tensor]
Function = Callable[[Builder, Tensor, float, float], Tensor]


def _affine(b: Builder, x: Tensor, alpha: float, beta: float) -> Tensor:
    return steps.scalar(b, "ADD", steps.scalar(b, "MUL", x, alpha), beta)


def _scaled_tanh(b: Builder, x: Tensor, alpha: float, beta: float) -> Tensor:
    return steps.scalar(b, "MUL", steps.unary(b, "TANH", steps.scalar(b, "MUL", x, beta)), alpha)


FUNCTIONS: dict[str, Function] = {
    "affine": _affine,
    "elu": lambda b, x, alpha, _: activation.elu(b, x, alpha=alpha),
    "hardsigmoid": lambda b, x, alpha, beta: activation.hard_sigmoid(b, x, alpha=alpha, beta=beta),
    "leakyrelu": lambda b, x, alpha, _: activation.leaky_relu(b, x, alpha=alpha),
    "relu": lambda b, x, *_: activation.relu(b, x),
    "scaledtanh": _scaled_tanh,
    "sigmoid": lambda b, x, *_: steps.unary(b, "LOGISTIC", x),
    "softplus": lambda b, x, *_: activation.softplus(b, x),
    "softsign": lambda b, x, *_: activation.softsign(b, x),
    "tanh": lambda b, x, *_: steps.unary(b, "TANH", x),
    "thresholdedrelu": lambda b, x, alpha, _: activation.thresholded_relu(b, x, alpha=alpha),
}
"""How each is emitted, given its alpha and beta."""


def gate_functions(
    b: Builder,
    names: Sequence[str],
    defaults: Sequence[str],
    directions: int,
    alphas: Sequence[float],
    betas: Sequence[float],
) -> list[list[Activation]]:
    """The activation functions of each direction; as `gate_activations`, whose errors are refusals here."""
    try:
        found = gate_activations(names, defaults, directions, alphas, betas)
    except BadGatesError as error:
        raise b.refuse(*error.args) from None
    return [[_bound(FUNCTIONS[name], alpha, beta) for name, alpha, beta in each] for each in found]


def _bound(function: Function, alpha: float, beta: float) -> Activation:
    return lambda b, x: function(b, x, alpha, beta)


def clamp(b: Builder, x: Tensor, limit: float) -> Tensor:
    """What goes into an activation, bounded to ±limit; 0 means no bound."""
    if not limit:
        return x
    return steps.scalar(b, "MINIMUM", steps.scalar(b, "MAXIMUM", x, -limit), limit)
