"""A page in one file: it fetches nothing, runs nothing, and shows every text as text."""

from __future__ import annotations

import base64
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tnn_edge.errors import InputError, MissingExtraError, TnnEdgeError
from tnn_edge.html_page import Page, check_can_write_page, figure_svg, write_page

pytest.importorskip("jinja2", reason="jinja2 is not installed")

HOSTILE = "<script>alert(1)</script> \" ' & {{ 7 * 7 }} </pre></table>"

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Reads a page: its tags, the text of each, its attributes; tags that close what is not open are errors."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.text.setdefault(tag, [])
        if tag not in VOID:
            self._open.append(tag)
            self.text[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.text[self._open[-1]][-1] += data


def page_of(text: str) -> Page:
    """A page whose every text is this one."""
    page = Page(text, text)
    page.add_heading(text)
    page.add_text(text)
    page.add_text(text, is_note=True)
    page.add_tiles([(text, text, text)])
    page.add_table([text, text], [[text, text], [text, text]], caption=text, strong_rows=[1])
    page.add_facts([(text, text)])
    page.add_picture(PNG, alt=text, caption=text)
    page.add_file(text, text)
    return page


def test_every_text_is_shown_as_text() -> None:
    html = page_of(HOSTILE).html()
    read = Reader(html)
    assert "script" not in read.tags
    for tag, n in {"title": 1, "h1": 1, "h2": 1, "p": 3, "th": 2, "td": 4, "dt": 1, "dd": 1, "pre": 1}.items():
        assert read.text[tag] == [HOSTILE] * n
    for tag in ("caption", "figcaption", "summary", "strong"):
        assert read.text[tag] == [HOSTILE]
    assert ("alt", HOSTILE) in read.attributes


def test_a_page_fetches_nothing_and_runs_nothing() -> None:
    read = Reader(page_of("text").html())
    assert {"script", "link", "iframe", "object", "a", "form", "base"}.isdisjoint(read.tags)
    names = {name for name, _ in read.attributes}
    assert {"href", "srcset", "style"}.isdisjoint(names)
    assert not any(name.startswith("on") for name in names)
    assert [value[:22] for name, value in read.attributes if name == "src"] == ["data:image/png;base64,"]
    assert "url(" not in read.text["style"][0]
    assert "@import" not in read.text["style"][0]


def test_parts_come_in_the_order_in_which_they_were_added() -> None:
    page = Page("title")
    for word in ("one", "two", "three"):
        page.add_heading(word)
        page.add_text(f"about {word}")
    read = Reader(page.html())
    assert read.tags[-6:] == ["h2", "p"] * 3
    assert read.text["h2"] == ["one", "two", "three"]


def test_a_strong_row_stands_out_alone() -> None:
    page = Page("title")
    page.add_table(["a"], [["0"], ["1"], ["2"]], strong_rows=[1])
    assert page.html().count('<tr class="strong"><td>1</td></tr>') == 1
    assert page.html().count("<tr><td>") == 2


def test_what_html_forbids_is_replaced() -> None:
    page = Page("a\x00b\x1b[31m\udcffc\td")
    assert Reader(page.html()).text["h1"] == ["a\ufffdb\ufffd[31m\ufffdc\td"]
    page.html().encode()  # a surrogate would raise


def test_a_picture_is_part_of_the_page() -> None:
    page = Page("title")
    page.add_picture(PNG, alt="a dot")
    source = dict(Reader(page.html()).attributes)["src"]
    assert base64.b64decode(source.partition(",")[2]) == PNG


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be a PNG or an SVG file, got one that begins with b'GIF89a'"):
        Page("title").add_picture(b"GIF89a", alt="a dot")


def test_a_drawing_follows_the_reader_s_choice_of_light_or_dark() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0], color="#c0ffee")
    axes.set_title("\u4f60")  # no letter of this font: that is no reason to warn
    svg = figure_svg(figure)
    assert svg == figure_svg(figure)
    assert b"prefers-color-scheme:dark" in svg
    assert b"#000000" not in svg
    assert b"#ffffff" not in svg
    assert b"stroke: #c0ffee" in svg
    assert b"stroke: var(--ink)" in svg
    page = Page("title")
    page.add_picture(svg, alt="a line")
    assert dict(Reader(page.html()).attributes)["src"].startswith("data:image/svg+xml;base64,")


def test_a_page_that_cannot_be_written_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "page.html"
    path.write_text("an older one")
    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(TnnEdgeError, match=r"page\.html cannot be written \(No space left on device\)"):
        write_page(path, Page("title"))
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "an older one"


def test_a_page_is_written_as_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page(path, Page("Z\u00fcrich"))
    assert Reader(path.read_text("utf-8")).text["title"] == ["Z\u00fcrich"]


def test_where_no_page_can_be_is_told_before_the_work(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    check_can_write_page(tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"folder .*nowhere does not exist; make it first"):
        check_can_write_page(tmp_path / "nowhere" / "page.html")
    with pytest.raises(InputError, match=r"is a folder, a device or a pipe; name another HTML file"):
        check_can_write_page(tmp_path)


@pytest.mark.parametrize("name", ["jinja2", "matplotlib"])
def test_without_its_packages_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"a page needs jinja2 and matplotlib .*pip install 'tnn-edge\[plot\]'"):
        check_can_write_page(tmp_path / "page.html")


def test_the_check_before_a_long_run_loads_nothing_of_what_draws_at_its_end(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tnn_edge.html_page import check_can_write_page\n"
        "check_can_write_page(Path(sys.argv[1]))\n"
        "print(sorted({'matplotlib', 'jinja2'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "page.html")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
