"""Artifacts with states: run as the function that the model is, and in a loop as an app runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from haversack.convert.errors import VerificationError
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.verify.compare import distance
from haversack.convert.verify.edges import Edges
from haversack.convert.verify.execute import Samples

if TYPE_CHECKING:
    from haversack.convert.verify.judge import Subject

STEPS = 8
"""Calls in a row that are compared with the model in a loop, each fed what the one before left."""


def judge_states(subject: Subject, edges: Edges, samples: Samples) -> str:
    """Call an artifact several times, from states of zeros on, and compare each call with the model in a loop.

    What the artifact leaves in its states is never replaced, so its roundings add up as they do in an app.

    Args:
        subject: The artifact.
        edges: It, opened.
        samples: What each call is fed beside the states; repeated where there are fewer than calls.

    Returns:
        What was run, as a phrase; empty for an artifact without states.

    Raises:
        VerificationError: A call gives something else than the model.
    """
    states, limit = subject.options.states, subject.contract.max_relative
    if not states:
        return ""
    model = Evaluator(subject.model)
    own = {name: np.zeros_like(samples.feeds[0][name]) for name in states}
    artifact = dict(own)
    for step in range(STEPS):
        feeds = samples.feeds[step % len(samples)]
        wanted, found = model.run({**feeds, **own}), edges.run({**feeds, **artifact})
        for name, value in wanted.items():
            far = distance(value, found[name])
            if limit is not None and not far.relative <= limit:
                raise VerificationError(
                    f"in call {step + 1} of a loop, {name} differs from the model in a loop: relative error "
                    f"{far.relative:.2e}, {limit:g} allowed"
                )
        own = {before: wanted[after] for before, after in states.items()}
        artifact = {before: found[after] for before, after in states.items()}
    return f"and in a loop of {STEPS} calls"
