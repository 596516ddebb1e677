"""`haversack plan`: the plans in a bundle, read, given back as files, and exported for quantization-aware training."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from haversack.convert.compress.plan import Plan
from haversack.convert.errors import UsageError
from haversack.convert.qat.names import Trained
from haversack.convert.report import decode
from haversack.convert.report_plans import PlannedLayer, PlanRow, Plans
from haversack.runtimes.bundle import SUFFIX, open_bundle

Framework = Literal["torch", "keras"]


@dataclass(frozen=True)
class Found:
    """A plan, who follows it, and what is known of the model that it is for.

    Attributes:
        plan: The plan.
        variants: Ids.
        layers: Those that it may name, as they were called in training; None where that is not known.
    """

    plan: Plan
    variants: tuple[str, ...] = ()
    layers: Mapping[str, Trained] | None = None


def plans(
    source: str | Path,
    *,
    variant: str | None = None,
    framework: Framework | None = None,
    model: str | Path | None = None,
    retrained: bool = False,
    write: bool = False,
) -> Plans:
    """Read the plans of a bundle or a plan's file.

    Args:
        source: A `.haversack`, or a plan's JSON.
        variant: The id of the variant whose plan is meant, or the plan's own name.
        framework: Export the plan for training in it.
        model: The model that the plan is for, where a file's plan is exported.
        retrained: Write the plan for the model after such training: for any source, and without methods, which would
            round anew what was trained.
        write: Give the plan's file, or the module for training, as text.

    Raises:
        UsageError: There is no plan, or several and `variant` names none of them; or the model is needed, or another.
        BundleError: The bundle is damaged or unsafe.
    """
    path = Path(source)
    called = path.name
    found = in_bundle(path) if path.suffix == SUFFIX else [Found(Plan.read(path))]
    if not found:
        raise UsageError(
            f"{called}: none of its variants follows a plan; pack with --max-drop or --objective makes some"
        )
    write = write or framework is not None or retrained
    if variant is not None:
        found = [chosen(found, variant, called)]
    if write and len(found) > 1:
        raise UsageError(f"{called} holds {len(found)} plans: name one with --variant ({', '.join(_ids(found))})")
    if model is not None:
        found = [dataclasses.replace(each, layers=_read(each.plan, Path(model))) for each in found]
    text = ""
    if write:
        text = _exported(found[0], framework, called) if framework is not None else _file(found[0].plan, retrained)
    return Plans(called, tuple(_row(each) for each in found), text)


def in_bundle(path: Path) -> list[Found]:
    """The plans of a bundle, each once.

    Raises:
        BundleError: It is damaged, unsafe or of an unknown version.
        UsageError: A plan in it cannot be read by this release.
    """
    with open_bundle(path) as bundle:
        bundle.verify()
        variants = bundle.manifest.variants
    found: dict[str, Found] = {}
    for each in variants:
        text = each.recipe.get("plan")
        if text is None:
            continue
        before = found.get(text)
        ids = () if before is None else before.variants
        found[text] = Found(Plan.from_json(text, each.id), (*ids, each.id), _layers(each.recipe.get("layers")))
    return list(found.values())


def chosen(found: Sequence[Found], variant: str, source: str) -> Found:
    """The plan of one variant.

    Raises:
        UsageError: There is none of that id or name.
    """
    for each in found:
        if variant in each.variants or variant == each.plan.name:
            return each
    raise UsageError(f"{source}: no planned variant is called {variant!r}; there are {', '.join(_ids(found))}")


def _ids(found: Sequence[Found]) -> list[str]:
    return [each.variants[0] if each.variants else each.plan.name for each in found]


def _layers(text: str | None) -> dict[str, Trained] | None:
    if text is None:  # an older bundle
        return None
    try:
        return {str(name): decode(Trained, row) for name, row in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return None


def _read(plan: Plan, model: Path) -> dict[str, Trained]:
    from haversack.convert.qat.names import trained_layers
    from haversack.convert.work import Work

    work = Work.begin(model)
    if plan.model and plan.model != work.source.sha256:
        raise UsageError(
            f"the plan {plan.name} was made for another model ({plan.model[:12]}…, {model.name} is "
            f"{work.source.sha256[:12]}…)"
        )
    return trained_layers(work.sized, work.path, work.source.format)


def _exported(found: Found, framework: Framework, source: str) -> str:
    from haversack.convert.qat.export import module_of

    if found.layers is None:
        raise UsageError(f"{source} does not say what its layers were called in training: give --model MODEL too")
    return module_of(found.plan, found.layers, framework)


def _file(plan: Plan, retrained: bool) -> str:
    return (dataclasses.replace(plan, model="", methods=()) if retrained else plan).to_json()


def _row(found: Found) -> PlanRow:
    plan, known = found.plan, found.layers
    layers = tuple(
        PlannedLayer(
            layer=name,
            held=plan.of(name).words(),
            trained="" if known is None else known[name].name,
            weights=None if known is None else known[name].elements,
        )
        for name in (plan.layers if known is None else known)
    )
    return PlanRow(
        name=plan.name,
        variants=found.variants,
        arithmetic=plan.arithmetic,
        ranges=plan.ranges,
        methods=plan.methods,
        default=plan.default.words(),
        counts=dict(Counter(layer.held for layer in layers).most_common()),
        layers=layers,
    )
