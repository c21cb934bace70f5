"""One HTML file that needs nothing else: no script, no style sheet, no picture beside it.

Whatever is put into a page is text and shown as such: jinja escapes it. It is written whole or not at all.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tnn_edge.errors import MissingExtraError
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

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5c6b7a; --line: #d9e0e7; --paper: #ffffff; --card: #f4f7fa;
  --accent: #0b7285; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --soft: #9aa7b4; --line: #33404d; --paper: #12181f; --card: #1a222b; --accent: #4dc3d6; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 1.2rem; margin: 44px 0 8px; padding-top: 20px; border-top: 1px solid var(--line); }
p { margin: 8px 0; max-width: 78ch; }
.subtitle, figcaption, caption, .note { color: var(--soft); }
.subtitle { font-size: 1.05rem; max-width: none; }
figure { margin: 20px 0; }
figure img { display: block; width: 100%; height: auto; }
figcaption, caption, .note { font-size: 0.88rem; line-height: 1.45; }
caption { caption-side: bottom; text-align: left; padding-top: 8px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 14px; margin: 24px 0;
  padding: 0; list-style: none; }
.tiles li { background: var(--card); border-radius: 10px; padding: 14px 16px; border-top: 3px solid var(--accent); }
.tiles strong { display: block; font-size: 1.7rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tiles span { display: block; }
.scroll { overflow-x: auto; margin: 18px 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 0.94rem; }
th, td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; font-size: 0.84rem; vertical-align: bottom; white-space: normal; }
tr.strong td { font-weight: 650; background: var(--card); }
pre { background: var(--card); border-radius: 8px; padding: 14px 16px; overflow-x: auto; font-size: 0.82rem;
  line-height: 1.45; }
summary { cursor: pointer; color: var(--accent); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 12px 0; }
dt { color: var(--soft); }
dd { margin: 0; }
@media print { details > * { display: block; } }
"""

_TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
{% if subtitle %}<p class="subtitle">{{ subtitle }}</p>
{% endif %}
{% for part in parts %}
{% if part.kind == "heading" %}
<h2>{{ part.text }}</h2>
{% elif part.kind == "text" %}
<p{% if part.is_note %} class="note"{% endif %}>{{ part.text }}</p>
{% elif part.kind == "tiles" %}
<ul class="tiles">
{% for tile in part.tiles %}
<li><span>{{ tile[0] }}</span><strong>{{ tile[1] }}</strong><span class="note">{{ tile[2] }}</span></li>
{% endfor %}
</ul>
{% elif part.kind == "table" %}
<div class="scroll"><table>
{% if part.caption %}<caption>{{ part.caption }}</caption>
{% endif %}
<thead><tr>{% for cell in part.headings %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in part.rows %}
<tr{% if loop.index0 in part.strong_rows %} class="strong"{% endif %}>\
{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% elif part.kind == "facts" %}
<dl>
{% for name, value in part.facts %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
{% elif part.kind == "picture" %}
<figure><img src="data:{{ part.media_type }};base64,{{ part.data }}" alt="{{ part.alt }}">
{% if part.caption %}<figcaption>{{ part.caption }}</figcaption>
{% endif %}</figure>
{% else %}
<details><summary>{{ part.summary }}</summary><pre>{{ part.text }}</pre></details>
{% endif %}
{% endfor %}
</main>
</body>
</html>
"""


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
    try:
        import jinja2  # noqa: F401 -- only whether they are there
        import matplotlib.figure  # noqa: F401
    except ImportError as err:
        raise MissingExtraError(f"a page needs jinja2 and matplotlib ({err}): pip install 'tnn-edge[plot]'") from err
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
    return environment.from_string(_TEMPLATE)


def _style() -> Any:
    import markupsafe

    return markupsafe.Markup(_STYLE)  # noqa: S704 -- our own constant


def _allowed(value: Any) -> Any:
    """A text without the characters that HTML forbids."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value) if type(value) is str else value
