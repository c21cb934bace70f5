"""What a page looks like: its style, light and dark, and the frame that its parts are put into."""

from __future__ import annotations

__all__ = ["STYLE", "TEMPLATE"]

STYLE = """
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

TEMPLATE = """\
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
