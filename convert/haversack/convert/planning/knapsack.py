"""One candidate for each layer, so that what the choice weighs is least within a bound: solved exactly.

This is the multiple-choice knapsack problem (Kellerer, Pferschy, Pisinger: "Knapsack Problems", Springer 2004,
chapter 11), as a 0/1 programme for SciPy's HiGHS. A hundred layers of twenty candidates take a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from haversack.convert.errors import UsageError
from haversack.runtimes.engines import Array

GAP = 1e-9
"""Relative gap at which the solver may stop: for whole bytes this is exact."""


class InfeasibleError(Exception):
    """No choice keeps the bounds."""


def choose(
    weights: Sequence[Sequence[float]],
    costs: Sequence[Sequence[float]],
    bound: float,
    others: Sequence[tuple[Sequence[Sequence[float]], float]] = (),
) -> list[int]:
    """Choose one candidate a layer: the least sum of weights whose sum of costs is at most the bound.

    Args:
        weights: What each candidate of each layer weighs; minimised.
        costs: What each candidate costs; infinite where it may not be chosen.
        bound: Of the sum of costs.
        others: Further (costs, bound) that the choice has to keep.

    Returns:
        The index of the chosen candidate of each layer.

    Raises:
        InfeasibleError: Nothing keeps the bounds.
        UsageError: SciPy is not installed.
    """
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array
    except ImportError as error:
        raise UsageError(f"planning needs SciPy: pip install 'haversack[search]' ({error})") from None
    sizes = [len(row) for row in weights]
    if not sizes:
        return []
    flat = np.concatenate([np.asarray(row, np.float64) for row in weights])
    layer = np.repeat(np.arange(len(sizes)), sizes)
    one_each = csr_array((np.ones(len(flat)), (layer, np.arange(len(flat)))))
    constraints = [LinearConstraint(one_each, 1, 1)]
    allowed = np.isfinite(flat)
    for rows, most in ((costs, bound), *others):
        spent = np.concatenate([np.asarray(row, np.float64) for row in rows])
        allowed &= np.isfinite(spent)
        # Scaled to the bound, so that the solver's absolute tolerance of 1e-6 is a relative one here.
        scaled = np.where(np.isfinite(spent), spent, 0.0) / (abs(most) or 1.0)
        constraints.append(LinearConstraint(scaled[None, :], -np.inf, 1.0 if most > 0 else 0.0))
    largest = float(np.abs(flat[allowed]).max(initial=0.0)) or 1.0
    found = milp(
        np.where(allowed, flat, 0.0) / largest,
        constraints=constraints,
        bounds=Bounds(0, allowed.astype(np.float64)),
        integrality=np.ones(len(flat)),
        options={"mip_rel_gap": GAP},
    )
    if found.x is None:
        raise InfeasibleError(f"no choice costs at most {bound:g}")
    return _indices(found.x, sizes)


def _indices(solution: Array, sizes: Sequence[int]) -> list[int]:
    return [int(np.argmax(part)) for part in np.split(solution, np.cumsum(sizes)[:-1])]
