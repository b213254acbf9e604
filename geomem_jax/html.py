"""Pieces of a page: one HTML file that needs nothing outside itself.

Tables are sorted by the heading that is clicked, by a script in the page; without scripts they are plain tables.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from html import escape

from geomem_jax import plots

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 74rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.2rem; border-bottom: 1px solid #bbb; }
p, li, dd { max-width: 48rem; }
.verdict { border-left: 5px solid #0072b2; background: #f1f6fa; padding: .7rem 1rem; max-width: 52rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
.caption { font-size: .92rem; margin-bottom: .4rem; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
.words { text-align: left; white-space: normal; min-width: 8rem; max-width: 26rem; }
tbody th { font-weight: 400; }
thead th { border-bottom: 2px solid #555; white-space: normal; vertical-align: bottom; }
thead button { all: unset; cursor: pointer; }
thead button:focus-visible { outline: 2px solid #0072b2; }
thead [aria-sort=ascending] button::after { content: " ▲"; }
thead [aria-sort=descending] button::after { content: " ▼"; }
.settings td { overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; }
img { min-width: 46rem; max-width: 100%; height: auto; }
figcaption { max-width: 52rem; }
summary { cursor: pointer; margin-top: .8rem; color: #0b5c8f; }
dt { font-weight: 600; margin-top: .6rem; }
@media (max-width: 48rem) {
  .wide::before { content: "scrolls sideways →"; display: block; position: sticky; left: 0;
    font-size: .8rem; color: #555; }
}
"""

# Cells that begin with a number (10^4343 is one), after < or > if need be, go by it; others come last, by their text.
SORTING = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, column) => {
    const text = row.cells[column].textContent.trim();
    return [parseFloat(text.replace(/^[<>]\\s*/, "").replace(/^10\\^/, "1e")), text];
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending", sign = down ? -1 : 1;
      const rows = [...body.rows].map(row => [key(row, column), row]);
      rows.sort(([[a, s]], [[b, r]]) =>
        isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) || sign * s.localeCompare(r) : sign * ((a > b) - (a < b)));
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...rows.map(([, row]) => row));
    });
  });
}
"""

NUMBER = re.compile(r"[<>[]?\s*[-+−]?(\d|n/a|none|never)|no N\*|more than \d|t = ")


def _is_in_words(cells: Sequence[str]) -> bool:
    """Whether a column holds words: these are aligned to the left and may break, numbers are not."""
    return any(not NUMBER.match(cell) for cell in cells)


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "sortable") -> str:
    """Write a table that scrolls in its own box; every cell is escaped, the first of a row is its heading.

    Args:
      caption: above it.
      header: one heading per column.
      rows: as many cells each.
      kind: class of the table: ``"sortable"``, ``"settings"`` or ``"plain"``.
    """
    rows = list(rows)
    columns = [[row[at] for row in rows] for at in range(len(header))]
    # The names of rows are to the left whatever they are.
    words = [' class="words"' if at == 0 or _is_in_words(column) else "" for at, column in enumerate(columns)]
    head = "".join(f'<th scope="col"{mark}>{escape(cell)}</th>' for mark, cell in zip(words, header, strict=True))
    body = "".join(
        f'<tr><th scope="row"{words[0]}>{escape(first)}</th>'
        + "".join(f"<td{mark}>{escape(cell)}</td>" for mark, cell in zip(words[1:], rest, strict=True))
        + "</tr>"
        for first, *rest in rows
    )
    box = "scroll wide" if len(header) > 3 else "scroll"
    return (
        # Outside the box: a caption inside would be cut off with the table.
        f'<p class="caption">{escape(caption)}</p>'
        f'<div class="{box}" role="region" aria-label="{escape(caption)}" tabindex="0"><table class="{kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folded(summary: str, body: str) -> str:
    """Write what is shown when its summary is clicked; both are HTML."""
    return f"<details><summary>{summary}</summary>{body}</details>"


def figure(drawn: plots.Figure, alternative: str, reading: str, how: str) -> str:
    """Write a figure as a picture in the page.

    Args:
      drawn: the figure.
      alternative: text in its place.
      reading: one sentence, as HTML: what it shows.
      how: how to read it, folded, as HTML.
    """
    data = base64.b64encode(plots.png(drawn)).decode("ascii")
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(alternative)}">'
    # On a narrow screen the picture scrolls in its own box: shrunk to fit, its letters could not be read.
    image = f'<div class="scroll wide" role="region" aria-label="{escape(alternative)}" tabindex="0">{image}</div>'
    return f"<figure><figcaption>{reading}</figcaption>{image}{folded('How to read it', f'<p>{how}</p>')}</figure>"


# A number stays on the line of its unit or of the sign before it.
JOINED = re.compile(r"(?<=\d) (?=%)|(?<=\w) (?=(?:[=≥]|&[lg]t;) \d)|(?<=[=≥]) (?=\d)|(?<=&[lg]t;) (?=\d)")


def page(title: str, body: str) -> str:
    """Write a whole page; the title is escaped, the body is HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{JOINED.sub(chr(160), body)}</main><script>{SORTING}</script></body></html>\n"
    )
