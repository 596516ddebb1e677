"""Which operators each execution provider takes, and under which conditions, as data.

| provider | source                                                                                         |
|----------|------------------------------------------------------------------------------------------------|
| NNAPI    | nnapi_supported_ops.md of onnxruntime 1.31 (in the Python package, under tools/mobile_helpers) |
| Core ML  | coreml_supported_mlprogram_ops.md, likewise: the ML Program format                             |
| XNNPACK  | the table of Xnnpack-ExecutionProvider.md in onnxruntime's documentation; what it leaves open  |
|          | (constants, fused activations) from core/providers/xnnpack in onnxruntime's source             |
| WebGPU   | webgpu-operators.md of the npm package onnxruntime-web 1.30                                    |
| QNN      | the table of QNN-ExecutionProvider.md, version 2.3 of Qualcomm's onnxruntime-qnn               |

That NNAPI takes no sizes that are not fixed, and Core ML no more than five axes, is in onnxruntime's usability checker
(`mobile_helpers/usability_checker.py`). Tests hold the first two tables against the files of the installed onnxruntime.
A table names operators and few types: whether a device's driver takes a node is known on the device only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from haversack.convert.targets.ort import provider_rules as rule
from haversack.convert.targets.ort.provider_rules import Rule

MICROSOFT = "com.microsoft:"


@dataclass(frozen=True)
class Provider:
    """An execution provider, by its documentation.

    Attributes:
        name: As onnxruntime spells it.
        platform: Where it is.
        source: Of the table.
        operators: Those it takes, each with its conditions; of another domain than ONNX's as `domain:Operator`.
        since: For a provider that is documented by kernel versions: operator to (first, last) of each kernel, the last
            None where it is open. Empty otherwise.
        fixed_sizes: Whether every size must be fixed.
        max_rank: Most axes of an input.
        whole_units: Whether a quantized operator is taken with the DequantizeLinear and QuantizeLinear around it, as
            its `QLinear` counterpart.
        fused: Operators that it takes behind certain others only, as part of them.
        notes: What the user should know, one sentence each.
    """

    name: str
    platform: str
    source: str
    operators: Mapping[str, tuple[Rule, ...]]
    since: Mapping[str, tuple[tuple[int, int | None], ...]] = field(default_factory=dict)
    fixed_sizes: bool = False
    max_rank: int = 99
    whole_units: bool = False
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _plain(names: str) -> dict[str, tuple[Rule, ...]]:
    return dict.fromkeys(names.split(), ())


_PIXELS = (rule.ranks(4),)
_NNAPI = Provider(
    name="NNAPI",
    platform="Android 8.1 and later",
    source="onnxruntime 1.31, nnapi_supported_ops.md",
    operators={
        **_plain(
            "Abs Add BatchNormalization Cast Clip Concat Div Elu Exp Flatten Floor Identity LeakyRelu Log LRN MatMul"
            " Max Min Mul Neg Pow PRelu ReduceMean Relu Reshape Sigmoid Sin Slice Softmax Sqrt Sub Tanh Transpose"
        ),
        **dict.fromkeys(("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Resize"), _PIXELS),
        "Conv": (*_PIXELS, rule.weights_constant),
        "DepthToSpace": (rule.equals("mode", "DCR", default="DCR"),),
        "DequantizeLinear": (rule.scales_constant,),
        "Gather": (rule.gather_indices,),
        "Gemm": (rule.gemm_b,),
        "Pad": (
            rule.equals("mode", "constant", default="constant"),
            rule.constant(1, 2, what="pads and the value"),
            rule.pads_positive,
        ),
        "QLinearConv": (*_PIXELS, rule.constant(3, 8, what="weights and bias"), rule.scales_constant_linear),
        "QLinearMatMul": (rule.scales_constant_linear,),
        "QuantizeLinear": (rule.scales_constant,),
        "Split": (rule.even_split, rule.constant(1, what="the parts' sizes")),
        "Squeeze": (rule.axes_constant,),
        "Unsqueeze": (rule.axes_constant,),
        MICROSOFT + "QLinearAdd": (rule.scales_constant_linear,),
        MICROSOFT + "QLinearAveragePool": (*_PIXELS, rule.constant(1, 2, 3, 4, what="scales and zero points")),
        MICROSOFT + "QLinearSigmoid": (rule.constant(1, 2, 3, 4, what="scales and zero points"),),
    },
    fixed_sizes=True,
    whole_units=True,
    notes=("Android deprecates NNAPI since version 15; XNNPACK and the CPU provider are what remains there.",),
)

_COREML = Provider(
    name="Core ML",
    platform="iOS 15, macOS 12 and later (ML Program)",
    source="onnxruntime 1.31, coreml_supported_mlprogram_ops.md",
    operators={
        **_plain(
            "Add ArgMax Cast Clip Concat Cos Ceil Div Elu Erf Exp Gelu GroupNormalization HardSigmoid Identity"
            " InstanceNormalization LayerNormalization LeakyRelu MatMul Max Mul PRelu Reciprocal ReduceSum ReduceMean"
            " ReduceMax Relu Reshape Resize Round Shape Sin Softplus Sub Sigmoid Softmax Sqrt Squeeze Tanh Transpose"
            " Unsqueeze com.microsoft:QuickGelu com.microsoft:FusedConv"
        ),
        **dict.fromkeys(("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"), _PIXELS),
        "And": (rule.dtypes(0, rule.BOOL, what="both inputs must be bool"),),
        "Conv": (rule.ranks(3, 4), rule.bias_constant),
        "ConvTranspose": (
            rule.weights_constant,
            rule.equals("auto_pad", "NOTSET", "VALID", default="NOTSET"),
            rule.absent("output_shape"),
            rule.absent("output_padding", neutral=0),
        ),
        "DepthToSpace": (rule.crd_needs_sizes,),
        "GatherND": (rule.equals("batch_dims", 0, default=0),),
        "Gemm": (rule.constant(1, what="B"), rule.plain_gemm),
        "GridSample": (rule.grid_sample,),
        "Pow": (rule.both_fp32,),
        "Slice": (rule.constant(1, 2, 3, 4, what="starts, ends, axes and steps"),),
        "Split": (rule.constant(1, what="the parts' sizes"),),
        "Tile": (rule.at_most(5),),
        "Where": (rule.dtypes(1, rule.FLOAT, rule.FLOAT16, what="X and Y must be float or float16"),),
    },
    max_rank=5,
    notes=(
        "It takes no QuantizeLinear or DequantizeLinear: give it fp32, fp16 or int8-weights, not int8.",
        "Sizes that are not fixed run, and cost time; the conditions of Resize are in onnxruntime's source only.",
    ),
)

_FLOAT = rule.dtypes(0, rule.FLOAT, what="only float32 is computed")
_XNNPACK = Provider(
    name="XNNPACK",
    platform="Android, iOS, WebAssembly (a build with it)",
    source="onnxruntime's documentation, Xnnpack-ExecutionProvider.md",
    operators={
        "AveragePool": (_FLOAT, *_PIXELS),
        "Conv": (_FLOAT, *_PIXELS, rule.weights_constant),
        "ConvTranspose": (_FLOAT, *_PIXELS, rule.weights_constant),
        "Gemm": (_FLOAT, rule.at_most(2), rule.constant(1, 2, what="B and C"), rule.unscaled, rule.rows_fixed),
        "MatMul": (_FLOAT, rule.at_most(2), rule.constant(1, what="B"), rule.rows_fixed),
        "MaxPool": (_FLOAT, *_PIXELS),
        "Resize": (_FLOAT, rule.ranks(2, 4), rule.equals("mode", "linear", default="nearest")),
        "Softmax": (_FLOAT, rule.softmax_last),
        "QLinearConv": (*_PIXELS, rule.constant(3, 8, what="weights and bias"), rule.scales_constant_linear),
        MICROSOFT + "QLinearAveragePool": _PIXELS,
        MICROSOFT + "QLinearConvTranspose": (),
        MICROSOFT + "QLinearSoftmax": (),
    },
    whole_units=True,
    fused={"Clip": ("AveragePool", "Conv", "MaxPool"), "Relu": ("AveragePool", "Conv", "MaxPool")},
    notes=("It computes on the CPU: what it leaves costs no copy to another device, only a change of layout.",),
)

_QNN = Provider(
    name="QNN",
    platform="Android and Windows on Qualcomm's chips (HTP)",
    source="onnxruntime-qnn 2.3, QNN-ExecutionProvider.md",
    operators={
        **_plain(
            "Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Ceil Clip Concat Conv ConvInteger"
            " ConvTranspose Cos CumSum DepthToSpace DequantizeLinear DynamicQuantizeLinear Div Einsum Elu Equal Exp"
            " Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater"
            " GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization Inverse"
            " IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max"
            " MaxPool Mean Min Mod Mul Neg NonZero Not Or PRelu Pad Pow QuantizeLinear RandomNormalLike"
            " RandomUniformLike Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu"
            " RMSNormalization Reshape Resize RoiAlign Round RotaryEmbedding STFT ScatterElements ScatterND"
            " Sigmoid Sign Sin Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu"
            " Tile TopK Transpose Unsqueeze Upsample Where com.microsoft:DequantizeLinear com.microsoft:FusedMatMul"
            " com.microsoft:Gelu com.microsoft:MatMulNBits com.microsoft:QuantizeLinear com.microsoft:QuickGelu"
            " com.microsoft:RotaryEmbedding com.microsoft:SimplifiedLayerNormalization"
        ),
        "LpNormalization": (rule.equals("p", 2, default=2),),
    },
    fixed_sizes=True,
    notes=(
        "Float models compute in float16 on the HTP by default; types vary by operator, and the QAIRT SDK lists them.",
    ),
)

_WEBGPU_KERNELS = """
Abs 6-12,13+|Acos 7+|Acosh 9+|Add 7-12,13,14+|ArgMax 1-10,11-12,13+|ArgMin 1-10,11-12,13+|Asin 7+|Asinh 9+|Atan 7+
Atanh 9+|AveragePool 7-9,10,11-18,19+|BatchNormalization 7-8,9-13,14,15+|Cast 6-8,9-12,13-18,19-20,21+|Ceil 6-12,13+
Clip 6-10,11,12,13+|Concat 1-3,4-10,11-12,13+|Conv 1-10,11+|ConvTranspose 1-10,11+|Cos 7+|Cosh 9+|CumSum 11-13,14+
DFT 17-19,20+|DepthToSpace 11-12,13+|DequantizeLinear 10-12,13-18,19-20,21+|Div 7-12,13,14+|Einsum 12+|Elu 6+
Equal 7-10,11-12,13-18,19+|Erf 9-12,13+|Exp 6-12,13+|Expand 8-12,13+|Flatten 1-8,9-10,11-12,13-20,21+|Floor 6-12,13+
Gather 1-10,11-12,13+|GatherElements 11-12,13+|GatherND 11,12,13+|Gelu 20+|Gemm 7-8,9-10,11-12,13+|GlobalAveragePool 1+
GlobalMaxPool 1+|Greater 7-8,9-12,13+|GreaterOrEqual 12-15,16+|GridSample 16-19|HardSigmoid 6+|HardSwish 14+
If 1-10,11-12,13-18,19-20,21+|InstanceNormalization 6+|LayerNormalization 1-16,17+|LeakyRelu 6-15,16+|Less 7-8,9-12,13+
LessOrEqual 12-15,16+|Log 6-12,13+|MatMul 1-12,13+|MaxPool 1-7,8-9,10,11,12+|Mul 7-12,13,14+|Neg 6-12,13+|Not 1+
Pad 2-10,11-12,13-17,18,19-20,21+|Pow 7-11,12,13-14,15+|Range 11+|Reciprocal 6-12,13+|ReduceL1 1-10,11-12,13-17,18+
ReduceL2 1-10,11-12,13-17,18+|ReduceLogSum 1-10,11-12,13-17,18+|ReduceLogSumExp 1-10,11-12,13-17,18+
ReduceMax 1-10,11,12,13-17,18-19,20+|ReduceMean 1-10,11-12,13-17,18+|ReduceMin 1-10,11,12,13-17,18-19,20+
ReduceProd 1-10,11-12,13-17,18+|ReduceSum 1-10,11-12,13+|ReduceSumSquare 1-10,11-12,13-17,18+|Relu 6-12,13,14+
Reshape 5-12,13,14-18,19-20,21+|Resize 10,11-12,13-17,18,19+|ScatterND 11-12,13-15,16-17,18+
Shape 1-12,13-14,15-18,19-20,21+|Sigmoid 6-12,13+|SimplifiedLayerNormalization 1+|Sin 7+|Sinh 9+|Slice 1-9,10,11-12,13+
Softmax 1-10,11-12,13+|Split 1,2-10,11-12,13-17,18+|Sqrt 6-12,13+|Squeeze 1-10,11-12,13-20,21+|Sub 7-12,13,14+|Tan 7+
Tanh 6-12,13+|ThresholdedRelu 10+|Tile 6-12,13+|Transpose 1-12,13-20,21+|Unsqueeze 1-10,11-12,13-20,21+|Where 9-15,16+
"""
_WEBGPU_CONTRIB = (
    "Attention BiasAdd BiasSplitGelu FastGelu FusedConv GatherBlockQuantized Gelu GroupQueryAttention MatMulNBits"
    " MultiHeadAttention QuickGelu RotaryEmbedding SkipLayerNormalization SkipSimplifiedLayerNormalization"
)


def _kernels(table: str) -> dict[str, tuple[tuple[int, int | None], ...]]:
    found = {}
    for entry in table.replace("\n", "|").split("|"):
        if entry:
            name, _, versions = entry.partition(" ")
            ranges = (each.partition("-") for each in versions.split(","))
            found[name] = tuple(
                (int(first.rstrip("+")), None if first.endswith("+") else int(last or first))
                for first, _, last in ranges
            )
    return found


_WEBGPU = Provider(
    name="WebGPU",
    platform="browsers with WebGPU; native as a plugin",
    source="onnxruntime-web 1.30, webgpu-operators.md",
    operators={
        **dict.fromkeys(_kernels(_WEBGPU_KERNELS), ()),
        **_plain(" ".join(MICROSOFT + name for name in _WEBGPU_CONTRIB.split())),
        "ConvTranspose": (rule.ranks(3, 4),),
    },
    since=_kernels(_WEBGPU_KERNELS),
    notes=(
        "It has no QuantizeLinear: an int8 model runs on the CPU provider (WebAssembly); its table names no types.",
    ),
)

PROVIDERS = (_NNAPI, _XNNPACK, _COREML, _WEBGPU, _QNN)
