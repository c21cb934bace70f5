"""Text that is safe to print: file names and bundles hold whatever their makers wrote into them."""

from __future__ import annotations

import re

__all__ = ["UNPRINTABLE", "printable"]

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What steers a terminal, ends a line, turns the direction of writing, or is no Unicode."""


def printable(text: str) -> str:
    r"""`text` with every unprintable character shown as an escape: `\x1b`, and `\xff` for a byte that is no UTF-8."""
    return UNPRINTABLE.sub(lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    # Python keeps such a byte of a file's name as a surrogate (PEP 383).
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(chr(code))[1:-1]
