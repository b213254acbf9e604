# %% [markdown]
# # Does the effective-noise law predict the gains of linear and empirical scores?
#
# Finite data act like extra noise: the mean gain of a direction of variance $v$ is $v/(v+\kappa)$; only the effective
# noise $\kappa(N,t)$ depends on the score model (`theory.effective_noise`). Both laws are asymptotic in the number of
# directions $d$, so the linear law is tested at $d = 160$ and the empirical law by how its deviation falls with $d$.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import theory
from geomem_jax import data
from geomem_jax.denoisers import empirical, linear

# %% [markdown]
# ## Linear score: 20 directions of variance 1, 60 of 0.09, 80 of 0

# %%
variances = np.repeat([1.0, 0.09, 0.0], [20, 60, 80])
source = data.linear_manifold(variances)
sizes, t, seeds = [40, 80, 160, 320, 640], 0.01, 200
measured = np.empty((seeds, len(sizes), 2))
for seed in range(seeds):
    train = source.draw(jax.random.key(seed), max(sizes), 1).train
    for column, size in enumerate(sizes):
        gains = np.asarray(linear.gains(linear.fit(train, size, centred=False), t))
        measured[seed, column] = gains[:20].mean(), gains[20:80].mean()
predicted = np.asarray(theory.gain(variances, np.array(sizes), t, "linear"))[:, [0, 20]]
mean, error = measured.mean(axis=0), measured.std(axis=0, ddof=1) / np.sqrt(seeds)

# %%
figure, axes = plt.subplots(figsize=(7, 4))
dense = np.geomspace(30, 800, 100)
lines = np.asarray(theory.gain(variances, dense, t, "linear"))
for group, (direction, colour) in enumerate([(0, "#0072B2"), (20, "#D55E00")]):
    axes.plot(dense, lines[:, direction], color=colour, label=f"law, variance {variances[direction]:g}")
    axes.errorbar(sizes, mean[:, group], 2 * error[:, group], fmt="o", color=colour, label="measured, 2 s.e.")
axes.set(xscale="log", xlabel="dataset size N (points)", ylabel="mean gain g", title=f"linear score, d = 160, t = {t}")
axes.minorticks_off()
axes.set_xticks(sizes, labels=[str(size) for size in sizes])
axes.legend()

# %% [markdown]
# ## Empirical score at the condensation time, at fixed log N / d = 0.1

# %%
deviations, errors, dimensions = [], [], [30, 60, 90]
for d in dimensions:
    spectrum = np.repeat([1.0, 0.09], [d // 4, d - d // 4])
    size = round(float(np.exp(0.1 * d)))
    noise = float(theory.condensation_time(spectrum, size))
    manifold, low = data.linear_manifold(spectrum), []
    for seed in range(24):
        draw_key, noise_key = jax.random.split(jax.random.key(seed))
        drawn = manifold.draw(draw_key, size, 256)
        x = drawn.held_out + jnp.sqrt(noise) * jax.random.normal(noise_key, drawn.held_out.shape)
        low.append(float(empirical.posterior(drawn.train, size, x, noise).gain[:, d // 4 :].mean()))
    law = float(theory.gain(spectrum, size, noise, "empirical")[-1])
    deviations.append(np.mean(low) / law - 1)
    errors.append(np.std(low, ddof=1) / np.sqrt(len(low)) / law)
deviations, errors = np.array(deviations), np.array(errors)

# %%
figure, axes = plt.subplots(figsize=(7, 4))
axes.errorbar(dimensions, deviations, 2 * errors, fmt="o-", color="#0072B2")
axes.axhline(0, color="black", linestyle=":")
axes.set(
    xlabel="directions d", ylabel="measured / law - 1, variance 0.09", title="empirical score at t = t_c, log N = 0.1 d"
)

# %% the claims of this notebook
assert np.all(error / predicted < 0.005), error / predicted  # else the next line would say little
assert np.all(np.abs(mean / predicted - 1) < 0.02), (mean, predicted)
assert np.all(np.diff(np.abs(deviations)) < 0), deviations
assert abs(deviations[0]) - abs(deviations[-1]) > 4 * np.hypot(errors[0], errors[-1]), (deviations, errors)
