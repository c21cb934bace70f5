"""Every error this package raises on purpose.

TnnEdgeError
├── ThrottleRangeError   u outside [0, 1] or NaN               (ValueError)
├── ConfigError          a policy or configuration file that does not hold (ValueError)
├── DeviceError          a battery or sensor that must be there and is not (OSError)
├── InputError           an array, a gate vector or an option that does not fit (ValueError)
├── LimitError           a limit on time, energy or accuracy that no operating point meets (ValueError)
├── BundleError          a bundle that is damaged or unsound   (ValueError)
│   └── SchemaError      a manifest this version cannot read   (ValueError)
├── RunError             a training run that cannot be used    (ValueError)
├── DatasetError         a data folder without what is needed  (ValueError)
├── SourceError          a camera, video or folder that fails  (OSError)
├── PlanError            plans that cannot be built or run     (RuntimeError)
├── ProviderError        a device that was asked for and is not there (RuntimeError)
├── VerificationError    outputs that differ from what they must be   (RuntimeError)
└── MissingExtraError    a package that an extra would install (ImportError)
"""

__all__ = [
    "BundleError",
    "ConfigError",
    "DatasetError",
    "DeviceError",
    "InputError",
    "LimitError",
    "MissingExtraError",
    "PlanError",
    "ProviderError",
    "RunError",
    "SchemaError",
    "SourceError",
    "ThrottleRangeError",
    "TnnEdgeError",
    "VerificationError",
]


class TnnEdgeError(Exception):
    """Base of all errors of this package."""


class ThrottleRangeError(TnnEdgeError, ValueError):
    """The throttle u lies outside [0, 1] or is NaN."""


class ConfigError(TnnEdgeError, ValueError):
    """A policy or configuration file is missing, or does not hold; the message has one line for each fault."""


class DeviceError(TnnEdgeError, OSError):
    """A battery or sensor that must be there is not, or cannot be read."""


class InputError(TnnEdgeError, ValueError):
    """An input array has the wrong shape or dtype, a gate vector does not fit the bundle, or an option the others."""


class LimitError(TnnEdgeError, ValueError):
    """A limit on time, energy or accuracy is no limit, cannot be told, or no operating point meets it."""


class BundleError(TnnEdgeError, ValueError):
    """A bundle is missing, damaged or unsound."""


class SchemaError(BundleError):
    """A manifest does not fit the schema that this version reads."""


class RunError(TnnEdgeError, ValueError):
    """A training run's folder or recipe cannot be used."""


class DatasetError(TnnEdgeError, ValueError):
    """A data folder does not hold the expected tree."""


class SourceError(TnnEdgeError, OSError):
    """A camera, video or image folder cannot be read."""


class PlanError(TnnEdgeError, RuntimeError):
    """Plans cannot be built, stored or run."""


class ProviderError(TnnEdgeError, RuntimeError):
    """An execution provider was asked for and cannot be had."""


class VerificationError(TnnEdgeError, RuntimeError):
    """A bundle's outputs differ from what they must be."""


class MissingExtraError(TnnEdgeError, ImportError):
    """A package is missing that one of the extras installs."""
