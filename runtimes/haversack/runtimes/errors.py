"""The error tree that every part of Haversack raises from.

Its root lives on the device side because `haversack.convert` may import `haversack.runtimes`, never the reverse.

    HaversackError                 anything a user can be told in one line
    ├── BundleError                a bundle or artifact that is damaged, unsafe or of an unknown version
    ├── EngineError                no engine for this artifact, or the engine refused or failed on it
    ├── FeedError                  inputs that do not fit the model: names, shapes, dtypes, NaN
    └── haversack.convert.errors   the workshop's branch of the tree
"""


class HaversackError(Exception):
    """An error whose message is one clear line: what is wrong, where, and what to do.

    Attributes:
        exit_code: What the command line exits with: 1, the work could not be done as asked; 2, bad input or usage.
    """

    exit_code = 1


class BundleError(HaversackError):
    """A bundle or artifact is damaged, unsafe to read, or of a schema version this runtime does not know."""

    exit_code = 2


class EngineError(HaversackError):
    """No installed engine runs the artifact, or the engine rejected it or failed while running it."""


class FeedError(HaversackError):
    """Inputs given to a model do not fit it: names, shapes, dtypes, or values that are not finite."""

    exit_code = 2
