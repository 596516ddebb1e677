"""The table of ops against coremltools' own: every op, and the parameters of every version."""

from __future__ import annotations

from typing import Any

import pytest

from haversack.runtimes.engines.coreml.registry import load, op

# `const` is read, not executed; `_const_symbolic` never reaches a package; the dialect op is saved as
# `write_state` and `read_state`.
NOT_EXECUTED = {"const", "_const_symbolic"}


def versions(coremltools: Any) -> dict[str, list[Any]]:
    del coremltools
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    return {name: list(classes.values()) for name, classes in SSAOpRegistry.core_ops.items()}


def test_knows_every_op_that_coremltools_writes(coremltools: Any) -> None:
    assert versions(coremltools).keys() - NOT_EXECUTED <= load().keys()


def test_knows_every_parameter_of_every_version(coremltools: Any) -> None:
    ops = load()
    unknown = {
        (name, parameter)
        for name, classes in versions(coremltools).items()
        if name not in NOT_EXECUTED
        for definition in classes
        for parameter in definition.input_spec.input_types
        if not parameter.startswith("_") and parameter not in ops[name].kinds
    }
    assert not unknown


def test_requires_no_parameter_that_mil_makes_optional(coremltools: Any) -> None:
    ops = load()
    wrong = {
        (name, parameter)
        for name, classes in versions(coremltools).items()
        if name not in NOT_EXECUTED
        for parameter in ops[name].required
        if not any(
            parameter in d.input_spec.input_types and not d.input_spec.input_types[parameter].optional for d in classes
        )
    }
    assert not wrong


def test_refuses_to_register_an_op_twice() -> None:
    load()
    with pytest.raises(ValueError, match="twice"):
        op("relu")(lambda: None)
