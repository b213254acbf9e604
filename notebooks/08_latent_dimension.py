# %% [markdown]
# # Which estimator still tells the truth as data get scarce?
#
# Points of a plane of six dimensions among 24, from 8 to 4096 of them. Their dimension is read off the Jacobian of two
# solvable denoisers, the exact score of the points and the linear score fitted to them: as the *soft dimension*, the
# sum of gains, for which there is theory, and from the *total gap* of the singular values, which may also say that
# there is none (`geomem_jax.dimension`). Beside them, estimates from the points alone (`geomem_jax.model_free`).

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import theory
from geomem_jax import data, dimension, model_free
from geomem_jax.denoisers import linear

BLACK, BLUE, ORANGE, GREEN, PURPLE = "black", "#0072B2", "#D55E00", "#009E73", "#CC79A7"

# %% [markdown]
# ## Eight training sets, nested in size
#
# Spectra at held-out points with noise of variance $t=0.3$ added, as the theory has them. The Jacobian of the exact
# score is the covariance of the posterior weights over $t$.

# %%
manifold = data.manifolds.affine(6, 24, jax.random.key(0))
truth, ambient, t, points, seeds = manifold.dimension, 24, 0.3, 128, 8
sizes = 2 ** np.arange(3, 13)


@jax.jit
def exact_jacobians(train, count, x):
    """Jacobians of the denoiser of the first ``count`` points, ``(points, d, d)``."""
    energies = jnp.where(
        jnp.arange(len(train)) < count, -jnp.sum((train - x[:, None]) ** 2, axis=-1) / (2 * t), -jnp.inf
    )

    def one(weights):
        mean = weights @ train
        return (train - mean).T @ (weights[:, None] * (train - mean)) / t

    return jax.lax.map(one, jax.nn.softmax(energies))


def singular_values(jacobian):
    """Those of t grad s."""
    return np.linalg.svd(np.asarray(jacobian) - np.eye(ambient), compute_uv=False)


soft = {"exact": np.empty((seeds, len(sizes))), "linear": np.empty((seeds, len(sizes)))}
gap, plain = {name: np.full((seeds, len(sizes)), np.nan) for name in soft}, np.empty((seeds, len(sizes)))
for seed in range(seeds):
    draw_key, noise_key = jax.random.split(jax.random.key(seed + 1))
    drawn = manifold.source.draw(draw_key, int(sizes[-1]), points)
    x = drawn.held_out + jnp.sqrt(t) * jax.random.normal(noise_key, drawn.held_out.shape)
    for column, size in enumerate(sizes.tolist()):
        jacobians = np.asarray(exact_jacobians(drawn.train, size, x))
        spectra = singular_values(jacobians)
        soft["exact"][seed, column] = dimension.soft_dimension(np.trace(jacobians, axis1=1, axis2=2)).value
        gap["exact"][seed, column] = dimension.total_gap(spectra).value
        plain[seed, column] = dimension.largest_drop(spectra).mean()
        fitted = np.asarray(linear.fit(drawn.train, size, centred=False).eigenvalues)
        soft["linear"][seed, column] = np.sum(fitted / (fitted + t))
        gap["linear"][seed, column] = dimension.total_gap((t / (fitted + t))[None]).value

# %% [markdown]
# ## From the points alone

# %%
some_sizes = sizes[1::3]  # 16, 128 and 1024
estimators = {
    "two neighbours": model_free.two_neighbours,
    "maximum likelihood, k = 10": lambda train: model_free.maximum_likelihood(train, 10),
    "local PCA, k = 15": lambda train: model_free.local_pca(train, 15, 64),
}
found = {name: np.empty((seeds, len(some_sizes), 3)) for name in estimators}
for seed in range(seeds):
    draw_key, _ = jax.random.split(jax.random.key(seed + 1))
    train = np.asarray(manifold.source.draw(draw_key, int(sizes[-1]), 0).train)
    for column, size in enumerate(some_sizes):
        for name, estimate in estimators.items():
            found[name][seed, column] = estimate(train[:size])[:3]

# %%
dense = np.geomspace(sizes[0], sizes[-1], 60)
population = np.append(np.ones(truth), np.zeros(ambient - truth))
linear_law = np.asarray(theory.soft_dimension(population, dense, t, "linear"))
exact_law = np.asarray(theory.soft_dimension(population, sizes, t, "finite_size"))
wiener = float(theory.soft_dimension(population, t=t, n=1, law="population"))

figure, axes = plt.subplots(1, 2, figsize=(12, 4.6), sharex=True)
axes[0].plot(dense, linear_law, color=BLUE, label="linear law")
axes[0].plot(sizes, exact_law, "--", color=ORANGE, label="exact score: exact mean")
for (name, values), colour, marker in zip(soft.items(), [ORANGE, BLUE], "^s", strict=True):
    error = 2 * values.std(axis=0, ddof=1) / np.sqrt(seeds)
    axes[0].errorbar(sizes, values.mean(axis=0), error, fmt=marker, color=colour, label=f"{name} score, 2 s.e.")
axes[0].axhline(wiener, color=BLACK, linestyle=":", label="infinite data")
axes[0].set(ylabel=f"soft dimension at t = {t}", title="sum of gains, with theory", xlabel="dataset size N (points)")
axes[0].set_ylim(0, truth + 0.6)
axes[0].legend(fontsize=8, loc="lower right")

axes[1].axhline(truth, color=BLACK, linestyle=":", label="truth")
for (name, values), colour, marker in zip(gap.items(), [ORANGE, BLUE], "^s", strict=True):
    rows, columns = np.nonzero(np.isfinite(values))
    shift = 1.04 ** (rows - seeds / 2)
    height = values[rows, columns] + (0.25 if name == "exact" else -0.25)  # apart, where both are right
    axes[1].plot(sizes[columns] * shift, height, marker, ms=4, color=colour, label=f"{name} score: total gap")
axes[1].plot(sizes, plain.mean(axis=0), ":", color=ORANGE, label="exact score: largest drop, mean")
for (name, values), colour, style in zip(found.items(), [GREEN, PURPLE, "0.5"], ["-", "--", "-."], strict=True):
    axes[1].plot(some_sizes, np.median(values[..., 0], axis=0), style, color=colour, label=name)
axes[1].set(
    xscale="log",
    xlabel="dataset size N (points)",
    ylabel="dimension",
    title="estimates of the dimension, 6 (gaps drawn 0.25 off)",
)
axes[1].set_ylim(0, 11)
axes[1].minorticks_off()
axes[1].set_xticks(sizes[::2], labels=[str(size) for size in sizes[::2]])
axes[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
figure.tight_layout()

# %%
print("size  gap found in training sets: exact, linear; two neighbours and maximum likelihood, median of sets [95 %]")
for column, size in enumerate(sizes):
    line = "  ".join(f"{np.isfinite(values[:, column]).sum()} of {seeds}" for values in gap.values())
    for values in list(found.values())[:2] if size in some_sizes else []:
        line += "   {:5.2f} [{:5.2f}, {:5.2f}]".format(*np.median(values[:, size == some_sizes][:, 0], axis=0))
    print(f"{size:5d}  {line}")
# %% [markdown]
# The soft dimension tells how many directions the score still varies, which is less than six where the score has
# memorized, and the laws say how much less (sizes are nested, so that neighbouring points deviate together). It is no
# estimate of the dimension: at this noise it is 4.6 for infinite data. The gap is. For the linear score it opens as
# soon as there are a few points more than dimensions, for the exact one at some 4096, and until then it says that there
# is none, where the largest drop has a number anyway, and a wrong one. With 8 points the exact score has a gap in two
# training sets, at one dimension: that of the line between the two nearest points, which is what this score has left.
# Of the estimates from points alone, two neighbours are too few to be wrong, at the price of a wide interval; with ten
# neighbours the interval is narrow and around too small a number until there are hundreds of points.

# %% the claims of this notebook
error = {name: values.std(axis=0, ddof=1) / np.sqrt(seeds) for name, values in soft.items()}
assert np.all(np.abs(soft["exact"].mean(axis=0) - exact_law) < 4 * error["exact"]), soft
law_at_sizes = np.asarray(theory.soft_dimension(population, sizes, t, "linear"))
assert np.all(np.abs(soft["linear"].mean(axis=0) - law_at_sizes)[sizes >= 32] < 0.1), soft
assert np.all(exact_law[sizes <= 512] < law_at_sizes[sizes <= 512] - 5 * error["exact"][sizes <= 512])  # laws differ
assert np.all(gap["linear"][:, sizes >= 32] == truth), gap
exact_gap = gap["exact"][:, sizes >= 16]
assert np.all((exact_gap == truth) | np.isnan(exact_gap)), gap  # right or none
assert np.isnan(gap["exact"][:, (sizes >= 16) & (sizes <= 512)]).all()
assert np.isfinite(gap["exact"][:, -1]).sum() > seeds / 2
assert np.all(np.abs(plain.mean(axis=0) - truth)[sizes <= 256] > 1), plain  # what the rule without "no gap" says there
middle = {name: np.median(values, axis=0) for name, values in found.items()}
assert np.all((middle["two neighbours"][:, 1] < truth) & (truth < middle["two neighbours"][:, 2])), middle
assert middle["maximum likelihood, k = 10"][0, 2] < truth - 1, middle
