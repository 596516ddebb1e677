"""What makes compressed models better than rounding to the nearest: one method a file, each switchable by name.

| name                       | file                 | needs            | source                                        |
|----------------------------|----------------------|------------------|-----------------------------------------------|
| `equalize`                 | `equalization.py`    | nothing          | Nagel et al., ICCV 2019                       |
| `fitted-scales`            | `weight_scales.py`   | nothing          | Banner et al., NeurIPS 2019                   |
| `second-order`             | `rounders.py`        | calibration data | Frantar et al., ICLR 2023; Behdin et al., 2023|
| `adaround`                 | `adaround.py`        | calibration data | Nagel et al., ICML 2020                       |
| `bias-correction`          | `bias_correction.py` | calibration data | Nagel et al., ICCV 2019, measured             |
| `analytic-bias-correction` | `bias_correction.py` | calibration data | Nagel et al., ICCV 2019, from inputs' means  |
| `reduced-range`            | `portability.py`     | nothing          | Intel's manual: two products fit in 16 bits   |

`apply.py` calls them by name. `second-order` and `adaround` go layer by layer (`reconstruct.py`).

What always happens, and needs no name:

| what                              | where                                                                          |
|-----------------------------------|--------------------------------------------------------------------------------|
| batch normalisation after Conv,   | `hub/passes`: `split_batch_norm`, `fold_scale`, `fold_bias`                    |
| ConvTranspose, Gemm, MatMul       |                                                                                |
| activations' ranges               | `compress/ranges.py`, by `--ranges`: minmax, percentile, mse, entropy          |
| palettes by weighted k-means      | `compress/cluster.py`                                                          |
"""

from __future__ import annotations

from collections.abc import Sequence

from haversack.convert.errors import UsageError
from haversack.convert.names import METHODS

Methods = tuple[str, ...]

DEFAULT: Methods = ("second-order", "bias-correction")
"""Of int8. Chosen by signal-to-noise on calibration data: `benchmarks/compression_methods.py`."""

ALTERNATIVES = (("second-order", "adaround"), ("bias-correction", "analytic-bias-correction"))
"""Of each the graph can have one."""

NEED_DATA = ("second-order", "adaround", "bias-correction", "analytic-bias-correction")


def checked(methods: Sequence[str] | None, *, calibrated: bool) -> Methods:
    """Methods that can be meant together, each once; the default for None.

    Raises:
        UsageError: One is unknown, two are alternatives, or one needs calibration data and there is none.
    """
    if methods is None:
        return DEFAULT if calibrated else ()
    chosen = tuple(dict.fromkeys(methods))
    for name in chosen:
        if name not in METHODS:
            raise UsageError(f"--methods {name!r} is none of {', '.join(METHODS)}")
        if name in NEED_DATA and not calibrated:
            raise UsageError(f"--methods {name} needs --calibration DATA: it learns from real inputs")
    for pair in ALTERNATIVES:
        if all(name in chosen for name in pair):
            raise UsageError(f"--methods {' and '.join(pair)} are alternatives: name one")
    return chosen


__all__ = ["DEFAULT", "METHODS", "Methods", "checked"]
