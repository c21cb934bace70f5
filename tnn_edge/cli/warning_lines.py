"""What the library logs, told to whoever runs a command."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tnn_edge.printable import printable

__all__ = ["warnings_told"]

_LOGGER = "tnn_edge"


class _Teller(logging.Handler):
    """Passes each warning on as one line."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # a stderr that is lost costs no run
            self._tell(f"warning: {printable(record.getMessage())}")


@contextmanager
def warnings_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell what the library warns of, while the context lasts; inside another such context, in place of it.

    Args:
        tell: takes a line.
    """
    logger = logging.getLogger(_LOGGER)
    teller = _Teller(tell)
    outer = [handler for handler in logger.handlers if isinstance(handler, _Teller)]
    for handler in outer:
        logger.removeHandler(handler)
    logger.addHandler(teller)
    try:
        yield
    finally:
        logger.removeHandler(teller)
        for handler in outer:
            logger.addHandler(handler)
