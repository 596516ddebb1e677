"""The activation functions of recurrent cells, by the names and parameters that ONNX gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from haversack.convert.targets.coreml.builder import Builder, Var

Activation = Callable[[Builder, Var], Var]
Function = Callable[[Builder, Var, float, float], Var]


def _affine(b: Builder, x: Var, alpha: float, beta: float) -> Var:
    return b.op("add", x=b.op("mul", x=x, y=alpha), y=beta)


def _scaled_tanh(b: Builder, x: Var, alpha: float, beta: float) -> Var:
    return b.op("mul", x=b.op("tanh", x=b.op("mul", x=x, y=beta)), y=alpha)


def _thresholded(b: Builder, x: Var, alpha: float, _: float) -> Var:
    return b.op("mul", x=x, y=b.cast(b.op("greater_equal", x=x, y=alpha), b.float_name))


FUNCTIONS: dict[str, tuple[Function, float | None, float | None]] = {
    "affine": (_affine, 1.0, 0.0),
    "elu": (lambda b, x, alpha, _: b.op("elu", x=x, alpha=alpha), 1.0, None),
    "hardsigmoid": (lambda b, x, alpha, beta: b.op("sigmoid_hard", x=x, alpha=alpha, beta=beta), 0.2, 0.5),
    "leakyrelu": (lambda b, x, alpha, _: b.op("leaky_relu", x=x, alpha=alpha), 0.01, None),
    "relu": (lambda b, x, *_: b.op("relu", x=x), None, None),
    "scaledtanh": (_scaled_tanh, 1.0, 1.0),
    "sigmoid": (lambda b, x, *_: b.op("sigmoid", x=x), None, None),
    "softplus": (lambda b, x, *_: b.op("softplus", x=x), None, None),
    "softsign": (lambda b, x, *_: b.op("softsign", x=x), None, None),
    "tanh": (lambda b, x, *_: b.op("tanh", x=x), None, None),
    "thresholdedrelu": (_thresholded, 1.0, None),
}
"""By lower-case name: how it is emitted, and the defaults of its alpha and beta (None where it has none)."""

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
    """The activation functions of each direction.

    Args:
        b: The builder.
        names: Those of the node, of all directions one after the other; none for the defaults.
        defaults: Those of one direction.
        directions: How many there are.
        alphas: Parameters of the functions that take one, in their order; the rest have their defaults.
        betas: The same.

    Raises:
        UnsupportedError: A function that ONNX does not define, or parameters that no function takes.
    """
    names = list(names) or list(defaults) * directions
    if len(names) != len(defaults) * directions:
        b.refuse(f"{len(names)} activations where it has {len(defaults) * directions}", "name one for each gate")
    left = [list(alphas), list(betas)]
    found: list[Activation] = []
    for name in names:
        if name.lower() not in FUNCTIONS:
            b.refuse(f"an activation {name} that ONNX does not define", "use one of its operator's specification")
        function, alpha, beta = FUNCTIONS[name.lower()]
        values = [
            rest.pop(0) if rest and default is not None else default or 0.0
            for rest, default in zip(left, (alpha, beta), strict=True)
        ]
        found.append(_bound(function, *values))
    if any(left):
        b.refuse("more activation parameters than its activations take", "give one to each that takes one")
    size = len(defaults)
    return [found[n * size : (n + 1) * size] for n in range(directions)]


def _bound(function: Function, alpha: float, beta: float) -> Activation:
    return lambda b, x: function(b, x, alpha, beta)


def clamp(b: Builder, x: Var, limit: float) -> Var:
    """What goes into an activation, bounded to ±limit; 0 means no bound."""
    return b.op("minimum", x=b.op("maximum", x=x, y=-limit), y=limit) if limit else x
