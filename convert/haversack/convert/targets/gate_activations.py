"""Which activation function each gate of a recurrent node has (ONNX's RNN, GRU and LSTM)."""

from __future__ import annotations

from collections.abc import Sequence

PARAMETERS: dict[str, tuple[float | None, float | None]] = {
    "affine": (1.0, 0.0),
    "elu": (1.0, None),
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01, None),
    "relu": (None, None),
    "scaledtanh": (1.0, 1.0),
    "sigmoid": (None, None),
    "softplus": (None, None),
    "softsign": (None, None),
    "tanh": (None, None),
    "thresholdedrelu": (1.0, None),
}
"""By lower-case name: the defaults of its alpha and beta, None where it has none."""


class BadGatesError(Exception):
    """Activations that the operators' specification does not allow; its arguments are the reason and the remedy."""


def gate_activations(
    names: Sequence[str], defaults: Sequence[str], directions: int, alphas: Sequence[float], betas: Sequence[float]
) -> list[list[tuple[str, float, float]]]:
    """The lower-case name, alpha and beta of each gate's activation, by direction.

    Args:
        names: Those of the node, of all directions one after the other; none for the defaults.
        defaults: Those of one direction.
        directions: How many there are.
        alphas: Parameters of the functions that take one, in their order; the rest have their defaults.
        betas: The same.

    Raises:
        BadGatesError: A function that ONNX does not define, or parameters that no function takes.
    """
    names = list(names) or list(defaults) * directions
    if len(names) != len(defaults) * directions:
        raise BadGatesError(f"{len(names)} activations where it has {len(defaults) * directions}", "name one a gate")
    left = [list(alphas), list(betas)]
    found: list[tuple[str, float, float]] = []
    for name in names:
        if name.lower() not in PARAMETERS:
            raise BadGatesError(
                f"an activation {name} that ONNX does not define", "use one of its operator's specification"
            )
        alpha, beta = (
            rest.pop(0) if rest and default is not None else default or 0.0
            for rest, default in zip(left, PARAMETERS[name.lower()], strict=True)
        )
        found.append((name.lower(), alpha, beta))
    if any(left):
        raise BadGatesError("more activation parameters than its activations take", "give one to each that takes one")
    size = len(defaults)
    return [found[n * size : (n + 1) * size] for n in range(directions)]
