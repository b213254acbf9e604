"""Readings of results whose truth is known, and views, tables and figures of them."""

import numpy as np
import pytest

import theory
from geomem_jax import formatting, plots, readings, tables, trained_results
from geomem_jax.errors import InputError
from geomem_jax.freeze_out import freeze_out_sizes

VARIANCES = np.concatenate([np.repeat(2.0 ** -np.arange(6), 4), np.zeros(8)])
SIZES = np.array([20, 40, 80, 160, 320, 640, 1280, 20_000])
TIMES = np.array([0.01, 0.1])
STEPS = np.array([480, 4000, 48_000])
WIENER = np.asarray(theory.wiener_gain(VARIANCES, TIMES))
EXACT = np.asarray(theory.gain(VARIANCES, SIZES[:, None], TIMES, "empirical"))
LINEAR = np.asarray(theory.gain(VARIANCES, SIZES[:, None], TIMES, "linear"))


def free_above(sizes):
    """Relative gains (size, direction) that rise from 0 to 1 at the given sizes, as sigmoids of log N."""
    return 1 / (1 + np.exp(-2 * np.log(SIZES[:, None] / sizes)))


def made(train, held_out, seeds=4, noise=0.01):
    """A result of networks of the given gains ``(step, size, noise, direction)``, noisy from seed to seed."""
    dataset = trained_results.empty(
        training_steps=STEPS,
        dataset_sizes=SIZES,
        noise_variances=TIMES,
        seeds=seeds,
        variances=VARIANCES,
        attributes={"name": "ladder", "centred": 0, "samples": 128, "held_out": 256},
    )
    rng = np.random.default_rng(0)

    def noisy(gain):
        return gain[..., None, :] * (1 + noise * rng.standard_normal((*gain.shape[:-1], seeds, gain.shape[-1])))

    for point, gain in (("train", train), ("held_out", held_out)):
        dataset["gain"].loc[{"point": point}] = noisy(gain)
        dataset["empirical_gain"].loc[{"point": point}] = noisy(EXACT)
    dataset["predicted_gain"].loc[{"law": "linear"}] = LINEAR
    dataset["predicted_gain"].loc[{"law": "empirical"}] = EXACT
    dataset["reference_gain"][:] = WIENER
    dataset["complete"][:] = 1
    return dataset


def expected(slope=-1.0, growth=3.0, early=1.5, copies=True, seeds=4):
    """Networks as theory has them: memorized to 80 points, learned from 1280 on, between them neither law."""
    sizes = 60 * np.where(VARIANCES > 0, VARIANCES, 1) ** (slope / 3)
    late = free_above(sizes)[:, None] * WIENER
    early_gain = np.where(np.arange(32) >= 16, early, 1.0) * free_above(sizes / growth)[:, None] * WIENER
    memorized = (SIZES <= 80)[:, None, None]
    held_out = np.where(memorized, EXACT if copies else LINEAR, 0.7 * LINEAR)
    held_out = np.where((SIZES >= 1280)[:, None, None], WIENER, held_out)
    train = np.stack([early_gain, early_gain, late])
    early_held_out = early * np.broadcast_to(WIENER, held_out.shape)
    return made(train, np.stack([early_held_out, early_held_out, held_out]), seeds)


def verdicts(dataset):
    return [reading.holds for reading in readings.readings(dataset)]


def test_all_five_hold_where_they_do():
    found = readings.readings(expected())
    assert [reading.holds for reading in found] == [True] * 5, [reading.line() for reading in found]
    assert all("\\n" not in reading.line() and ": holds: " in reading.line() for reading in found)
    assert [reading.line()[0] for reading in found] == list("12345")
    assert "N = 20, 40, 80" in found[2].numbers
    assert "N = 160, 320, 640" in found[3].numbers


@pytest.mark.parametrize(
    ("changes", "number"),
    [({"slope": 1.0}, 1), ({"growth": 1 / 3, "early": 0.1}, 2), ({"copies": False}, 3), ({"early": 0.9}, 5)],
)
def test_each_fails_alone_where_it_is_false(changes, number):
    assert verdicts(expected(**changes))[number - 1] is False


def test_between_fails_where_the_empirical_score_goes_on():
    dataset = expected()
    between = {"training_step": 48_000, "point": "held_out", "dataset_size": [160, 320, 640]}
    dataset["gain"].loc[between] = dataset["empirical_gain"].sel(point="held_out", dataset_size=[160, 320, 640]).values
    assert verdicts(dataset)[3] is False


def test_networks_that_have_not_learned_yet_are_not_between():
    # Gains far above those of infinite data at every size, as before training.
    untrained = np.broadcast_to(3 * WIENER, (3, 8, 2, 32))
    assert [reading.numbers for reading in readings.readings(made(untrained, untrained))[2:4]] == [
        "no dataset size is memorized",
        "no dataset size is between",
    ]


def test_one_training_set_decides_nothing():
    assert verdicts(expected(seeds=1)) == [None] * 5


def linear(factor=1.0, seeds=4):
    """Linear denoisers of the gains of gradient flow, up to a factor; steps of training time 0.001."""
    dataset = expected(seeds=seeds).isel(noise_variance=[1])
    dataset["training_time"][:] = 0.001 * STEPS
    law = np.stack([theory.mean_gradient_flow_gain(VARIANCES, n, 0.1, 0.001 * STEPS) for n in SIZES], axis=1)
    dataset["predicted_training_gain"][:] = law[:, :, None]
    noisy = 1 + 0.01 * np.random.default_rng(1).standard_normal((*law.shape[:2], 1, seeds, 1))
    dataset["gain"][:] = factor * law[:, :, None, None] * noisy
    return dataset


def test_linear_denoisers_are_read_against_gradient_flow():
    for factor, verdict in ((1.0, True), (0.95, True), (0.8, False), (1.25, False)):
        (reading,) = readings.readings(linear(factor))
        assert reading.holds is verdict
        found = float(reading.numbers.split()[0])
        assert found == pytest.approx(factor, rel=4e-3)  # 1 % of noise in 96 networks, four standard errors
    assert readings.readings(linear(seeds=1))[0].holds is None
    # A wrong network, a failed one, and a step that is not measured are seen, left out, and not waited for.
    wrong = linear()
    wrong["gain"].loc[{"training_step": 4000, "dataset_size": 80}] *= 3
    assert readings.readings(wrong)[0].numbers.endswith("at step 4000, N = 80")
    wrong["failed"].loc[{"dataset_size": 80}] = 3000
    assert readings.readings(wrong)[0].holds is None
    unfinished = linear()
    unfinished["complete"].loc[{"training_step": 48_000}] = 0
    unfinished["gain"].loc[{"training_step": 48_000}] = np.nan
    assert readings.readings(unfinished)[0].holds is True


def test_the_figure_of_linear_denoisers_has_the_lines_of_theory():
    dataset = linear()
    figure = plots.training(dataset)
    step_time, distinct = 0.001, np.unique(VARIANCES)[:0:-1]
    for panel, size in zip(figure.axes[:4], (20, 80, 640, 20_000), strict=True):
        flows = [line for line in panel.lines if len(line.get_xdata()) > 2 and line.get_marker() == "None"]
        marks = [line for line in panel.lines if line.get_marker() == "|" and np.isfinite(line.get_xdata()).all()]
        points = [container.lines[0] for container in panel.containers]
        assert len(flows) == len(marks) == len(points) == len(distinct)
        for flow, mark, point, variance in zip(flows, marks, points, distinct, strict=True):
            steps, rho = flow.get_data()
            gain = np.asarray(theory.mean_gradient_flow_gain(VARIANCES, size, 0.1, step_time * steps))
            expected_rho = gain[:, variance == VARIANCES][:, 0] * (variance + 0.1) / variance
            np.testing.assert_allclose(rho, expected_rho, rtol=1e-4)
            assert steps[-1] == pytest.approx(48_000)
            # At infinite data the gain passes through the mark.
            (half,), (level,) = mark.get_data()
            infinite = theory.gradient_flow_gain([variance], 0.1, step_time * half)
            assert float(infinite[0]) * (variance + 0.1) / variance == pytest.approx(level, rel=1e-5)
            assert flow.get_color() == mark.get_color() == point.get_color()
            assert point.get_linestyle() == "None"
    words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert words == ["theory: gradient flow", "half learned (infinite data)", "trained, measured"]
    assert figure.get_suptitle().startswith("ladder: gains of trained linear denoisers at")
    # The law of the end of training, at training points too, where linear denoisers have the same gains.
    words = [text.get_text() for text in figure.axes[4].get_legend().get_texts()]
    assert words == ["linear denoisers", "exact empirical score, measured", "linear law"]


def test_few_noisy_training_sets_decide_nothing_where_the_difference_is_small():
    # 12 % apart in the mean, three sets that spread by as much: no verdict either way.
    dataset = made(np.stack([EXACT] * 3), np.stack([EXACT] * 3), seeds=3)
    spread = np.array([0.9, 1.1, 1.35])[:, None]
    dataset["gain"].loc[{"point": "held_out"}] = EXACT[:, :, None] * spread
    third = readings.readings(dataset)[2]
    assert "N = 20" in third.numbers
    assert third.holds is None


def test_a_view_is_the_result_of_one_step_without_failed_networks():
    dataset = expected()
    dataset["failed"].loc[{"dataset_size": 40, "seed": 1}] = 4000
    dataset["complete"].loc[{"training_step": 48_000, "dataset_size": 80, "seed": 0}] = 0
    for step in (480, 4000):
        assert (trained_results.at_step(dataset, step).complete == 1).all()
    view = trained_results.at_step(dataset, 48_000)
    assert np.argwhere(view.complete.sel(rung="trained").values == 0).tolist() == [[1, 1], [2, 0]]
    picked = {"point": "train", "dataset_size": 640, "noise_variance": 0.1, "seed": 2}
    np.testing.assert_array_equal(
        view.gain.sel(rung="trained").sel(picked), dataset.gain.sel(training_step=48_000).sel(picked)
    )
    np.testing.assert_array_equal(view.gain.sel(rung="empirical").sel(picked), dataset.empirical_gain.sel(picked))
    with pytest.raises(InputError, match="training_step 7 is not in this result"):
        trained_results.at_step(dataset, 7)


def test_the_table_has_every_size(capsys):
    dataset = expected()
    tables.print_trained(dataset)
    printed = " ".join(capsys.readouterr().out.split())
    for step in STEPS:
        found = freeze_out_sizes(trained_results.at_step(dataset, int(step)), "trained", "train", 0.01)
        assert f"{step} steps" in printed
        for value in found.log_value:
            assert formatting.format_size(value, found.grid) in printed
    for text in ("exact empirical", "linear law", "empirical law", "t = 0.01", "t = 0.1"):
        assert text in printed


def test_the_figure_shows_means_over_training_sets():
    dataset = expected()
    dataset["complete"].loc[{"training_step": 48_000, "dataset_size": 20_000}] = 0  # no point, no crash
    figure = plots.training(dataset)
    assert figure.get_suptitle().startswith("ladder: gains of trained networks at")
    *top, train, held_out = figure.axes
    assert top[0].get_legend() is None  # no line of theory; points are joined
    assert top[0].containers[0].lines[0].get_linestyle() == "-"
    assert [axes.get_title(loc="left") for axes in top] == [f"N = {size}" for size in (20, 80, 640, 20_000)]
    for panel, size in zip(top, (20, 80, 640, 20_000), strict=True):
        for container, variance in zip(panel.containers, np.unique(VARIANCES)[:0:-1], strict=True):
            x, y = container.lines[0].get_data()
            directions = variance == VARIANCES
            gain = dataset.gain.sel(point="held_out", dataset_size=size, noise_variance=0.01).values[..., directions]
            rho = gain.mean(axis=(1, 2)) / WIENER[0, directions][0]
            shown = slice(None, 2 if size == 20_000 else 3)
            np.testing.assert_array_equal(x, STEPS[shown])
            np.testing.assert_allclose(y, rho[shown], rtol=1e-5)
    for panel, point in ((train, "train"), (held_out, "held_out")):
        x, y = panel.containers[0].lines[0].get_data()
        gain = dataset.gain.sel(point=point, training_step=48_000, noise_variance=0.01).values[:7, :, :4]
        np.testing.assert_allclose(y, gain.mean(axis=(1, 2)) / WIENER[0, 0], rtol=1e-5)
        assert x.tolist() == SIZES[:7].tolist()
    assert len(plots.png(figure)) > 10_000
