"""The one tree of errors that facestage raises.

::

    FacestageError
    ├── ConfigError      an option or a combination of options that cannot work
    ├── SourceError      a camera, stream, video or folder that cannot be read
    ├── ModelError       weights, a model card or a detector that cannot be used
    ├── DeviceError      a compute device that was asked for and is not there
    └── ProtocolError    a message that a peer should not have sent

Every message says what happened, with which value, and what to do next. ``exit_code`` is the
process's exit status when the error ends a command.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DeviceError",
    "FacestageError",
    "ModelError",
    "ProtocolError",
    "SlowEngineWarning",
    "SourceError",
]


class FacestageError(Exception):
    """Base of all errors raised on purpose by facestage."""

    exit_code = 1


class ConfigError(FacestageError):
    """An option, or a combination of options, cannot work."""

    exit_code = 2


class SourceError(FacestageError):
    """A source could not be opened or read, or holds no frame."""

    exit_code = 4


class ModelError(FacestageError):
    """Weights, a model card or a detector file cannot be used."""

    exit_code = 5


class DeviceError(ModelError):
    """The compute device asked for does not exist on this machine."""


class ProtocolError(FacestageError):
    """A peer sent a message that the wire protocol does not allow."""


class SlowEngineWarning(UserWarning):
    """A network goes to the reference LRP engine, many times slower, for want of a fused rule."""
