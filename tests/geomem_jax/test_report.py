"""The report says what the result says and needs nothing outside itself."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import theory
from geomem_jax import answers, compare, league_words, phase_diagrams, report
from geomem_jax.formatting import format_size

from . import plotted

FETCHING = {"src", "href", "srcset", "action", "data", "poster", "background", "formaction", "cite", "ping"}
HOSTILE = "<script>alert(1)</script>\"'&"


class Page(HTMLParser):
    """Tags, attributes that could fetch something, text, and cells of every table."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.targets, self.words, self.tables, self.alts = [], [], [], [], []
        self.in_cell = False
        self.feed(source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.targets += [value for name, value in attributes if name in FETCHING]
        self.alts += [value for name, value in attributes if name == "alt"]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data):
        data = data.replace("\xa0", " ")
        self.words.append(data)
        if self.in_cell:
            self.tables[-1][-1][-1] += data


def written(dataset, folder):
    report.write(dataset, folder / "report.html")
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    source = (folder / "report.html").read_text("utf-8")
    return source, Page(source)


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are made but not rendered, which takes most of the time and is tested with the figures."""
    monkeypatch.setattr("geomem_jax.plots.png", lambda figure: b"")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """The time of best generalization takes seconds to compile, and is tested with the phases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theory, "best_generalization_time", plotted.best_times)
        yield


@pytest.fixture(scope="module")
def ladder(quick, tmp_path_factory):
    return written(plotted.simulated(), tmp_path_factory.mktemp("ladder"))


def test_it_references_nothing_outside_itself(ladder):
    source, page = ladder
    assert len(page.targets) == 6
    assert all(target.startswith("data:image/png;base64,iVBORw0KGgo") for target in page.targets)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert page.tags.count("script") == 1  # that sorts tables
    assert not any(word in source for word in ("fetch(", "XMLHttpRequest", "import(", "eval("))
    assert "url(" not in source
    assert "@import" not in source
    assert "http" not in source
    assert len(page.alts) == 6
    assert all(len(alt) > 30 for alt in page.alts)


def test_the_parser_notices_references():
    page = Page('<a href="https://x.org">x</a><script src="y.js"></script><img src="data:image/png;base64,AA" alt="z">')
    assert page.targets == ["https://x.org", "y.js", "data:image/png;base64,AA"]
    assert page.tags == ["a", "script", "img"]


# In the order of the page; the folded ones too.
ANSWER, LAWS, LEAGUE_HERE, LEAGUE, SIZES, MEDIANS, CROSSINGS, SETTINGS = range(8)


def test_the_answer_comes_first_then_the_laws_in_short(ladder):
    _, page = ladder
    dataset = plotted.simulated()
    found = compare.verdict(dataset)
    said = answers.answers(dataset, found.noise_variance)
    header, *cells = page.tables[ANSWER]
    assert header[:2] == ["model, made from N points", "freezes first"]
    assert cells == [[one.model, one.first, one.largest, one.median, one.smallest] for one in said]
    places = [page.text.index(text) for text in (answers.in_words(said), "Which law predicts it?", found.sentence)]
    assert places == sorted(places)
    rows = [row for row in compare.league(dataset).rows if np.isclose(row.noise_variance, found.noise_variance)]
    rows = [row for row in rows if row.rung != "population" and row.point != "origin"]
    header, lines = league_words.summary(rows)
    assert page.tables[LAWS] == [list(line) for line in (header, *lines)]
    assert "24 directions of variance 1 to 0.0312 and 8 without any" in page.text


def test_what_is_open_is_read_in_five_minutes(ladder):
    """At 200 words a minute; what is folded is read by those who ask."""
    page = re.sub("<style>.*?</style>|<script>.*?</script>", "", ladder[0], flags=re.DOTALL)
    innermost = "<details>(?:(?!<details>).)*?</details>"
    folded = len(re.findall("<details>", page))
    while re.search(innermost, page, flags=re.DOTALL):
        page = re.sub(innermost, "", page, flags=re.DOTALL)
    assert folded >= 12
    assert len(Page(page).text.split()) < 900


def test_the_table_of_sizes_is_that_of_the_comparison(ladder):
    _, page = ladder
    found = compare.verdict(plotted.simulated())
    rows = compare.freeze_out_table(plotted.simulated(), found.noise_variance)
    (header, *cells), (names, *medians) = page.tables[SIZES], page.tables[MEDIANS]
    assert header == [
        *("variance σ²", "directions", "linear law", "linear, measured"),
        *("empirical law", "empirical, measured"),
    ]
    assert names == ["variance σ²", "directions", "linear", "empirical"]
    assert len(cells) == len(medians) == len(rows) == 6
    for row, (variance, multiplicity, *sizes), halves in zip(rows, cells, medians, strict=True):
        assert (float(variance), int(multiplicity)) == (row.variance, row.multiplicity)
        assert [sizes[0], sizes[2]] == [format_size(row.predicted[rung]) for rung in ("linear", "empirical")]
        for at, rung in enumerate(("linear", "empirical")):
            for cell, measured in (
                (sizes[2 * at + 1], row.measured[rung]),
                (halves[2 + at], row.measured_median[rung]),
            ):
                value, lower, upper = (format_size(end, row.grid["empirical"]) for end in measured)
                assert cell in (value, f"{value} [{lower}, {upper}]")
                assert ("[" in cell) == (not value == lower == upper)


@pytest.mark.usefixtures("unrendered")
def test_an_exact_average_has_a_column_and_is_censored_as_measured(tmp_path):
    dataset = plotted.with_exact(plotted.simulated())
    _, page = written(dataset, tmp_path)
    header, *cells = page.tables[SIZES]
    column = header.index("exact-average law")
    assert column == header.index("empirical law") + 1
    found = compare.verdict(dataset)
    rows = compare.freeze_out_table(dataset, found.noise_variance)
    predicted = [row.predicted["finite_size"] for row in rows]
    assert np.isinf(predicted[-1])
    assert cells[len(rows) - 1][column] == f"> {plotted.SIZES[-1]}"
    assert [row[column] for row in cells] == [format_size(size, rows[0].grid["empirical"]) for size in predicted]


@pytest.mark.usefixtures("unrendered")
def test_points_that_are_frozen_where_the_mean_is_free_are_told(ladder, tmp_path):
    assert "few points with large gains" not in ladder[1].text  # its points are alike
    dataset = plotted.simulated()
    dataset["gain_median"].loc[{"rung": "empirical"}] *= 0.7
    _, page = written(dataset, tmp_path)
    _, said = answers.answers(dataset, compare.verdict(dataset).noise_variance)
    assert said.median != said.largest
    assert "In the empirical model few points with large gains make this mean" in page.text
    assert f"half of them above N = {said.median}, and intervals" in page.text


def test_gaussian_data_are_not_called_relative(ladder):
    assert "Gaussian-relative" not in ladder[1].text


def test_the_league_is_there_at_one_noise_variance_and_at_all(ladder):
    dataset = plotted.simulated()
    found = compare.league(dataset)
    at = compare.verdict(dataset).noise_variance
    here = [row for row in found.rows if np.isclose(row.noise_variance, at)]
    for table, rows in ((ladder[1].tables[LEAGUE_HERE], here), (ladder[1].tables[LEAGUE], found.rows)):
        header, cells = league_words.table(found, rows)
        assert table == [list(line) for line in (header, *cells)]
    assert 0 < len(here) < len(found.rows)
    claimed = [league_words.describe(row) for row in here if row.claimed]
    assert all(line in ladder[1].text for line in claimed)
    assert ladder[1].text.count(f"family-wise level of 5 % over all {found.comparisons} cells") == 1
    assert ladder[1].text.count("family-wise level") == 1
    assert phase_diagrams.noise_in_words(dataset) in ladder[1].text


def test_predicted_and_measured_crossings_are_both_there(ladder):
    header, *cells = ladder[1].tables[CROSSINGS]
    assert header == ["N", "predicted t_c", "measured", "predicted / measured"]
    assert [int(row[0]) for row in cells] == list(plotted.SIZES[1:])
    ratios = [float(row[3]) for row in cells if row[3] != "n/a"]
    assert len(ratios) >= 3
    # The simulated ratio crosses at the predicted time; noise of 3 %, and interpolation over a factor of 3 in t.
    np.testing.assert_allclose(ratios, 1, atol=0.15)


def test_settings_are_shown(ladder):
    settings = dict(ladder[1].tables[SETTINGS])
    assert settings["configuration: seeds"] == "8"
    assert settings["configuration: data"] == "default"
    assert settings["versions: jax"] == "0.10"
    assert settings["dataset_size"].startswith("2, 8, 32")


@pytest.mark.usefixtures("unrendered")
def test_hostile_names_are_text(tmp_path):
    configuration = json.dumps({HOSTILE: HOSTILE})
    source, page = written(plotted.simulated(name=HOSTILE, configuration=configuration, extra=HOSTILE), tmp_path)
    assert source.count("<script") == page.tags.count("script") == 1  # the one that sorts tables
    assert page.text.count(HOSTILE) == 2 + 1 + 2 + 1  # title, heading, name, configuration twice, extra


@pytest.mark.usefixtures("unrendered")
def test_many_variances_of_real_data(tmp_path):
    variances = np.geomspace(1, 1e-3, 64)
    _, page = written(plotted.simulated(variances, gaussian_relative=1, centred=1, max_points=3000), tmp_path)
    assert "All gains here are Gaussian-relative : divided by the Wiener gain" in page.text
    assert "N runs over nested subsets" in page.text
    assert "24 of 64 distinct variances, evenly spaced by rank." in page.text
    assert len(page.tables[SIZES]) == 1 + 24


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (plotted.simulated(num_seeds=1), "1 training set of each size (an interval of 95 % needs at least 6)"),
        (plotted.partial(plotted.simulated()), "Partial run: 32 of 48 training sets are measured."),
    ],
    ids=["one seed", "partial"],
)
@pytest.mark.usefixtures("unrendered")
def test_less_than_a_full_run(dataset, said, tmp_path):
    _, page = written(dataset, tmp_path)
    assert said in page.text
    assert "nan" not in " ".join(cell for table in page.tables for row in table for cell in row)


@pytest.mark.usefixtures("unrendered")
def test_networks_are_explained_and_have_no_law(tmp_path):
    dataset = plotted.with_network(plotted.simulated())
    _, page = written(dataset, tmp_path)
    assert page.tables[SIZES][0][-2:] == ["empirical, measured", "network, measured"]
    assert page.tables[MEDIANS][0][-1] == "network"
    assert compare.networks_in_words(dataset) in page.text
    assert "network law" not in page.text
    assert "nan" not in " ".join(cell for table in page.tables for row in table for cell in row)
