# %% [markdown]
# # Between the exponential and the linear law: where does a trained network stand?
#
# A score fitted to $N$ points acts as if the noise variance $t$ were a larger one, $\kappa(N,t)$: the gain of a
# direction of variance $\sigma^2$ is $\sigma^2/(\sigma^2+\kappa)$. For a linear score the data needed to bring $\kappa$
# down to a given value grow linearly with the number of directions above it, for the exact score of the points
# exponentially. A network obeys neither law by construction. Here small networks are trained on 12 to 1536 points, and
# two questions asked at held-out points: does *one* number $\hat\kappa(N,t)$ describe the gains of all directions (do
# they collapse onto $\sigma^2/(\sigma^2+\hat\kappa)$), and where does it lie between the two laws?

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import theory
from geomem_jax import cells, curves, data, sharding, snapshots, training
from geomem_jax.denoisers import empirical, linear, mlp

BLACK, BLUE, ORANGE, GREEN = "black", "#0072B2", "#D55E00", "#009E73"

# %% [markdown]
# ## Networks, the exact score and the linear score of the same points
#
# Four variances with three directions each; four training sets; networks of two hidden layers, followed through
# training. All gains are measured at the same held-out points with the same noise.

# %%
variances, seeds, points = np.repeat([1.0, 0.3, 0.1, 0.03], 3), 4, 64
sizes, noises, steps = np.array([12, 32, 96, 384, 1536]), np.array([0.03, 0.1]), (300, 1000, 3000)
source = data.linear_manifold(variances)
keys = jnp.stack([cells.seed_keys(0, seed) for seed in range(seeds)])
drawn = training.draw_data(source, list(keys[:, 0]), int(sizes.max()), points)

recipe = training.Recipe(
    mlp.edm_mlp(len(variances), width=64, depth=2, data_variance=float(variances.mean())),
    training.optimizer("adam", 2e-3, clip=1.0, warmup=100),
    batch_size=64,
    ema_decay=0.995,
)
members = training.grid_members(sizes.tolist(), seeds, noise_range=(0.1, 3.0))
mesh = sharding.ensemble_mesh(len(sizes) * seeds, recipe.batch_size)
first = training.start(recipe, jax.random.key(1), members)
networks = []
for state in training.train(recipe, mesh, drawn, members, first, steps):
    found = snapshots.measure(
        recipe.model, mesh, drawn, members, state.ema, keys[:, 1:], jnp.eye(len(variances)), jnp.asarray(noises), points
    )
    networks.append(np.asarray(found.gain)[:, 1])  # at held-out points
assert not training.failures(members, state)
# (step, size, seed, noise, direction)
networks = np.array(networks).reshape(len(steps), len(sizes), seeds, len(noises), len(variances))

# %%
exact, fitted = np.empty(networks.shape[1:]), np.empty(networks.shape[1:])
for seed in range(seeds):
    train, held_out = (drawn.points[rows[seed]] for rows in (drawn.train, drawn.held_out))
    noise = jax.random.normal(keys[seed, 2], held_out.shape)
    for row, size in enumerate(sizes.tolist()):
        fitted[row, seed] = linear.gains(linear.fit(train, size, centred=False), noises)
        for column, t in enumerate(noises):
            x = held_out + jnp.sqrt(t) * noise
            exact[row, seed, column] = empirical.posterior(train, size, x, t).gain.mean(axis=0)

# %% [markdown]
# ## One number: the effective noise
#
# $\hat\kappa$ is the noise at which all gains together have the measured sum, $\sum_i\sigma_i^2/(\sigma_i^2+\hat\kappa)
# =\sum_i\bar g_i$. The exponential law is that of many directions; with twelve, the exact score itself lies above it.


# %%
def effective_noise(gains):
    """Effective noise from the sum of gains over directions (last axis)."""
    return np.vectorize(lambda total: curves.noise_of_dimension(variances, total))(gains.sum(axis=-1))


def mean_and_error(values, axis):
    return values.mean(axis=axis), values.std(axis=axis, ddof=1) / np.sqrt(values.shape[axis])


log_noise = {name: np.log(effective_noise(g)) for name, g in [("n", networks), ("e", exact), ("l", fitted)]}
dense = np.geomspace(sizes[0], sizes[-1], 80)

figure, axes = plt.subplots(1, 2, figsize=(11, 4.4))
for column, (panel, t) in enumerate(zip(axes, noises, strict=True)):
    panel.axhline(t, color=BLACK, linestyle=":", label="infinite data, κ = t")
    for law, colour, style in [("linear", BLUE, "-"), ("empirical", ORANGE, "--")]:
        kappa = theory.effective_noise(variances, dense, t, law)
        panel.plot(dense, kappa, style, color=colour, label=f"{'linear' if law == 'linear' else 'exponential'} law")
    for name, label, colour, marker, shift in [
        ("l", "linear score", BLUE, "s", 0.96),
        ("e", "exact score of the points", ORANGE, "^", 1.04),
    ]:
        mean, error = mean_and_error(log_noise[name][..., column], axis=1)
        bars = np.exp(mean) * np.stack([-np.expm1(-2 * error), np.expm1(2 * error)])
        panel.errorbar(sizes * shift, np.exp(mean), bars, fmt=marker, color=colour, label=label)
    for shade, step, networks_at in zip([0.35, 0.65, 1.0], steps, log_noise["n"], strict=True):
        mean, error = mean_and_error(networks_at[..., column], axis=1)
        bars = np.exp(mean) * np.stack([-np.expm1(-2 * error), np.expm1(2 * error)])
        panel.errorbar(sizes, np.exp(mean), bars, fmt="o-", color=GREEN, alpha=shade, label=f"network, step {step}")
    panel.set(xscale="log", yscale="log", xlabel="dataset size N (points)", title=f"noise variance t = {t:g}")
    panel.minorticks_off()
    panel.set_xticks(sizes, labels=[str(size) for size in sizes])
axes[0].set(ylabel="effective noise κ (variance; bars: 2 s.e.)")
figure.tight_layout()
figure.legend(*axes[0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1, 0.5))

# %% [markdown]
# ## Do the gains of all directions collapse?
#
# Every point is the mean gain of one of the four variances. If one number describes them all, they lie on the diagonal;
# $\hat\kappa$ is fitted to their sum only. What is left is the *deviation from collapse*, the root mean square over
# variances of $\bar g_i-\sigma_i^2/(\sigma_i^2+\hat\kappa)$.

# %%
groups = variances.reshape(4, 3)[:, 0]


def residual(gains):
    """Mean gain of every variance less that at the fitted noise, averaged over training sets, and its error."""
    by_group = gains.reshape(*gains.shape[:-1], 4, 3).mean(axis=-1)
    expected = groups / (groups + effective_noise(gains)[..., None])
    return expected.mean(axis=-3), *mean_and_error(by_group - expected, axis=-3)


figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), sharex=True, sharey=True)
rows = [("linear score", fitted, BLUE), ("exact score of the points", exact, ORANGE), ("networks", networks[-1], GREEN)]
for panel, (label, gains, colour) in zip(axes, rows, strict=True):
    panel.axline((0, 0), slope=1, color=BLACK, linewidth=0.8)
    expected, mean, error = (part[:, 0] for part in residual(gains))
    for group, marker in enumerate("osD^"):
        name = f"variance {groups[group]:g}"
        x, y = expected[:, group], expected[:, group] + mean[:, group]
        panel.errorbar(x, y, 2 * error[:, group], fmt=marker, color=colour, mfc="none", label=name)
    rms = np.sqrt(np.mean(mean**2))
    panel.set(title=f"{label}: deviation {rms:.3f}", xlabel="σ²/(σ² + κ̂)")
axes[0].set(ylabel=f"mean gain at t = {noises[0]:g} (bars: 2 s.e.)")
axes[0].legend(fontsize=8)
figure.tight_layout()

# %% [markdown]
# Against chance: had all directions kept the same share $c$ of the gain of infinite data, $\bar g_i=c\,\sigma_i^2/
# (\sigma_i^2+t)$ with $c$ fitted to the same sum, the deviation would be what the last column says.


# %%
def root_mean_square(values):
    return np.sqrt(np.mean(values**2, axis=-1))


def same_share(gains):
    """Deviation of mean gains from the gains of infinite data times one number."""
    by_group = gains.reshape(*gains.shape[:-1], 4, 3).mean(axis=(-1, -4))
    wiener = groups / (groups + noises[:, None])
    return root_mean_square(by_group - wiener * (by_group.sum(-1) / wiener.sum(-1))[..., None])


deviation, chance = {}, {}
print("deviation from collapse at N =", *sizes, " (deviation from the same share for all)")
for label, gains, _ in rows:
    deviation[label], chance[label] = root_mean_square(residual(gains)[1]), same_share(gains)
    for column, t in enumerate(noises):
        numbers = zip(deviation[label][:, column], chance[label][:, column], strict=True)
        print(f"{label:26s} t = {t:4g}: ", "  ".join(f"{found:.3f} ({other:.3f})" for found, other in numbers))
_, mean, error = residual(networks[-1])
for group, variance in enumerate(groups):
    print(f"networks, N = 12, t = 0.03, variance {variance:4g}: {mean[0, 0, group]:+.3f} +- {error[0, 0, group]:.3f}")

# %% [markdown]
# ## Where between the laws?
#
# The *place* of a network is 0 on the linear and 1 on the exponential law, on a logarithmic scale of $\kappa$. Below
# zero its gains are those of less noise than the linear score would have.

# %%
low, high = (np.log(theory.effective_noise(variances, sizes, noises[0], law)) for law in ("linear", "empirical"))
place, place_error = mean_and_error((log_noise["n"][..., 0] - low[:, None]) / (high - low)[:, None], axis=2)

figure, axes = plt.subplots(figsize=(7, 4.2))
for shade, step, mean, error in zip([0.35, 0.65, 1.0], steps, place, place_error, strict=True):
    axes.errorbar(sizes, mean, 2 * error, fmt="o-", color=GREEN, alpha=shade, label=f"network, step {step}")
axes.axhline(1, color=ORANGE, linestyle="--", label="exponential law")
axes.axhline(0, color=BLUE, label="linear law")
axes.set(xscale="log", xlabel="dataset size N (points)", ylabel=f"place between the laws, t = {noises[0]:g} (2 s.e.)")
axes.minorticks_off()
axes.set_xticks(sizes, labels=[str(size) for size in sizes])
axes.legend(loc=(0.67, 0.45), fontsize=8)
for step, mean, error in zip(steps, place, place_error, strict=True):
    print(f"step {step:5d}: place", mean.round(2), "+-", error.round(2))

# %% [markdown]
# One number describes the gains of a network to a few hundredths, nearly as well as those of the linear score and
# better than those of the exact one; where points are few, gains of small variances are somewhat larger than it says.
# That number depends on training time: every network sets out below the linear law and climbs. With many points it
# stops there; with few it has climbed to the exponential law after 3000 steps, with the exact score still beyond. Where
# a network of given $N$ stands is a question of when to stop, and between the two laws there is no third one to be
# seen, only a crossover in $N$ that moves with training time.

# %% the claims of this notebook
assert np.all(place[-1, :2] > 0.8), place  # few points: the exponential law
assert abs(place[-1, -1]) < 0.1, place  # many: the linear law
assert np.all(np.diff(place[-1]) < 0), place  # a crossover between
assert np.all(np.diff(place[:, :3], axis=0) > 0.1), place  # that moves with training time
assert np.all(deviation["networks"] < 0.05), deviation
assert np.all(deviation["networks"][:3] < 0.5 * chance["networks"][:3]), (deviation, chance)
assert np.all(deviation["linear score"] < 0.025), deviation
