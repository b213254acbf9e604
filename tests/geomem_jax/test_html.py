"""Tables of a page are sorted by the heading that is clicked; pages that need a browser are left out without one."""

import re
import shutil
import subprocess

import pytest

from geomem_jax import html

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
ROWS = [("a", "< 2", "10^4343"), ("b", "7.39 [6, 9]", "1700"), ("c", "> 16384", "12"), ("d", "n/a", "never")]
# Clicks, and after each the first letters of the rows, which end up in the title.
CLICKING = """<script>
const buttons = document.querySelectorAll("thead button"), orders = [];
for (const column of [1, 1, 2, 0, 0]) {
  buttons[column].click();
  orders.push([...document.querySelectorAll("tbody tr")].map(row => row.cells[0].textContent).join(""));
}
document.title = orders.join(" ");
</script></body>"""


def test_a_page_escapes_its_title_and_cells():
    page = html.page("a <b>", html.table("<i>", ("<u>", "x"), [("<s>", "&")]))
    assert "<title>a &lt;b&gt;</title>" in page
    assert not re.search("<[bius]>", page)


def test_words_are_to_the_left_and_numbers_are_not():
    numbers = ("1", "< 2", "-3.5 [1, 2]", "more than 8", "n/a", "no N*", "t = 0.1", "[-9, 9]")
    page = html.table("", ("name", "x", "y"), [(number, number, "agrees") for number in numbers])
    assert page.count('<th scope="row" class="words">') == page.count('<td class="words">agrees</td>') == len(numbers)
    assert page.count("<td>") == len(numbers)
    assert '<td class="words">1</td>' in html.table("", ("name", "x"), [("a", "1"), ("b", "undecided")])


def test_a_number_stays_with_its_unit_and_its_sign():
    page = html.page("", "<p>95 % at t = 0.1, N &lt; 20 &gt; 3, a = b; 4</p>")
    assert "<p>95\xa0% at t\xa0=\xa00.1, N\xa0&lt;\xa020\xa0&gt;\xa03, a = b; 4</p>" in page


def test_what_is_folded_has_a_summary():
    assert html.folded("more", "<p>x</p>") == "<details><summary>more</summary><p>x</p></details>"


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium, which runs the script of the page")
def test_headings_sort_by_number_then_by_text(tmp_path):
    page = html.page("sorted", html.table("sizes", ("name", "x", "y"), ROWS))
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", CLICKING), "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    shown = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, check=True, timeout=60).stdout
    # Up and down by numbers with what is none last, up by sizes beyond floating point, up and down by text.
    assert re.search("<title>(.*)</title>", shown)[1] == "abcd cbad cbad abcd dcba"
