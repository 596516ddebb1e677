"""The workshop's branch of the error tree.

HaversackError (haversack.runtimes.errors)
├── UsageError           exit 2: an option, a path or a combination that cannot be meant
│   ├── SourceError      exit 2: a model file that is missing, damaged or of an unknown format
│   └── DataError        exit 2: calibration or evaluation data that does not fit the model
├── UnsupportedError     exit 1: the target cannot hold the model; carries every blocker at once
├── VerificationError    exit 1: an artifact was executed and does not reproduce its source
├── BudgetError          exit 1: no variant fits what the user allows
└── WorkerError          exit 1: the process that opened a model crashed, hung or ran out of memory
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from haversack.runtimes.errors import HaversackError

OUT_OF_MEMORY = ("failed to map segment", "Cannot allocate memory", "bad_alloc", "bad allocation", "out of memory")
"""How libraries, the dynamic linker and the system say that there is no memory left, when not by MemoryError."""


class UsageError(HaversackError):
    """An option, a path or a combination of both that cannot be what the user means."""

    exit_code = 2


class SourceError(UsageError):
    """A model file is missing, damaged, of an unknown format, or needs an extra that is not installed."""


class DataError(UsageError):
    """Calibration or evaluation data is missing, damaged, or does not fit the model's inputs."""


@dataclass(frozen=True)
class Blocker:
    """One reason why a target cannot hold a model.

    Attributes:
        node: Name of the node (or input, output) that blocks.
        op: Its operator, such as `Unique`.
        reason: What the target lacks, in one clause.
        remedy: The smallest edit that would help.
    """

    node: str
    op: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.node} ({self.op}): {self.reason}; {self.remedy}"


class UnsupportedError(HaversackError):
    """A target cannot hold the model.

    Attributes:
        target: The target's name.
        blockers: Every reason, not only the first.
    """

    def __init__(self, target: str, blockers: Sequence[Blocker]):
        self.target = target
        self.blockers = tuple(blockers)
        more = f" (and {len(blockers) - 1} more: haversack inspect lists them)" if len(blockers) > 1 else ""
        super().__init__(f"{target} cannot hold this model: {blockers[0]}{more}")


class VerificationError(HaversackError):
    """An artifact was executed and does not reproduce its source within the recipe's contract."""


class BudgetError(HaversackError):
    """No measured variant fits the budget."""


class WorkerError(HaversackError):
    """The worker process that opened a model crashed, hung or ran out of memory."""
