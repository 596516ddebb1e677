"""Which kernels native onnxruntime has and onnxruntime-web has not, found by asking both for every operator and type.

    python -m benchmarks.browser_kernels              about a minute on two cores
    python -m benchmarks.browser_kernels --write      renew runtimes/haversack/runtimes/engines/browser/missing.py

For every operator of ONNX at every opset from 21 to 26, and every combination of the types that its schema allows (at
most MOST an operator), a model of that one node, its ranks open, is loaded natively; where that works, Chromium is
asked. Attributes without a default get a small value (ATTRIBUTES). What native onnxruntime does not load either, and
operators whose inputs are sequences, optionals or graphs, are not asked; their names are printed. bfloat16 is left out:
the page's own interface has no such tensor.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, defs, helper

import haversack.runtimes.engines.browser as browser
from haversack.runtimes.errors import EngineError

OPSETS = range(21, 27)
MOST = 200
TABLE = Path(str(browser.__file__)).with_name("missing.py")
TYPES = {
    f"tensor({name})": getattr(TensorProto, constant)
    for name, constant in {
        "float": "FLOAT", "double": "DOUBLE", "float16": "FLOAT16", "bool": "BOOL", "string": "STRING",
        "int4": "INT4", "uint4": "UINT4",
        **{f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    }.items()
}  # fmt: skip
ATTRIBUTES = {
    ("Einsum", "equation"): "i->i",
    ("DequantizeLinear", "output_dtype"): 0,
    ("TfIdfVectorizer", "mode"): "TF",
}


def models(schema: defs.OpSchema, opset: int) -> Iterator[tuple[tuple[str, ...], onnx.ModelProto]]:
    """One model for each combination of types of an operator: the types in the order of its inputs, and the model."""
    given = [each for each in schema.inputs if each.option != defs.OpSchema.FormalParameterOption.Optional]
    variables = {each.type_str: None for each in (*given, *schema.outputs)}
    allowed = {
        each.type_param_str: sorted(set(each.allowed_type_strs) & set(TYPES)) for each in schema.type_constraints
    }
    choices = [allowed.get(name, [name] if name in TYPES else []) for name in variables]
    for types in itertools.islice(itertools.product(*choices), MOST):
        bound = dict(zip(variables, types, strict=True))
        inputs = [
            helper.make_tensor_value_info(f"i{n}", TYPES[bound[each.type_str]], None) for n, each in enumerate(given)
        ]
        outputs = [
            helper.make_tensor_value_info(f"o{n}", TYPES[bound[each.type_str]], None)
            for n, each in enumerate(schema.outputs[: max(schema.min_output, 1)])
        ]
        node = helper.make_node(schema.name, [each.name for each in inputs], [each.name for each in outputs])
        for name, attribute in schema.attributes.items():
            if attribute.required:
                node.attribute.append(helper.make_attribute(name, _value(schema.name, name, attribute, bound)))
        graph = helper.make_graph([node], "g", inputs, outputs)
        model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])
        yield tuple(_short(bound[each.type_str]) for each in given) or tuple(map(_short, types)), model


def _value(op: str, name: str, attribute: defs.OpSchema.Attribute, bound: dict[str, str]) -> object:
    if name == "to":
        return TYPES[list(bound.values())[-1]]
    if (op, name) in ATTRIBUTES:
        return ATTRIBUTES[op, name]
    kinds = defs.OpSchema.AttrType
    return {kinds.INT: 1, kinds.INTS: [1], kinds.FLOAT: 1.0, kinds.FLOATS: [1.0], kinds.STRING: "a"}[attribute.type]


def _short(text: str) -> str:
    return text.removeprefix("tensor(").removesuffix(")")


def loads_natively(content: bytes) -> bool:
    """Whether native onnxruntime makes a session of it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's exceptions share no base class but Exception
        return False
    return True


def loads_in_chromium(content: bytes) -> str:
    """Why onnxruntime-web makes no session of it; empty where it does."""
    browser_ = browser.shared(browser.ORT, threads=1)
    import numpy as np

    try:
        browser_.ask({"do": "open", "id": 0}, [("model", np.frombuffer(content, np.uint8))], seconds=30)
        browser_.ask({"do": "close", "id": 0}, seconds=30)
    except EngineError as error:
        return str(error)
    return ""


def main() -> int:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", metavar="OP", help="only this operator")
    parser.add_argument("--write", action="store_true", help=f"renew {TABLE.name}")
    arguments = parser.parse_args()
    missing: dict[tuple[str, int], set[tuple[str, ...]]] = defaultdict(set)
    unasked: set[str] = set()
    asked = loaded = 0
    done: set[tuple[str, int]] = set()
    names = sorted({schema.name for schema in defs.get_all_schemas() if not schema.domain and not schema.deprecated})
    for opset, name in itertools.product(OPSETS, names):
        if arguments.k not in (None, name):
            continue
        try:
            schema = defs.get_schema(name, opset)
        except defs.SchemaError:
            continue
        if (name, schema.since_version) in done or schema.deprecated:
            continue
        done.add((name, schema.since_version))
        found = 0
        try:
            for types, model in models(schema, opset):
                content = model.SerializeToString()
                asked += 1
                if not loads_natively(content):
                    continue
                found += 1
                reason = loads_in_chromium(content)
                if reason:
                    missing[name, schema.since_version].add(types)
                    if "Could not find an implementation" not in reason:
                        print(f"{name} {types}: {reason}")
        except KeyError:
            pass
        loaded += found
        if not found:
            unasked.add(name)
        if sys.stderr.isatty():
            print(f"\r{opset} {name:40}", end="", file=sys.stderr, flush=True)
    facts = browser.shared(browser.ORT, threads=1).facts
    lacking = sum(map(len, missing.values()))
    print(f"{facts.runtime}: {asked:,} models, {loaded:,} load natively, {lacking:,} of these not there")
    print(f"not asked: {', '.join(sorted(unasked))}")
    for (name, since), types in sorted(missing.items()):
        print(f"{name} since {since}: {', '.join('/'.join(each) for each in sorted(types))}")
    if arguments.write:
        TABLE.write_text(table(facts.runtime, missing), encoding="utf-8")
    return 0


def table(runtime: str, missing: dict[tuple[str, int], set[tuple[str, ...]]]) -> str:
    """The table as a module."""
    import onnxruntime

    lines = [
        '"""Kernels of native onnxruntime that onnxruntime-web has not; written by `benchmarks.browser_kernels`."""',
        "",
        f'RUNTIME = "{runtime}"',
        f'NATIVE = "onnxruntime {onnxruntime.__version__}"',
        "",
        "MISSING: dict[tuple[str, int], frozenset[tuple[str, ...]]] = {",
    ]
    for (name, since), types in sorted(missing.items()):
        lines.append(f'    ("{name}", {since}): frozenset({{')
        lines += [f"        {each!r}," for each in sorted(types)]
        lines.append("    }),")
    lines += [
        "}",
        '"""By operator and the opset of its definition: ONNX\'s names of the types of its required inputs."""',
        "",
    ]
    return "\n".join(lines).replace("'", '"').replace('ONNX"s', "ONNX's")


if __name__ == "__main__":
    sys.exit(main())
