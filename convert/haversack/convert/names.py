"""What an output's name says about its target, and a target about the name. Imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from haversack.convert.errors import UsageError
from haversack.convert.flexible import Size, parsed

_WEIGHTS = (
    *("int8-weights", "int4-weights"),
    *("int4-block16", "int4-block32", "int4-block64", "int4-block128"),
    *("palette1", "palette2", "palette3", "palette4", "palette6", "palette8"),
    *("palette2-group16", "palette3-group16", "palette4-group16"),
    *("sparse50", "sparse75", "sparse2of4", "sparse50-palette4", "sparse50-int8"),
)
RECIPES = ("fp32", "fp16", "int8", "int16", "int8-dynamic", *_WEIGHTS, *(f"{name}-fp16" for name in _WEIGHTS))
"""As in `compress.recipes`, repeated here because that package imports numpy; a test holds the two together."""

METRICS = ("top1", "top5", "auc", "mse", "cosine")
METHODS = (
    *("equalize", "fitted-scales", "second-order", "adaround"),
    *("bias-correction", "analytic-bias-correction", "reduced-range"),
)
"""What may be named with --methods; `compress.methods` says what each is."""

Scalar = str | int | float | bool

SUFFIXES = {".tflite": "tflite", ".mlpackage": "coreml", ".onnx": "onnx", ".web": "web", ".html": "web"}
"""Suffix of an artifact and its target."""

TARGETS = tuple(dict.fromkeys(SUFFIXES.values()))

ALIASES = {"ort": "onnx", "litert": "tflite"}


def target_of(to: str | None, output: Path | None) -> str:
    """The target that is asked for by name, or by the output's suffix.

    Raises:
        UsageError: Neither says one, the name is unknown, or the two contradict each other.
    """
    known = TARGETS
    named = None if to is None else ALIASES.get(to, to)
    if named is not None and named not in known:
        raise UsageError(f"unknown target {to!r}; known are {', '.join(known)}")
    if output is None:
        if named is None:
            raise UsageError("say --to tflite, coreml, onnx or web, or name the output with -o")
        return named
    implied = SUFFIXES.get(output.suffix)
    if named is None and implied is None:
        raise UsageError(f"{output.name or output}: this suffix names no target ({', '.join(SUFFIXES)}); say --to")
    if named == "web" and implied is None:
        return named  # a folder may have any name
    if named is not None and implied != named:
        suffix = next(suffix for suffix, target in SUFFIXES.items() if target == named)
        raise UsageError(f"{output.name}: an artifact for {named} ends in {suffix}")
    assert implied is not None
    return implied


def targets_of(spec: str) -> tuple[str, ...]:
    """Targets from a list with commas, each once.

    Raises:
        UsageError: One is unknown, or there is none.
    """
    names = [name.strip() for name in spec.split(",") if name.strip()]
    if not names:
        raise UsageError(f"say at least one target: {', '.join(TARGETS)}")
    return tuple(dict.fromkeys(target_of(name, None) for name in names))


def single_file_output(model: Path, target: str, output: Path | None) -> Path:
    """Where `--single-file` writes its one page: `output`, or the model's name with `.html`, in the current folder.

    Raises:
        UsageError: The target has no single file, or `output` is no `.html`.
    """
    if target != "web":
        raise UsageError(f"--single-file is for web, not for {target}")
    if output is not None and output.suffix != ".html":
        raise UsageError(f"{output.name}: --single-file writes one page, whose name ends in .html")
    return output or default_output(model, target).with_suffix(".html")


def default_output(model: Path, target: str) -> Path:
    """The model's name with the target's suffix, in the current folder."""
    suffix = next(suffix for suffix, name in SUFFIXES.items() if name == target)
    # Made absolute, because `.` has no name; links are kept, so that the name stays the user's.
    return Path(Path(os.path.abspath(model)).with_suffix("").name + suffix)  # noqa: PTH100


def check_metric(name: str) -> None:
    """Refuse a metric that is none of `METRICS` and no `package.module:function`.

    Raises:
        UsageError: It is neither.
    """
    module, colon, function = name.partition(":")
    named = colon and function.isidentifier() and all(part.isidentifier() for part in module.split("."))
    if name not in METRICS and not named:
        raise UsageError(f"unknown metric {name!r}; known are {', '.join(METRICS)}, package.module:function")


def size_of(text: str) -> int:
    """Bytes from `200KB`, `1.5 MB` or `4096` (KB is 1,000 bytes, KiB 1,024).

    Raises:
        UsageError: It is no size.
    """
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    stripped = text.strip()
    number = stripped.rstrip("bBkKmMgGiI ")
    unit = stripped[len(number) :].strip().lower()
    try:
        value = float(number) * units[unit]
    except (ValueError, KeyError):
        raise UsageError(f"{text!r} is no size; write it as 200KB or 1.5MiB") from None
    if not 0 < value < 2**60:
        raise UsageError(f"{text!r} is no size that a file can have")
    return int(value)


def latency_of(text: str) -> tuple[float, str | None]:
    """Milliseconds, and the device's name, from `5ms`, `800us`, `0.8 ms` or `2ms@pi4`; without one, this machine.

    Raises:
        UsageError: It is no latency.
    """
    units = {"us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3}
    given, at, device = (part.strip() for part in text.partition("@"))
    number = given.rstrip("uµμmsUMS ")
    try:
        milliseconds = float(number) * units[given[len(number) :].strip().lower()]
    except (ValueError, KeyError):
        raise UsageError(f"{text!r} is no latency; write it as 2ms or 800us, or 2ms@pi4 for another device") from None
    if not 0 < milliseconds < 1e9 or (at and not device):
        raise UsageError(f"{text!r} is no latency; write it as 2ms or 800us, or 2ms@pi4 for another device")
    return milliseconds, device or None


def dims_of(given: Iterable[str]) -> dict[str, Size]:
    """Sizes of symbolic dimensions from `NAME=SIZE`, one an entry; SIZE may be several, as `1..8` or `16,32,64`.

    Raises:
        UsageError: One is written otherwise, its size is below 1, or a name comes twice with two sizes.
    """
    sizes: dict[str, Size] = {}
    for text in given:
        name, equals, size = (part.strip() for part in text.rpartition("="))
        several = parsed(size)
        if not (equals and name and (several or (size.isdecimal() and int(size) > 0))):
            raise UsageError(
                f"--dim {text!r}: write it as NAME=SIZE, such as batch=1 (Core ML: also 1..8, or 16,32,64)"
            )
        meant = str(several) if several else int(size)
        if sizes.setdefault(name, meant) != meant:
            raise UsageError(f"--dim {name} is given two sizes, {sizes[name]} and {meant}")
    return sizes


def states_of(given: Iterable[str]) -> dict[str, str]:
    """Inputs and the outputs that are left in them, from `INPUT=OUTPUT`, one an entry.

    Raises:
        UsageError: One is written otherwise, or an input comes twice.
    """
    states: dict[str, str] = {}
    for text in given:
        before, equals, after = (part.strip() for part in text.partition("="))
        if not (equals and before and after) or before in states:
            raise UsageError(f"--state {text!r}: write it as INPUT=OUTPUT, each input once")
        states[before] = after
    return states


def recipes_of(spec: str) -> tuple[str, ...]:
    """Recipes from a list with commas, each once.

    Raises:
        UsageError: One is unknown, or there is none.
    """
    names = tuple(dict.fromkeys(name.strip() for name in spec.split(",") if name.strip()))
    if not names:
        raise UsageError(f"say at least one recipe: {', '.join(RECIPES)}")
    for name in names:
        _choice("compression", name, RECIPES)
    return names


def methods_of(spec: str | None) -> tuple[str, ...] | None:
    """Methods from a list with commas, each once; `none` for none, None where nothing is said.

    Raises:
        UsageError: One is unknown.
    """
    if spec is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in spec.split(",") if name.strip()))
    if names == ("none",):
        return ()
    for name in names:
        _choice("--methods", name, METHODS)
    return names


def check_options(
    target: str,
    compress: str,
    calibration: object,
    io_layout: str,
    io_dtype: str,
    deployment_target: str | None,
    ranges: str,
    weights: str,
) -> None:
    """Refuse options that cannot be meant, before a worker is started.

    Raises:
        UsageError: One is none of its choices, or two contradict each other.
    """
    _choice("compression", compress, RECIPES)
    _choice("--io-layout", io_layout, ("keep", "channels-last"))
    _choice("--io-dtype", io_dtype, ("float32", "int8"))
    _choice("--ranges", ranges, ("minmax", "percentile", "mse", "entropy"))
    _choice("--weights", weights, ("auto", "per-channel", "per-tensor"))
    if deployment_target is not None:
        _choice("--deployment-target", deployment_target, ("iOS15", "iOS16", "iOS17", "iOS18"))
    if io_layout != "keep" and target != "tflite":
        raise UsageError(f"--io-layout {io_layout} is for tflite; {target} keeps the model's layout, leave it at keep")
    if io_dtype == "int8" and compress != "int8":
        raise UsageError(f"--io-dtype int8 needs --compress int8; {compress} has float32 inputs and outputs")
    if compress == "int8" and calibration is None:
        raise UsageError(
            "int8 needs --calibration DATA, a hundred real inputs, to learn the activations' ranges; "
            "int8-weights needs none"
        )
    if target == "coreml" and compress == "int8" and deployment_target in ("iOS15", "iOS16"):
        raise UsageError("int8 activations need iOS17 on Core ML; use --compress int8-weights for iOS16")


def _choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{option} {value!r} is none of {', '.join(choices)}")


def check_objective(objective: str | None) -> None:
    """Refuse an objective that is none.

    Raises:
        UsageError: It is none of the choices.
    """
    if objective is not None:
        _choice("--objective", objective, ("size", "wire", "latency"))


def check_framework(framework: str | None, *, retrained: bool) -> None:
    """Refuse a framework that a plan cannot be exported for.

    Raises:
        UsageError: It is none of the choices, or the plan for after the training is wanted as well.
    """
    if framework is not None:
        _choice("--for", framework, ("torch", "keras"))
        if retrained:
            raise UsageError("--for writes the module for training, --retrained the plan for after it: ask for one")


def cache_folder(given: Path | None) -> Path:
    """Where measurements that can be used again are kept: as given, or in the user's cache (XDG base directories)."""
    if given is not None:
        return given
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "haversack"


def hyperparameters_of(given: str | Mapping[str, Scalar] | None) -> dict[str, Scalar]:
    """Hyperparameters from a mapping, a JSON object, or `key=value` pairs with commas between them.

    Raises:
        UsageError: It is none of these.
    """
    if given is None:
        return {}
    if isinstance(given, str):
        import json

        try:
            parsed = json.loads(given)
        except ValueError:
            pairs = [pair.partition("=") for pair in given.split(",")]
            if any(not key.strip() or not equals for key, equals, _ in pairs):
                raise UsageError("--hyperparameters takes a JSON object, or key=value,key=value") from None
            parsed = {key.strip(): value.strip() for key, _, value in pairs}
    else:
        parsed = dict(given)
    if not isinstance(parsed, dict) or not all(isinstance(value, str | int | float) for value in parsed.values()):
        raise UsageError("--hyperparameters takes a JSON object of texts and numbers")
    return {str(key): value for key, value in parsed.items()}
