"""What a model is, and whether each target can hold it: every blocker at once, before any conversion."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from haversack.convert.bundle_contents import contents
from haversack.convert.compress.recipes import RECIPES
from haversack.convert.deployment import Deployment
from haversack.convert.errors import Blocker, SourceError, UnsupportedError, UsageError
from haversack.convert.flexible import Size
from haversack.convert.pipeline import (
    STATIC_TARGETS,
    checked_recipe,
    open_dimensions,
)
from haversack.convert.report import Inspection, Preflight
from haversack.convert.targets import Options, Target, open_target
from haversack.convert.verify.execute import Progress
from haversack.convert.work import Data, Work
from haversack.runtimes.bundle import SUFFIX
from haversack.runtimes.errors import EngineError
from haversack.runtimes.preprocess import Preprocess


def inspect(
    model: str | Path,
    *,
    to: Sequence[str] = (),
    compress: str = "fp32",
    calibration: Data | None = None,
    preprocess: str | Path | Preprocess | None = None,
    deployment_target: str | None = None,
    dims: Mapping[str, Size] | None = None,
    isolate: bool = False,
    progress: Progress | None = None,
) -> Inspection:
    """Say what a model is, and run each target's preflight; or what a bundle or a Core ML package holds.

    Args:
        model: As for `convert`; or a `.haversack` bundle, or an `.mlpackage` of any tool.
        to: Targets to ask, of a model.
        compress: The recipe to ask them about; `int8` without calibration data is asked about with made-up ranges,
            which do not change what a target can hold.
        calibration: DATA for `int8`.
        preprocess: How images in DATA become inputs.
        deployment_target: The oldest system a Core ML package must run on.
        dims: Sizes of symbolic dimensions to fix, by name.
        isolate: Do it in a fresh process with limits.
        progress: Hears how far it is.

    Raises:
        SourceError: The model or the package cannot be read.
        UsageError: A target or recipe is unknown, or a target was asked about a package.
    """
    if isolate:
        from haversack.convert import isolated

        return isolated.inspect(
            Path(model), progress=progress, to=list(to), compress=compress, calibration=calibration,
            preprocess=preprocess, deployment_target=deployment_target, dims=dict(dims or {}),
        )  # fmt: skip
    if Path(model).suffix == SUFFIX:
        return Inspection(None, (), contents(Path(model)))
    if Path(model).suffix == ".mlpackage":
        if to:
            raise UsageError(f"{Path(model).name} is an artifact already; --to asks about models")
        from haversack.convert.package_contents import package_contents

        try:
            return Inspection(None, package=package_contents(Path(model)))
        except EngineError as error:
            raise SourceError(str(error)) from error
    if compress not in RECIPES:
        raise UsageError(f"unknown compression {compress!r}; known are {', '.join(RECIPES)}")
    targets = [open_target(name) for name in to]
    if progress is not None:
        progress(0.0, f"reading {Path(model).name}")
    work = Work.begin(Path(model), preprocess, dims)
    options = Options(deployment_target=deployment_target)
    preflights = []
    for index, target in enumerate(targets):
        if progress is not None:
            progress(0.5 + 0.5 * index / len(targets), f"asking {target.name}")
        blockers = _blockers(work, target.name, compress, calibration, options)
        preflights.append(
            Preflight(target.name, compress, blockers, None if blockers else _deployment(work, target, compress))
        )
    return Inspection(work.facts(), tuple(preflights))


def _deployment(work: Work, target: Target, compress: str) -> Deployment | None:
    """What follows for devices, of a target that knows; the model is compressed already."""
    ask = getattr(target, "deployment", None)
    if ask is None:
        return None
    recipe = checked_recipe(compress, "minmax", "per-channel", calibrated=True)
    compressed = work.compressed(recipe, static=target.name in STATIC_TARGETS)
    found: Deployment = ask(compressed.model, compress, Options())
    return found


def _blockers(work: Work, name: str, compress: str, calibration: Data | None, options: Options) -> tuple[Blocker, ...]:
    target = open_target(name)
    static = name in STATIC_TARGETS
    if compress not in target.recipes:
        remedy = f"use one of {', '.join(target.recipes)}"
        return (Blocker(work.source.name, compress, f"{name} has no such recipe", remedy),)
    if blockers := open_dimensions(name, work):
        return tuple(blockers)
    if compress == "int8" and work.calibration is None:
        work.calibration = work.open(calibration) or work.made_up(2)
    recipe = checked_recipe(compress, "minmax", "per-channel", calibrated=True)
    try:
        compressed = work.compressed(recipe, static=static)
    except UnsupportedError as error:
        return error.blockers
    options = dataclasses.replace(options, resizing=work.resizing(compressed, name))
    return tuple(target.preflight(compressed.model, compress, options))
