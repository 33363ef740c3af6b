"""What goes wrong through no fault of the code; the command line prints each as one line and exits with 2."""

from __future__ import annotations


class ClbenchError(Exception):
    """A user's mistake or a machine's limit: the message says what is wrong, what was expected, what to do."""


class UnknownNameError(ClbenchError):
    """No strategy, scenario, protocol, executor, tracker or model has this name."""


class ConfigError(ClbenchError, ValueError):
    """A value that is out of range or does not go with another; a ValueError, so that dataclasses may raise it."""


class DataError(ClbenchError):
    """A data file that is missing, truncated, or not what was read before."""


class CheckpointError(ClbenchError):
    """Weights that are missing or belong to another architecture."""


class IncompatibleError(ClbenchError):
    """A strategy, scenario or protocol that cannot be combined as asked; the message is the reason."""


class LeakError(ClbenchError):
    """A run that would tune on what is reported, or report what was tuned on."""


class DivergedError(ClbenchError):
    """The loss is no longer a finite number. The engine keeps the run and scores it as chance."""


class ResourceError(ClbenchError):
    """A run that needed more memory than there was; the command goes on with the others and exits with 1."""
