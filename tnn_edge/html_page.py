"""A page of results in one file: no script, nothing fetched, every text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tnn_edge.errors import MissingExtraError
from tnn_edge.whole_file import check_writable, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["HtmlPage", "check_can_write_page"]

_KIND = "HTML file"

_TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6875; --line: #d9dfe5; --paper: #fff; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --soft: #9aa7b4; --line: #38424d; --paper: #14191f; --card: #1c232b; }
}
body { margin: 2.5rem auto; max-width: 68rem; padding: 0 1.5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .7rem; }
p { margin: .5rem 0; max-width: 50rem; }
p.lead { color: var(--soft); font-size: 1.05rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .9rem; border-bottom: 1px solid var(--line); text-align: right; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
tr.marked td { background: var(--card); font-weight: 600; }
figure { margin: 1rem 0; padding: .8rem; background: #fff; border: 1px solid var(--line); border-radius: .5rem; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { color: #5b6875; font-size: .9rem; margin-top: .4rem; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--soft); }
pre { overflow-x: auto; padding: 1rem; background: var(--card); border-radius: .5rem; font-size: .85rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for part in parts %}
{% if part.kind == "text" %}<p{% if part.is_lead %} class="lead"{% endif %}>{{ part.text }}</p>
{% elif part.kind == "heading" %}<h2>{{ part.text }}</h2>
{% elif part.kind == "table" %}<div class="scroll"><table>
<thead><tr>{% for heading in part.headings %}<th scope="col">{{ heading }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in part.rows %}<tr{% if loop.index0 == part.marked %} class="marked"{% endif %}>
{%- for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% elif part.kind == "picture" %}<figure role="img" aria-label="{{ part.caption }}">{{ part.svg | safe }}
<figcaption>{{ part.caption }}</figcaption></figure>
{% elif part.kind == "listing" %}<details><summary>{{ part.title }}</summary><pre>{{ part.text }}</pre></details>
{% endif %}
{% endfor %}
</body>
</html>
"""


@dataclass(frozen=True)
class _Text:
    text: str
    is_lead: bool
    kind = "text"


@dataclass(frozen=True)
class _Heading:
    text: str
    kind = "heading"


@dataclass(frozen=True)
class _Table:
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: int | None
    kind = "table"


@dataclass(frozen=True)
class _Picture:
    svg: str
    caption: str
    kind = "picture"


@dataclass(frozen=True)
class _Listing:
    title: str
    text: str
    kind = "listing"


class HtmlPage:
    """Parts in order, then `html()`.

    Args:
        title: of the page.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[_Text | _Heading | _Table | _Picture | _Listing] = []

    def add_text(self, text: str, *, is_lead: bool = False) -> None:
        """A paragraph."""
        self._parts.append(_Text(text, is_lead))

    def add_heading(self, text: str) -> None:
        """Begins a section."""
        self._parts.append(_Heading(text))

    def add_table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], *, marked: int | None = None) -> None:
        """A table; all columns to the right but the first.

        Args:
            headings: of the columns.
            rows: of cells.
            marked: row that stands out.
        """
        self._parts.append(_Table(headings, rows, marked))

    def add_figure(self, figure: Figure, caption: str) -> None:
        """A drawing of matplotlib, as SVG."""
        self._parts.append(_Picture(_svg(figure), caption))

    def add_listing(self, title: str, text: str) -> None:
        """A text as it is, behind its title."""
        self._parts.append(_Listing(title, text))

    def html(self) -> str:
        """The page."""
        from jinja2 import Environment

        template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_TEMPLATE)
        return template.render(title=self.title, parts=self._parts)

    def write(self, path: Path) -> None:
        """Write the page; a file that is there is replaced in one step, or stays as it is.

        Raises:
            TnnEdgeError: it could not be written.
        """
        write_whole(path, self.html().encode(), _KIND)


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


def _svg(figure: Figure) -> str:
    """The drawing's <svg> element; text in it stays text."""
    import io

    import matplotlib as mpl

    buffer = io.StringIO()
    # A fixed salt and no date: the same numbers give the same page.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tnn_edge"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
