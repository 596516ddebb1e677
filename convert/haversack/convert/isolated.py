"""The workshop's jobs, each done in a fresh worker process; the command line knows no other way.

This side checks what can be checked without opening a model, makes the private folder, starts the worker, and publishes
what it made by rename. It imports neither numpy nor an engine.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from haversack.convert.budget_file import read_budget
from haversack.convert.diagnosis import Diagnosis
from haversack.convert.errors import DataError, UsageError
from haversack.convert.publish import check_output, private_folder, publish
from haversack.convert.report import Bench, BudgetCheck, Checked, Conversion, Inspection, Pack, Ran, decode
from haversack.convert.report_plans import Plans
from haversack.convert.worker_client import Limits, Progress, call
from haversack.convert.worker_stage import check_model

Options = Mapping[str, Any]

DATA_KEYS = ("calibration", "evaluation", "inputs")


def convert(
    model: Path,
    *,
    output: Path,
    force: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Conversion:
    """Convert in a worker; see `haversack.convert.convert`."""
    check_model(model)
    _check_other(model, output)
    check_output(output, force=force)
    _check_data(options)
    with private_folder(beside=output) as private:
        arguments = {"model": _absolute(model), "name": output.name, **_sendable(options, private)}
        made: Conversion = decode(Conversion, call("convert", arguments, private, limits=limits, progress=progress))
        names = (output.name, *made.variant.companions)
        publish([(private / "out" / name, output.parent / name) for name in names], force=force)
    return dataclasses.replace(made, variant=dataclasses.replace(made.variant, path=str(output)))


def pack(
    model: Path,
    *,
    output: Path,
    force: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Pack:
    """Pack in a worker; see `haversack.convert.pack`."""
    check_model(model)
    _check_other(model, output)
    check_output(output, force=force)
    _check_data(options)
    with private_folder(beside=output) as private:
        arguments = {"model": _absolute(model), "name": output.name, **_sendable(options, private)}
        made: Pack = decode(Pack, call("pack", arguments, private, limits=limits, progress=progress))
        if made.over:
            return made
        publish([(private / "out" / output.name, output)], force=force)
    return dataclasses.replace(made, path=str(output))


def inspect(
    model: Path, *, limits: Limits | None = None, progress: Progress | None = None, **options: Any
) -> Inspection:
    """Inspect in a worker; see `haversack.convert.inspect`."""
    check_model(model)
    _check_data(options)
    with private_folder() as private:
        arguments = {"model": _absolute(model), **_sendable(options, private)}
        found: Inspection = decode(Inspection, call("inspect", arguments, private, limits=limits, progress=progress))
    return found


def verify(
    artifact: Path, against: Path, *, limits: Limits | None = None, progress: Progress | None = None, **options: Any
) -> Checked:
    """Verify in a worker; see `haversack.convert.verify_artifact`."""
    check_model(artifact)
    check_model(against)
    _check_data(options)
    with private_folder() as private:
        arguments = {"artifact": _absolute(artifact), "against": _absolute(against), **_sendable(options, private)}
        checked: Checked = decode(Checked, call("verify", arguments, private, limits=limits, progress=progress))
    return dataclasses.replace(checked, artifact=str(artifact))


def run(
    artifact: Path,
    *,
    output: Path | None = None,
    force: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Ran:
    """Run an artifact or a bundle in a worker, and publish what it gives as the `.npz` that `output` names."""
    check_model(artifact)
    _check_data({"inputs": options.get("input")})
    if output is not None:
        if output.suffix != ".npz":
            raise UsageError(f"{output.name}: outputs are written as .npz")
        check_output(output, force=force)
    with private_folder(beside=output) as private:
        arguments = {
            "artifact": _absolute(artifact),
            "name": None if output is None else output.name,
            **_sendable(options, private),
        }
        ran: Ran = decode(Ran, call("run", arguments, private, limits=limits, progress=progress))
        if output is not None:
            publish([(private / "out" / output.name, output)], force=force)
    return dataclasses.replace(ran, artifact=str(artifact), written=None if output is None else str(output))


def bench(
    artifacts: Sequence[Path], *, limits: Limits | None = None, progress: Progress | None = None, **options: Any
) -> Bench:
    """Measure artifacts' and bundles' speed here, interleaved, in a worker."""
    for artifact in artifacts:
        check_model(artifact)
    with private_folder() as private:
        arguments = {"artifacts": [_absolute(path) for path in artifacts], **_sendable(options, private)}
        found: Bench = decode(Bench, call("bench", arguments, private, limits=limits, progress=progress))
    return found


def check(bundle: Path, *, budget: Path, baseline: Path | None = None, limits: Limits | None = None) -> BudgetCheck:
    """Hold a bundle against a budget in a worker; see `haversack.convert.checking`."""
    asked = read_budget(budget)  # what cannot be meant is said before anything is opened
    for path in (bundle, *([] if baseline is None else [baseline])):
        check_model(path)
    if asked.compares and baseline is None:
        raise UsageError(f"{asked.name} limits growth; say against which bundle with --baseline OLD.haversack")
    with private_folder() as private:
        arguments = {
            "bundle": _absolute(bundle),
            "budget": _absolute(budget),
            "baseline": None if baseline is None else _absolute(baseline),
        }
        found: BudgetCheck = decode(BudgetCheck, call("check", arguments, private, limits=limits))
    return dataclasses.replace(found, bundle=str(bundle), baseline="" if baseline is None else str(baseline))


def plan(
    source: Path,
    *,
    model: Path | None = None,
    output: Path | None = None,
    force: bool = False,
    limits: Limits | None = None,
    **options: Any,
) -> Plans:
    """Read the plans of a bundle or a file in a worker, and publish the text that was asked for as `output`."""
    for path in (source, *([] if model is None else [model])):
        check_model(path)
        if output is not None:
            _check_other(path, output)
    if output is not None:
        check_output(output, force=force)
    with private_folder(beside=output) as private:
        arguments = {
            "source": _absolute(source),
            "model": None if model is None else _absolute(model),
            "write": output is not None,
            **options,
        }
        found: Plans = decode(Plans, call("plan", arguments, private, limits=limits))
        if output is not None:
            (private / output.name).write_text(found.text, encoding="utf-8")
            publish([(private / output.name, output)], force=force)
    return dataclasses.replace(found, source=str(source), written=None if output is None else str(output))


def doctor(
    model: Path,
    *,
    written: Mapping[Path, Callable[[Diagnosis], str]] | None = None,
    force: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Diagnosis:
    """Examine a model in a worker; see `haversack.convert.diagnose`.

    Args:
        model: The source.
        written: Files to write of the diagnosis, and what they hold; an empty text is not written.
        force: Replace files that exist.
        limits: What the worker may use.
        progress: Hears how far it is.
        options: As `diagnose` takes them.
    """
    check_model(model)
    for path in written or {}:
        _check_other(model, path)
        check_output(path, force=force)
    _check_data(options)
    compress = Path(str(options.get("compress", "")))
    if compress.suffix == ".json":
        options["compress"] = _absolute(compress)
    with private_folder() as private:
        arguments = {"model": _absolute(model), **_sendable(options, private)}
        found: Diagnosis = decode(Diagnosis, call("doctor", arguments, private, limits=limits, progress=progress))
    for path, text in (written or {}).items():
        if said := text(found):
            with private_folder(beside=path) as private:
                (private / path.name).write_text(said, encoding="utf-8")
                publish([(private / path.name, path)], force=force)
    return found


def _absolute(path: str | Path) -> str:
    """The path as the worker, which works elsewhere, can open it; links are kept, so that names stay the user's."""
    return os.path.abspath(path)  # noqa: PTH100  (Path.absolute keeps `..`, Path.resolve follows links)


def _check_other(model: Path, output: Path) -> None:
    if output.exists() and output.resolve() == model.resolve():
        raise UsageError(f"the output is the model itself: {output}; name another one with -o")


def _check_data(options: Options) -> None:
    """Refuse data that is not there before anything long begins; `package.module:function` is for the worker."""
    for key in DATA_KEYS:
        spec = options.get(key)
        if not isinstance(spec, str | Path) or Path(spec).exists():
            continue
        module, colon, name = str(spec).partition(":")
        if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise DataError(f"no such data: {spec}")


def _sendable(options: Options, private: Path) -> dict[str, Any]:
    """Options as JSON: paths absolute, arrays in a file of the private folder."""
    sent: dict[str, Any] = {"here": str(Path.cwd())}
    for key, value in options.items():
        if isinstance(value, Mapping) and key in DATA_KEYS:
            import numpy as np

            np.savez(private / f"{key}.npz", **value)
            sent[key] = str(private / f"{key}.npz")
        elif hasattr(value, "to_json"):
            sent[key] = value.to_json()
        else:
            sent[key] = _absolute(value) if _names_file(key, value) else value
    return sent


def _names_file(key: str, value: object) -> bool:
    if key == "preprocess":
        return isinstance(value, str | Path) and str(value).endswith(".json")
    return isinstance(value, Path) or (isinstance(value, str) and key in (*DATA_KEYS, "input") and Path(value).exists())
