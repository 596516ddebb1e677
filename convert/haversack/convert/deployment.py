"""What an engineer needs beside an ONNX Runtime artifact to put it into an app; plain dataclasses, as `report`'s.

Nothing in here was run: it follows from onnxruntime's documentation and from the graph, and says so (`BASIS`).
"""

from __future__ import annotations

from dataclasses import dataclass

BASIS = "by documentation, not run here"


@dataclass(frozen=True)
class RuntimePackage:
    """A package that holds onnxruntime for one platform.

    Attributes:
        platform: Where it runs.
        manager: Whose package it is: `Maven`, `CocoaPods`, `Swift package`, `npm`.
        name: As that manager spells it.
        at_least: The oldest version that runs the artifact.
        known: The newest version at the time of writing.
        holds: Its operators and execution providers.
    """

    platform: str
    manager: str
    name: str
    at_least: str
    known: str
    holds: str


@dataclass(frozen=True)
class Left:
    """Nodes that a provider leaves to the CPU for one reason.

    Attributes:
        op: Their operator.
        count: How many.
        node: The first of them.
        reason: Why, as a clause.
    """

    op: str
    count: int
    node: str
    reason: str


@dataclass(frozen=True)
class ProviderFit:
    """How much of a graph one execution provider takes.

    Attributes:
        provider: Its name.
        platform: Where it is.
        nodes: In the graph that it is shown.
        taken: Those it takes.
        partitions: Runs of nodes that it takes in one piece; data passes to the CPU and back between them.
        left: What it leaves, most nodes first.
        source: The documentation that this follows.
        notes: What the user should know of it, one sentence each.
        basis: How this is known.
    """

    provider: str
    platform: str
    nodes: int
    taken: int
    partitions: int
    left: tuple[Left, ...]
    source: str
    notes: tuple[str, ...] = ()
    basis: str = BASIS


@dataclass(frozen=True)
class ReducedBuild:
    """A build of onnxruntime that runs this model's `.ort` and nothing else.

    Attributes:
        config: The file for `--include_ops_by_config`.
        operators: How many operators it names.
        kernels: Kernels of the CPU provider that it keeps.
        kernels_full: Kernels of the CPU provider in the full build, as the installed onnxruntime lists them.
        flags: Of onnxruntime's build script.
        known: What is known of its size, and what is not.
    """

    config: str
    operators: int
    kernels: int
    kernels_full: int
    flags: tuple[str, ...]
    known: str


@dataclass(frozen=True)
class Deployment:
    """How an ONNX Runtime artifact gets onto devices.

    Attributes:
        packages: One a platform.
        providers: One an execution provider; empty where the graph was too large to ask.
        reduced: A build for this model alone; None where there is no `.ort`.
    """

    packages: tuple[RuntimePackage, ...]
    providers: tuple[ProviderFit, ...]
    reduced: ReducedBuild | None = None
