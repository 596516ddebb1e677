"""What accuracy means: `--metric`.

| name                      | of a sample                        | against                          | module         |
|---------------------------|------------------------------------|----------------------------------|----------------|
| `top1`, `top5`            | right class is best, among 5 best  | labels, else the source's class  | `classes.py`   |
| `auc`                     | -, of all together                 | labels                           | `classes.py`   |
| `mse`, `cosine`           | distance of its values             | labels, else the source's values | `distances.py` |
| `package.module:function` | what it returns                    | labels, if it looks at them      | `function.py`  |
"""

from __future__ import annotations

from haversack.convert.names import check_metric
from haversack.convert.verify.metrics.classes import Auc, Top
from haversack.convert.verify.metrics.distances import Cosine, SquaredError
from haversack.convert.verify.metrics.metric import Metric, Outputs, Truth

TOP1 = Top(1)

_KNOWN: dict[str, Metric] = {metric.name: metric for metric in (TOP1, Top(5), Auc(), SquaredError(), Cosine())}


def open_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UsageError: There is none.
        DataError: A function cannot be imported.
    """
    check_metric(name)
    if name in _KNOWN:
        return _KNOWN[name]
    from haversack.convert.verify.metrics.function import open_function

    return open_function(name)


__all__ = ["TOP1", "Metric", "Outputs", "Truth", "open_metric"]
