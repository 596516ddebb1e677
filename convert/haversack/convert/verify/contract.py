"""What every artifact of a recipe promises, as data: the same for everyone, fitted to nobody.

| recipe         | judged against     | within                                                                       |
|----------------|--------------------|------------------------------------------------------------------------------|
| `fp32`         | source             | relative error <= 1e-4 an output                                             |
| `fp16`         | source             | relative error <= 1e-2 an output; at most 1 changed prediction in 1,000      |
| `int8`         | compressed model   | each layer, fed the model's own inputs, <= 1 LSB (<= 2 table and mean ops);  |
|                |                    | top-1 agreement >= 99 %; artifact-to-model noise 6 dB below model-to-source  |
| `int16`        | compressed model   | as `int8`                                                                    |
| `int8-weights` | compressed model   | relative error as fp32 (as fp16 where the target computes in float16)        |
| other weights  | compressed model   | as `int8-weights`: int4, palettes, pruned                                    |
| `..-fp16` of   | compressed model   | relative error <= 1e-2 an output; top-1 agreement >= 99.9 %                  |
| these          |                    |                                                                              |
| `int8-dynamic` | source             | noise at most 9 dB above the compressed model's own noise                    |
| `fp32` of a    | the model as read  | each layer, fed the model's own inputs, <= 1 LSB (<= 2 table and mean ops);  |
| quantized file |                    | top-1 agreement >= 99 %                                                      |

Where NonMaxSuppression selects an output's rows, a row that is selected otherwise counts as a changed prediction of
`fp16`, and the others are compared with their counterparts (`selection.py`).

Relative error is `max abs difference / max(max abs reference, 1e-6)`.

Where the numbers come from. 1e-4: float32 has 2^-24 = 6e-8 of rounding an operation; sums of a few thousand terms in
another order, layer upon layer, stay below 1e-4 and a wrong operator does not. 1e-2: float16 has 2^-11 = 5e-4 an
operation, and twenty roundings in a row. 1 LSB: two correct integer kernels may round a tie in the fixed-point
multiplier apart; table (softmax, sigmoid, tanh) and mean kernels round twice. 6 dB: half the amplitude, so that the
artifact's own deviation stays small beside what quantization itself costs. 9 dB for int8-dynamic: LiteRT's hybrid
kernels quantize their inputs symmetrically, which doubles the step of a one-sided range (6.02 dB) against the model's
asymmetric one, and 3.01 dB is a factor two in noise power, as the two sides' roundings are independent draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from haversack.convert.compress.recipes import HALF, WEIGHTS

Against = Literal["source", "compressed model"]

SOURCE: Against = "source"
COMPRESSED: Against = "compressed model"

RELATIVE_FLOOR = 1e-6
"""A reference smaller than this counts as this when a relative error is formed."""

LSB = 1.0
LSB_TABLE = 2.0

TABLE_OPS = frozenset(
    {
        *("Softmax", "LogSoftmax", "Sigmoid", "Tanh", "HardSwish", "Gelu", "Elu", "Exp", "Sqrt", "Reciprocal"),
        *("ReduceMean", "GlobalAveragePool", "AveragePool", "HardSigmoid"),
        *("SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH", "HARD_SWISH", "GELU", "ELU", "EXP", "RSQRT", "MEAN"),
        *("AVERAGE_POOL_2D", "QLinearSoftmax", "QLinearSigmoid", "QLinearGlobalAveragePool", "QLinearAveragePool"),
        *("softmax", "sigmoid", "tanh", "gelu", "elu", "exp", "rsqrt", "reduce_mean", "avg_pool"),
    }
)
"""Operators, by their ONNX, TFLite, onnxruntime and MIL names, whose int8 kernels read a table or divide by a count."""


@dataclass(frozen=True)
class Contract:
    """What one recipe promises.

    Attributes:
        against: What an artifact is compared with.
        max_relative: Largest relative error of an output; None where the contract names none.
        max_changed: Changed predictions allowed in each 1,000 samples that were begun; None likewise.
        min_agreement: Share of samples whose top class must be the same; None likewise.
        noise_margin_db: Artifact-to-`against` noise must lie this much below model-to-source noise (negative: it
            may lie above); None likewise.
        layers: Whether every layer is judged alone, in units of the last bit.
    """

    against: Against
    max_relative: float | None = None
    max_changed: int | None = None
    min_agreement: float | None = None
    noise_margin_db: float | None = None
    layers: bool = False


FLOAT32 = 1e-4
FLOAT16 = 1e-2

CONTRACTS: dict[str, Contract] = {
    "fp32": Contract(SOURCE, max_relative=FLOAT32),
    "fp16": Contract(SOURCE, max_relative=FLOAT16, max_changed=1),
    **dict.fromkeys(("int8", "int16"), Contract(COMPRESSED, min_agreement=0.99, noise_margin_db=6.0, layers=True)),
    **dict.fromkeys(WEIGHTS, Contract(COMPRESSED, max_relative=FLOAT32)),
    **{name + HALF: Contract(COMPRESSED, max_relative=FLOAT16, min_agreement=0.999) for name in WEIGHTS},
    "int8-dynamic": Contract(SOURCE, noise_margin_db=-9.0),
}


KEPT = Contract(COMPRESSED, min_agreement=0.99, layers=True)
"""Of a file that is quantized already and kept as it is: as int8, but there is no float model to hold noise against."""


def contract(recipe: str, *, quantized: bool = False) -> Contract:
    """The contract of `recipe`, a key of `CONTRACTS`.

    Args:
        recipe: The recipe's name.
        quantized: Whether the source's activations were integers already.
    """
    return KEPT if quantized and recipe == "fp32" else CONTRACTS[recipe]


def layer_limit(op: str, hub_ops: tuple[str, ...] = ()) -> float:
    """How many LSB an integer layer may be off: 2 where its operator, or the model's, is a table or a mean."""
    return LSB_TABLE if op in TABLE_OPS or any(each in TABLE_OPS for each in hub_ops) else LSB
