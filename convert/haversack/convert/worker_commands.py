"""What a worker can do: one function a command, from JSON-able arguments to a report as JSON.

Every model and artifact is copied into the private folder first; what is made lies in its `out` when the job is done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from haversack.convert.report import encode
from haversack.convert.worker_stage import stage

Progress = Callable[[float, str], None]


def run(command: str, arguments: dict[str, Any], private: Path, progress: Progress) -> Any:
    """Do `command` and return its report as JSON.

    Args:
        command: A key of `COMMANDS`.
        arguments: Its keyword arguments.
        private: The worker's folder.
        progress: Hears how far it is.
    """
    here = arguments.pop("here", None)
    if here is not None and any(_names_function(value) for value in arguments.values()):
        sys.path.append(here)  # DATA may be `package.module:function` of the user's own project.
    if isinstance(arguments.get("preprocess"), dict):
        from haversack.runtimes.preprocess import Preprocess

        arguments["preprocess"] = Preprocess.from_json(arguments["preprocess"])
    return encode(COMMANDS[command](private, progress, **arguments))


def _convert(private: Path, progress: Progress, *, model: str, name: str, **options: Any) -> Any:
    from haversack.convert.pipeline import convert

    return convert(_staged(model, private), output=_out(private) / name, progress=progress, **options)


def _pack(private: Path, progress: Progress, *, model: str, name: str, **options: Any) -> Any:
    from haversack.convert.packing import pack

    return pack(_staged(model, private), output=_out(private) / name, progress=progress, **options)


def _inspect(private: Path, progress: Progress, *, model: str, **options: Any) -> Any:
    from haversack.convert.inspection import inspect

    return inspect(_staged(model, private), progress=progress, **options)


def _verify(private: Path, progress: Progress, *, artifact: str, against: str, **options: Any) -> Any:
    from haversack.convert.verify.artifact import verify_artifact

    copies = _staged(artifact, private, "artifact"), _staged(against, private)
    return verify_artifact(*copies, progress=progress, **options)


def _run(private: Path, progress: Progress, *, artifact: str, name: str | None, **options: Any) -> Any:
    from haversack.convert.field import run as run_artifact

    output = None if name is None else _out(private) / name
    return run_artifact(_staged(artifact, private), output=output, progress=progress, **options)


def _bench(private: Path, progress: Progress, *, artifacts: Sequence[str], **options: Any) -> Any:
    from haversack.convert.field import bench

    copies = [_staged(path, private, f"artifact{index}") for index, path in enumerate(artifacts)]
    return bench(copies, names=[Path(path).name for path in artifacts], progress=progress, **options)


def _check(private: Path, progress: Progress, *, bundle: str, budget: str, baseline: str | None) -> Any:  # noqa: ARG001
    from haversack.convert.checking import check

    old = None if baseline is None else _staged(baseline, private, "baseline")
    return check(_staged(bundle, private), budget=budget, baseline=old)


def _plan(private: Path, progress: Progress, *, source: str, model: str | None, **options: Any) -> Any:  # noqa: ARG001
    from haversack.convert.plans import plans

    trained = None if model is None else _staged(model, private, "trained")
    return plans(_staged(source, private), model=trained, **options)


def _doctor(private: Path, progress: Progress, *, model: str, **options: Any) -> Any:
    from haversack.convert.doctor.diagnose import diagnose

    return diagnose(_staged(model, private), progress=progress, **options)


COMMANDS: dict[str, Callable[..., Any]] = {
    "convert": _convert,
    "pack": _pack,
    "inspect": _inspect,
    "verify": _verify,
    "run": _run,
    "bench": _bench,
    "check": _check,
    "plan": _plan,
    "doctor": _doctor,
}


def _staged(path: str, private: Path, folder: str = "model") -> Path:
    return stage(Path(path), private / folder)


def _out(private: Path) -> Path:
    folder = private / "out"
    folder.mkdir(exist_ok=True)
    return folder


def _names_function(value: object) -> bool:
    return isinstance(value, str) and ":" in value and not Path(value).exists()
