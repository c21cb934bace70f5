"""What a throttle is: one number in [0, 1], for the network, the bundle, the policies and the camera alike."""

from __future__ import annotations

from tnn_edge.errors import ThrottleRangeError

__all__ = ["check_throttle"]


def check_throttle(u: float, name: str = "throttle u") -> None:
    """Refuse what is no setting of the dial.

    Args:
        u: the setting.
        name: of it, for the message.

    Raises:
        ThrottleRangeError: u lies outside [0, 1] or is NaN.
    """
    if not 0.0 <= u <= 1.0:  # also false for NaN
        raise ThrottleRangeError(f"{name} must lie in [0, 1], got {u:g}")
