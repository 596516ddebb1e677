"""Executing a Core ML program with NumPy.

Every op is computed in float32 and its result rounded to the dtype the program declares, once, as if the op were
exact: what an ideal device would give. A real one may keep more or fewer bits inside an op. Shapes and dtypes are
held against the declaration after every op, and the op where NaN or a float16 overflow first appears is recorded.

    evaluator = Evaluator(read_package(path))
    outputs = evaluator.run({"x": x})
    evaluator.anomalies                     # where numbers stopped being finite, if they did

A hook sees every op and may put other values in place of its outputs, so that each op can be judged alone on inputs
from elsewhere; `run_operation` executes a single op on given inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.plan import FAULTS, BlockPlan, Step, plan
from haversack.runtimes.engines.coreml.program import Operation, Program, ValueType
from haversack.runtimes.engines.coreml.registry import Context
from haversack.runtimes.errors import EngineError, FeedError

# Called after each op with its run-time inputs and its outputs, both by value name. A mapping that it returns
# replaces those outputs for every later op.
Hook = Callable[[Operation, Mapping[str, Any], Mapping[str, Any]], Mapping[str, Array] | None]
State = dict[str, Array]


@dataclass(frozen=True)
class Anomaly:
    """Numbers that stopped being finite.

    Attributes:
        operation: The op and its output, such as `exp 'y'`.
        kind: `NaN`, `float16 overflow` (finite in float32, infinite in float16) or `infinity`.
        count: How many elements.
    """

    operation: str
    kind: str
    count: int

    def __str__(self) -> str:
        return f"{self.kind} in {self.count} elements of {self.operation}"


class Evaluator:
    """One function of a program, ready to run.

    Args:
        program: From `program.read_package`.
        function: Its name; the default function when None.

    Attributes:
        program: As given.
        function: The function that runs.
        anomalies: Found by the last run, in order of execution; only the ops where they first appear.

    Raises:
        EngineError: An op or a parameter is not one the evaluator knows; all of them are named.
    """

    def __init__(self, program: Program, function: str | None = None) -> None:
        name = function or program.default_function
        if name not in program.functions:
            raise EngineError(f"the package has no function '{name}'; it has {', '.join(program.functions)}")
        self.program = program
        self.function = program.functions[name]
        self.anomalies: tuple[Anomaly, ...] = ()
        self._plan, self._constants = plan(self.function)
        self._steps = {output.name: step for step in _walk(self._plan) for output in step.operation.outputs}
        self._found: list[Anomaly] = []
        self._hook: Hook | None = None
        self._state: State = {}

    def variables(self) -> dict[str, ValueType]:
        """Return every run-time value, inputs first, with its declared type, in order of execution."""
        names = {item.name: item.type for item in self.function.inputs}
        for step in _walk(self._plan):
            names.update({output.name: output.type for output in step.operation.outputs})
        return names

    def operation(self, output: str) -> Operation:
        """Return the operation that produces a value.

        Raises:
            EngineError: No operation produces it.
        """
        return self._step(output).operation

    def new_state(self) -> State:
        """Return the model's states as they are before the first run: zeros."""
        return {
            item.name: np.zeros(tuple(size or 1 for size in item.type.shape or ()), item.type.storage)
            for item in self.function.inputs
            if item.type.kind == "state"
        }

    def run(
        self, feeds: Mapping[str, Array], *, hook: Hook | None = None, state: State | None = None
    ) -> dict[str, Any]:
        """Run the function once.

        Args:
            feeds: One array an input, in the exact dtype and shape that the program declares.
            hook: Called after each op.
            state: The states, changed in place; fresh ones when None.

        Returns:
            The outputs by name, in the order of the model's description: arrays; for a classifier, the label and
            the probabilities by label.

        Raises:
            FeedError: The feeds are not what the program declares.
            EngineError: An op failed, or gave another shape or dtype than declared.
        """
        environment = self._check(feeds)
        self._found, self._hook, self._state = [], hook, self.new_state() if state is None else state
        with np.errstate(all="ignore"):
            results = self._run_block(self._plan, environment)
        self.anomalies = tuple(self._found)
        named = dict(zip(self._plan.outputs, results, strict=True))
        described = [feature.name for feature in self.program.outputs]
        order = described if named.keys() == set(described) else list(named)
        return {name: named[name] for name in order}

    def run_operation(self, output: str, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run one operation alone.

        Args:
            output: One of the values it produces.
            feeds: Its run-time inputs by value name (`operation(output).inputs`); a constant may be left out.

        Returns:
            All its outputs by name, rounded to their declared dtypes.

        Raises:
            FeedError: An input is missing.
            EngineError: No operation produces `output`, or it failed.
        """
        step = self._step(output)
        missing = [name for name in step.reads if name not in feeds]
        if missing:
            raise FeedError(f"{step.operation} also needs {', '.join(missing)}")
        environment = {name: feeds[name] for name in step.reads}
        self._found, self._hook, self._state = [], None, self.new_state()
        with np.errstate(all="ignore"):
            self._run_step(step, environment)
        self.anomalies = tuple(self._found)
        return {item.name: environment[item.name] for item in step.operation.outputs}

    def _step(self, output: str) -> Step:
        if output not in self._steps:
            raise EngineError(f"no operation of the package produces '{output}'")
        return self._steps[output]

    def _check(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """Hold the feeds against the declared inputs."""
        wanted = {item.name: item.type for item in self.function.inputs if item.type.kind != "state"}
        if feeds.keys() != wanted.keys():
            raise FeedError(f"the model takes {', '.join(wanted) or 'nothing'}; given {', '.join(feeds) or 'nothing'}")
        for name, declared in wanted.items():
            array = feeds[name]
            if array.dtype != declared.storage or not _fits(array.shape, declared):
                raise FeedError(f"input '{name}' is {declared}; given {array.dtype}{list(array.shape)}")
        environment: dict[str, Any] = dict(feeds)
        environment.update({item.name: item.name for item in self.function.inputs if item.type.kind == "state"})
        return environment

    def _run_block(self, block: BlockPlan, environment: dict[str, Any]) -> tuple[Any, ...]:
        for step in block.steps:
            self._run_step(step, environment)
            for name in step.releases:
                environment.pop(name, None)
        return tuple(environment[name] if name in environment else self._constants[name] for name in block.outputs)

    def _run_step(self, step: Step, environment: dict[str, Any]) -> None:
        try:
            arguments = step.arguments(environment)
            if step.definition.context:
                arguments[step.definition.context] = self._context(step, environment)
            results = step.definition.function(**arguments)
        except EngineError as error:
            raise EngineError(f"{step.operation}: {error}") from error
        except FAULTS as error:
            raise EngineError(f"{step.operation} failed: {error}") from error
        outputs = step.operation.outputs
        if len(outputs) == 1 and not isinstance(results, tuple):
            results = (results,)
        elif results is None:
            results = ()
        if len(results) != len(outputs):
            raise EngineError(f"{step.operation} gave {len(results)} outputs, declared {len(outputs)}")
        finished = {
            output.name: self._finish(step, output.type, result, environment)
            for output, result in zip(outputs, results, strict=True)
        }
        environment.update(finished)
        if self._hook is not None:
            replaced = self._hook(step.operation, {name: environment[name] for name in step.reads}, finished)
            if replaced:
                environment.update({name: value for name, value in replaced.items() if name in finished})

    def _context(self, step: Step, environment: dict[str, Any]) -> Context:
        def runner(block: BlockPlan) -> Callable[..., tuple[Any, ...]]:
            def run(*values: Any) -> tuple[Any, ...]:
                environment.update(zip(block.inputs, values, strict=True))
                return self._run_block(block, environment)

            return run

        blocks = tuple(runner(block) for block in step.blocks)
        return Context(step.opset, tuple(output.type for output in step.operation.outputs), blocks, self._state)

    def _finish(self, step: Step, declared: ValueType, result: Any, environment: Mapping[str, Any]) -> Any:
        """Round a result to its declared dtype, hold it against the declaration, and look for NaN and overflow."""
        if declared.kind != "tensor" or declared.dtype == "string" or isinstance(result, (str, list, dict)):
            return result
        array: Array = np.asarray(result)
        rounded = array
        if array.dtype != declared.storage:
            same_kind = (array.dtype.kind == "f") == (declared.storage.startswith("float"))
            if not same_kind:
                raise EngineError(f"{step.operation} gave {array.dtype}, declared {declared}")
            rounded = array.astype(declared.storage)
        if not _fits(rounded.shape, declared):
            raise EngineError(f"{step.operation} gave the shape {list(rounded.shape)}, declared {declared}")
        if rounded.dtype.kind == "f" and not np.isfinite(rounded).all():
            self._report(step, array, rounded, environment)
        return rounded

    def _report(self, step: Step, exact: Array, rounded: Array, environment: Mapping[str, Any]) -> None:
        """Record NaN or infinity, unless an input of the op had it already."""
        inputs = [*(environment[name] for name in step.reads if name in environment), *step.constants.values()]
        floats = [value for value in inputs if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
        bad = np.isnan(rounded)
        if bad.any() and not any(np.isnan(value).any() for value in floats):
            self._found.append(Anomaly(str(step.operation), "NaN", int(bad.sum())))
        bad = np.isinf(rounded)
        if bad.any() and not any(np.isinf(value).any() for value in floats):
            overflow = rounded.dtype == np.float16 and np.isfinite(exact[bad]).any()
            self._found.append(
                Anomaly(str(step.operation), "float16 overflow" if overflow else "infinity", int(bad.sum()))
            )


def _fits(shape: tuple[int, ...], declared: ValueType) -> bool:
    """Say whether a shape is the declared one, where that is known."""
    if declared.shape is None:
        return True
    return len(shape) == len(declared.shape) and all(
        expected is None or size == expected for size, expected in zip(shape, declared.shape, strict=True)
    )


def _walk(block: BlockPlan) -> list[Step]:
    """Return the steps of a block and of the blocks nested in it."""
    steps = []
    for step in block.steps:
        steps.append(step)
        for nested in step.blocks:
            steps.extend(_walk(nested))
    return steps
