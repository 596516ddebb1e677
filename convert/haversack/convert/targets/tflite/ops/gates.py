"""The activation functions of recurrent cells, by the names and parameters that ONNX gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


FUNCTIONS: dict[str, tuple[Function, float | None, float | None]] = {
    "affine": (_affine, 1.0, 0.0),
    "elu": (lambda b, x, alpha, _: activation.elu(b, x, alpha=alpha), 1.0, None),
    "hardsigmoid": (lambda b, x, alpha, beta: activation.hard_sigmoid(b, x, alpha=alpha, beta=beta), 0.2, 0.5),
    "leakyrelu": (lambda b, x, alpha, _: activation.leaky_relu(b, x, alpha=alpha), 0.01, None),
    "relu": (lambda b, x, *_: activation.relu(b, x), None, None),
    "scaledtanh": (_scaled_tanh, 1.0, 1.0),
    "sigmoid": (lambda b, x, *_: steps.unary(b, "LOGISTIC", x), None, None),
    "softplus": (lambda b, x, *_: activation.softplus(b, x), None, None),
    "softsign": (lambda b, x, *_: activation.softsign(b, x), None, None),
    "tanh": (lambda b, x, *_: steps.unary(b, "TANH", x), None, None),
    "thresholdedrelu": (lambda b, x, alpha, _: activation.thresholded_relu(b, x, alpha=alpha), 1.0, None),
}
"""By lower-case name: how it is emitted, and the defaults of its alpha and beta (None where it has none)."""


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
        raise b.refuse(f"{len(names)} activations where it has {len(defaults) * directions}", "name one for each gate")
    left = [list(alphas), list(betas)]
    found: list[Activation] = []
    for name in names:
        if name.lower() not in FUNCTIONS:
            raise b.refuse(f"an activation {name} that ONNX does not define", "use one of its operator's specification")
        function, alpha, beta = FUNCTIONS[name.lower()]
        values = [
            rest.pop(0) if rest and default is not None else default or 0.0
            for rest, default in zip(left, (alpha, beta), strict=True)
        ]
        found.append(_bound(function, *values))
    if any(left):
        raise b.refuse("more activation parameters than its activations take", "give one to each that takes one")
    size = len(defaults)
    return [found[n * size : (n + 1) * size] for n in range(directions)]


def _bound(function: Function, alpha: float, beta: float) -> Activation:
    return lambda b, x: function(b, x, alpha, beta)


def clamp(b: Builder, x: Tensor, limit: float) -> Tensor:
    """What goes into an activation, bounded to ±limit; 0 means no bound."""
    if not limit:
        return x
    return steps.scalar(b, "MINIMUM", steps.scalar(b, "MAXIMUM", x, -limit), limit)
