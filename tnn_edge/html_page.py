"""One HTML file that needs nothing else: no script, no style sheet, no picture beside it.

Whatever is put into a page is text and shown as such: jinja escapes it. It is written whole or not at all.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tnn_edge.errors import MissingExtraError
from tnn_edge.html_template import STYLE, TEMPLATE
from tnn_edge.whole_file import check_writable, write_whole

if TYPE_CHECKING:
    import jinja2
    from matplotlib.figure import Figure

__all__ = ["Page", "check_can_write_page", "figure_svg", "write_page"]

_KIND = "HTML file"

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What HTML does not allow in a text."""

_MEDIA_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"<?xml": "image/svg+xml", b"<svg": "image/svg+xml"}

_INK = b"<style>svg{fill:var(--ink)}:root{--ink:#33414f}@media(prefers-color-scheme:dark){:root{--ink:#c3ccd5}}</style>"


class Page:
    """A page in the making; what is added comes below what was there.

    Args:
        title: of the page.
        subtitle: a line below it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self._title, self._subtitle = title, subtitle
        self._parts: list[dict[str, Any]] = []

    def add_heading(self, text: str) -> None:
        """The heading of a section."""
        self._parts.append({"kind": "heading", "text": text})

    def add_text(self, text: str, *, is_note: bool = False) -> None:
        """A paragraph; a note is set smaller."""
        self._parts.append({"kind": "text", "text": text, "is_note": is_note})

    def add_tiles(self, tiles: Sequence[tuple[str, str, str]]) -> None:
        """Figures to be seen first: what it is, the figure, a note."""
        self._parts.append({"kind": "tiles", "tiles": tiles})

    def add_table(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        caption: str = "",
        strong_rows: Sequence[int] = (),
    ) -> None:
        """A table, all columns to the right but the first.

        Args:
            headings: one for each column.
            rows: cells as they are to be read.
            caption: below the table.
            strong_rows: indices of the rows that stand out.
        """
        part = {"headings": headings, "rows": rows, "caption": caption, "strong_rows": strong_rows}
        self._parts.append({"kind": "table", **part})

    def add_facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Names with their values, one a line."""
        self._parts.append({"kind": "facts", "facts": facts})

    def add_picture(self, image: bytes, *, alt: str, caption: str = "") -> None:
        """A picture, which becomes part of the file.

        Args:
            image: a PNG or SVG file.
            alt: what it shows, for those who do not see it.
            caption: below the picture.
        """
        media_type = next((kind for start, kind in _MEDIA_TYPES.items() if image.startswith(start)), None)
        if media_type is None:
            raise ValueError(f"image must be a PNG or an SVG file, got one that begins with {image[:8]!r}")
        data = base64.b64encode(image).decode("ascii")
        self._parts.append({"kind": "picture", "data": data, "media_type": media_type, "alt": alt, "caption": caption})

    def add_file(self, summary: str, text: str) -> None:
        """A text that opens on a click, in letters of one width."""
        self._parts.append({"kind": "file", "summary": summary, "text": text})

    def html(self) -> str:
        """The page."""
        return _compiled().render(title=self._title, subtitle=self._subtitle, style=_style(), parts=self._parts)


def figure_svg(figure: Figure) -> bytes:
    """A drawing of matplotlib as SVG for a page, light or dark: what is black becomes the colour of the page's text.

    Letters become paths, for a page has no say over the fonts in its pictures. The same figure gives the same bytes.
    """
    import matplotlib as mpl

    file = io.BytesIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "tnn_edge"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script without letters in the font
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    svg = file.getvalue()
    head = re.search(rb"<svg[^>]*>", svg)
    assert head is not None
    return head[0] + _INK + svg[head.end() :].replace(b"#000000", b"var(--ink)")


def check_can_write_page(path: Path) -> None:
    """Find out before a long run whether its page could be made and written.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
        InputError: the folder of `path` is not there, or `path` is no regular file.
        TnnEdgeError: no file can be made there.
    """
    # Not imported: a camera that runs for months would carry 57 MB of them until its page is drawn.
    if lacking := [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]:
        absent = " and ".join(lacking)
        raise MissingExtraError(f"a page needs jinja2 and matplotlib (no {absent}): pip install 'tnn-edge[plot]'")
    check_writable(path, _KIND)


def write_page(path: Path, page: Page) -> None:
    """Write a page; a file that is there is replaced in one step, or stays as it is.

    Raises:
        TnnEdgeError: it could not be written.
    """
    write_whole(path, page.html().encode(), _KIND)


def _compiled() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=_allowed
    )
    return environment.from_string(TEMPLATE)


def _style() -> Any:
    import markupsafe

    return markupsafe.Markup(STYLE)  # noqa: S704 -- our own constant


def _allowed(value: Any) -> Any:
    """A text without the characters that HTML forbids."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value) if type(value) is str else value
