"""The activation functions of recurrent cells, by the names and parameters that ONNX gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from haversack.convert.targets.coreml.builder import Builder, Var
from haversack.convert.targets.gate_activations import BadGatesError, gate_activations

Activation = Callable[[Builder, Var], Var]
Function = Callable[[Builder, Var, float, float], Var]


def _affine(b: Builder, x: Var, alpha: float, beta: float) -> Var:
    return b.op("add", x=b.op("mul", x=x, y=alpha), y=beta)


def _scaled_tanh(b: Builder, x: Var, alpha: float, beta: float) -> Var:
    return b.op("mul", x=b.op("tanh", x=b.op("mul", x=x, y=beta)), y=alpha)


def _thresholded(b: Builder, x: Var, alpha: float, _: float) -> Var:
    return b.op("mul", x=x, y=b.cast(b.op("greater_equal", x=x, y=alpha), b.float_name))


FUNCTIONS: dict[str, Function] = {
    "affine": _affine,
    "elu": lambda b, x, alpha, _: b.op("elu", x=x, alpha=alpha),
    "hardsigmoid": lambda b, x, alpha, beta: b.op("sigmoid_hard", x=x, alpha=alpha, beta=beta),
    "leakyrelu": lambda b, x, alpha, _: b.op("leaky_relu", x=x, alpha=alpha),
    "relu": lambda b, x, *_: b.op("relu", x=x),
    "scaledtanh": _scaled_tanh,
    "sigmoid": lambda b, x, *_: b.op("sigmoid", x=x),
    "softplus": lambda b, x, *_: b.op("softplus", x=x),
    "softsign": lambda b, x, *_: b.op("softsign", x=x),
    "tanh": lambda b, x, *_: b.op("tanh", x=x),
    "thresholdedrelu": _thresholded,
}
"""How each is emitted, given its alpha and beta."""

NATIVE = ("relu", "sigmoid", "tanh")
"""Activations that MIL's own recurrent ops take under the same names."""


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
        b.refuse(*error.args)
    return [[_bound(FUNCTIONS[name], alpha, beta) for name, alpha, beta in each] for each in found]


def _bound(function: Function, alpha: float, beta: float) -> Activation:
    return lambda b, x: function(b, x, alpha, beta)


def clamp(b: Builder, x: Var, limit: float) -> Var:
    """What goes into an activation, bounded to ±limit; 0 means no bound."""
    return b.op("minimum", x=b.op("maximum", x=x, y=-limit), y=limit) if limit else x
