"""Pieces of a page: one HTML file that needs nothing outside itself.

Tables are sorted by the heading that is clicked, by a script in the page; without scripts they are plain tables.
"""

import base64
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
th, td { padding: .25rem .4rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #555; white-space: normal; vertical-align: bottom; }
thead button { all: unset; cursor: pointer; }
thead button:focus-visible { outline: 2px solid #0072b2; }
thead [aria-sort=ascending] button::after { content: " ▲"; }
thead [aria-sort=descending] button::after { content: " ▼"; }
.settings td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; }
img { min-width: 46rem; max-width: 100%; height: auto; }
figcaption { max-width: 52rem; }
summary { cursor: pointer; margin-top: .8rem; }
dt { font-weight: 600; margin-top: .6rem; }
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


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "sortable") -> str:
    """Write a table that scrolls in its own box; every cell is escaped, the first of a row is its heading.

    Args:
      caption: above it.
      header: one heading per column.
      rows: as many cells each.
      kind: class of the table: ``"sortable"`` or ``"settings"``.
    """
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        # Outside the box: a caption inside would be cut off with the table.
        f'<p class="caption">{escape(caption)}</p>'
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table class="{kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(drawn: plots.Figure, alternative: str, caption: str) -> str:
    """Write a figure as a picture in the page; the caption is HTML, the alternative text is not."""
    data = base64.b64encode(plots.png(drawn)).decode("ascii")
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(alternative)}">'
    # On a narrow screen the picture scrolls in its own box: shrunk to fit, its letters could not be read.
    image = f'<div class="scroll" role="region" aria-label="{escape(alternative)}" tabindex="0">{image}</div>'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def page(title: str, body: str) -> str:
    """Write a whole page; the title is escaped, the body is HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main><script>{SORTING}</script></body></html>\n"
    )
