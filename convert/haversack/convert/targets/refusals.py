"""What a lowered target says of operators that it cannot hold at all: the reason, and the smallest edit that helps."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.errors import Blocker

ML = "ai.onnx.ml"

_TENSORS = "use one tensor with one more axis, joined by Concat and cut by Split"
_FED = "compute it before the model, and feed its result as an input"

_KNOWN: dict[str, tuple[str, str]] = {
    "Bernoulli": ("a graph that draws random numbers", "feed the random numbers as an input"),
    "Col2Im": ("no kernel adds overlapping blocks", "use a ConvTranspose whose weights are an identity"),
    "DeformConv": ("no kernel samples at learned offsets", "sample by GridSample, then use a Conv"),
    "Det": ("no kernel factorizes matrices", "compute it after the model"),
    "ImageDecoder": ("no kernel decodes image files", "decode the image before the model, and feed its pixels"),
    "MaxRoiPool": ("no kernel pools regions", "crop by Slice, then use MaxPool"),
    "MaxUnpool": ("no kernel gives or takes the indices of maxima", "use Resize or ConvTranspose"),
    "Multinomial": ("a graph that draws random numbers", "feed the samples as an input"),
    "RandomNormal": ("a graph that draws random numbers", "feed the random numbers as an input"),
    "RoiAlign": ("no kernel pools regions", "crop by Slice and Resize, or sample by GridSample"),
    "TfIdfVectorizer": ("no kernel counts n-grams", _FED),
}
_SELECTING = ("Compress", "NonZero", "Unique")
_KNOWN |= dict.fromkeys(("RandomNormalLike", "RandomUniform", "RandomUniformLike"), _KNOWN["RandomNormal"])

_FAMILIES: tuple[tuple[str, tuple[str, str]], ...] = (
    ("Sequence", ("tensors only, no sequences", _TENSORS)),
    ("Optional", ("tensors only, no optional values", "make its input a plain tensor")),
    ("String", ("tensors of numbers only, no strings", _FED)),
    ("Regex", ("tensors of numbers only, no strings", _FED)),
)


def unlowered(target: str, name: str, op: str) -> Blocker:
    """The refusal of a node whose operator `target` has no lowering for."""
    found = _KNOWN.get(op) or next((said for family, said in _FAMILIES if family in op), None)
    reason, remedy = found or (
        "nothing expresses it", "compute it outside of the model, or write it with operators of docs/operators.md"
    )  # fmt: skip
    return Blocker(name, op, f"{target} has no lowering for it: {reason}", remedy)


def classical(target: str, model: ir.Model) -> list[Blocker]:
    """The refusal of scikit-learn's operators, whose sizes nothing infers: said before anything is said of those."""
    return [
        Blocker(
            str(node.name),
            node.op_type,
            f"{target} has no lowering for operators of {ML}: trees, scalers and linear models of scikit-learn",
            "use --to onnx or --to web, which run them as they are",
        )
        for graph in model.graphs()
        for node in graph
        if node.domain == ML
    ]


def unsized(name: str, op: str) -> Blocker:
    """The refusal of a node that gives a result of unknown size though the sizes of its inputs are known."""
    if op in _SELECTING:
        return Blocker(name, op, "how much it selects is known at run time only", "move it after the model")
    return Blocker(name, op, "the shape of its result is not static", "make the inputs that give its shape constant")
