r"""What a network adds to the laws of effective noise: a few numbers, and the statistical model that infers them.

Model.  Gains at one noise variance ``t``, averaged over the directions of each distinct variance :math:`\sigma_g^2`, of
networks trained on ``N`` points of the training set (seed) ``s``.  All gains of a network are those of one effective
noise, which crosses over from the empirical to the linear law of :mod:`theory.effective_noise` at the *memorization
capacity* :math:`N^*`:

.. math:: \log\kappa_g &= w_g\log\kappa_{\rm emp}(N_{\rm eff},t)+(1-w_g)\log\kappa_{\rm lin}(N,t),\qquad
          N_{\rm eff}=1+(N-1)\,e^a,\\
          w_g &= \operatorname{sigmoid}\frac{\log N^*-\beta\,\ell_g-\log N}{\rm width},\qquad
          \bar g_g=\frac{\sigma_g^2}{\sigma_g^2+\kappa_g+t\,(e^\phi-1)}, \tag{1}

with :math:`\ell_g=\log\sigma_g^2` less its mean over directions.  About them, the gains of networks scatter in three
ways: training sets differ in capacity, networks in effective noise, and gains are not quite those of one effective
noise.  To first order in the first two, whose sizes :math:`v_s` and :math:`z` are standard normal,

.. math:: g_{Nsg}=\bar g_g+\tau_s v_s\,\frac{\partial\bar g_g}{\partial\log N^*}
          +\tau z_{Ns}\,\frac{\partial\bar g_g}{\partial\log\kappa_g}+\epsilon_{Nsg},\qquad
          \epsilon\sim\mathcal N(0,\varsigma^2+e^2), \tag{2}

with the standard error ``e`` of a gain over the points at which it was averaged.  So all gains of a training set are
jointly Gaussian, and nothing but the parameters is sampled.

=================  ==============  =====================================================================  ==============
parameter          symbol          meaning                                                                prior
=================  ==============  =====================================================================  ==============
``log_capacity``   log N*          log size at which the weight of the two laws is equal                  normal, centre
                                                                                                          and half range
                                                                                                          of the sizes
``width``                          of the crossover, in e-folds of N: 10 to 90 % in 4.4 widths            log-normal,
                                                                                                          0.5, 0.5
``advantage``      a               nats: the network that memorized acts as the exact score of e^a times  normal, 0, 1.5
                                   as many points
``tilt``           beta            how much later, in e-folds of N, small variances cross over than       normal, 0, 0.2
                                   those an e-fold larger
``floor``          phi             log of the effective noise of infinite data over t; negative where     normal, 0, 0.2
                                   training has not yet brought gains down
``set_spread``     tau_s           standard deviation of log N* over training sets                        half-normal,
                                                                                                          0.3
``spread``         tau             of log kappa over networks                                             half-normal,
                                                                                                          0.3
``residual``       sigma           of gains about one effective noise                                     half-normal,
                                                                                                          0.1
=================  ==============  =====================================================================  ==============

Priors, all weakly informative.  Beyond the measured sizes :math:`N^*` leaves no trace.  Small networks cross over
"within a factor of ten": 2.3 e-folds are 4.4 widths of 0.5.  The empirical law alone, leading order in the number of
directions, is off by up to seven times in ``N`` at 24 directions (two e-folds), which ``a`` absorbs: it is relative to
that law.  Gains of networks with many points are within 20 % of those of infinite data, and collapse onto one effective
noise within a few hundredths; networks on different training sets differ by 10 to 30 % in effective noise.

The *rival* laws are (1) with :math:`w=0` (``"linear"``: floor, spread, residual) and :math:`w=1` (``"empirical"``:
these and ``a``).

Scope.  See :mod:`geomem_jax.calibrate` for what the model misses.
Source.  Derived here.
"""

from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.nn import sigmoid
from numpyro.infer import MCMC, NUTS

import theory

Law = Literal["mixture", "linear", "empirical"]
LAWS: tuple[Law, ...] = get_args(Law)
CHAINS = 4
WARM_UP = 1000
CANDIDATES = 4096  # draws of the prior, at the best of which the chains begin


class Measurements(NamedTuple):
    """Gains at one noise variance, and what the laws need.

    Attributes:
      variances: ``(d,)`` positive variances along the directions.
      variance: ``(g,)`` distinct ones, descending.
      t: noise variance.
      log_n: ``(k,)`` log dataset sizes, ascending, above 0.
      linear_noise: ``(k,)`` effective noise of the linear law.
      gain: ``(k, s, g)``; any number where not known.
      error: ``(k, s, g)`` standard error over points.
      known: ``(k, s)`` networks to be used.
      centre: centre of the prior of log N*.
      half_range: its standard deviation.
    """

    variances: jax.Array
    variance: jax.Array
    t: jax.Array
    log_n: jax.Array
    linear_noise: jax.Array
    gain: jax.Array
    error: jax.Array
    known: jax.Array
    centre: jax.Array
    half_range: jax.Array


Parameters = dict[str, jax.Array]


def in_words(law: Law, m: Measurements) -> str:
    """Name what is fitted, for messages."""
    return f"the {law} law at t = {m.t:.3g}"


def prior(m: Measurements, law: Law) -> dict[str, dist.Distribution]:
    """Return the prior of every number that a law needs."""
    shared = {
        "floor": dist.Normal(0.0, 0.2),
        "spread": dist.HalfNormal(0.3),
        "residual": dist.HalfNormal(0.1),
    }
    if law == "linear":
        return shared
    memorized = {"advantage": dist.Normal(0.0, 1.5)}
    if law == "empirical":
        return memorized | shared
    crossover = {
        "log_capacity": dist.Normal(m.centre, m.half_range),
        "width": dist.LogNormal(jnp.log(0.5), 0.5),
        "tilt": dist.Normal(0.0, 0.2),
        "set_spread": dist.HalfNormal(0.3),
    }
    return crossover | memorized | shared


class Moments(NamedTuple):
    """Mean gains and their loadings on what varies from training set to training set and from network to network.

    Attributes:
      mean: ``(k, g)``, eq. (1).
      of_network: ``(k, g)``, eq. (2), J times the spread.
      of_set: ``(k, g)``, eq. (2), K times the spread over training sets; 0 unless there is a crossover.
    """

    mean: jax.Array
    of_network: jax.Array
    of_set: jax.Array


def moments(m: Measurements, law: Law, p: Parameters) -> Moments:
    """Mean and loadings of eqs. (1) and (2) for one value of every parameter."""
    linear = jnp.log(m.linear_noise)[:, None]
    noise, shift = linear, jnp.zeros(())
    if law != "linear":
        effective = jnp.logaddexp(0.0, jnp.log(jnp.expm1(m.log_n)) + p["advantage"])
        noise = jnp.log(theory.effective_noise(m.variances, t=m.t, law="empirical", log_n=effective))[:, None]
    if law == "mixture":
        small = jnp.mean(jnp.log(m.variances)) - jnp.log(m.variance)
        above = p["log_capacity"] + p["tilt"] * small - m.log_n[:, None]
        weight = sigmoid(above / p["width"])
        shift = p["set_spread"] * weight * (1 - weight) / p["width"] * (noise - linear)
        noise = linear + weight * (noise - linear)
    mixed = jnp.exp(noise)
    kappa = mixed + m.t * jnp.expm1(p["floor"])
    gain = m.variance / (m.variance + kappa)
    slope = -gain * (1 - gain)  # by the log of kappa
    return Moments(gain, p["spread"] * slope, slope * mixed / kappa * shift)


def log_density(m: Measurements, law: Law, p: Parameters) -> jax.Array:
    """Log density of all gains of every training set, ``(s,)``, eq. (2).

    Its matrix is diagonal but for a term of rank one for every network and another for the training set, so that it is
    inverted by the formula of Sherman and Morrison, twice.
    """
    mean, j, k = (part[:, None] for part in moments(m, law, p))
    known = m.known[..., None]
    variance = p["residual"] ** 2 + m.error**2
    precision = known / variance
    x = m.gain - mean

    def network(a: jax.Array, b: jax.Array) -> jax.Array:
        """Sum over directions of a b in the metric of one network, (k, s)."""
        along_a, along_b = jnp.sum(precision * a * j, axis=-1), jnp.sum(precision * b * j, axis=-1)
        return jnp.sum(precision * a * b, axis=-1) - along_a * along_b / stretch

    stretch = 1 + jnp.sum(precision * j**2, axis=-1)
    of_sets = 1 + jnp.sum(network(k, k), axis=0)
    square = jnp.sum(network(x, x), axis=0) - jnp.sum(network(x, k), axis=0) ** 2 / of_sets
    log_det = jnp.sum(known * jnp.log(2 * jnp.pi * variance), axis=(0, 2)) + jnp.sum(jnp.log(stretch), axis=0)
    return -0.5 * (square + log_det + jnp.log(of_sets))


def model(m: Measurements, law: Law) -> None:
    """Sample parameters and condition on the networks that are known (numpyro)."""
    p = {name: numpyro.sample(name, distribution) for name, distribution in prior(m, law).items()}
    numpyro.factor("gains", jnp.sum(log_density(m, law, p)))


class Sampled(NamedTuple):
    """Draws of the posterior, ``(chain, draw, ...)`` each, and where a trajectory diverged, ``(chain, draw)``."""

    draws: Parameters
    diverging: jax.Array


def starts(key: jax.Array, m: Measurements, law: Law, chains: int) -> Parameters:
    """Where chains begin, ``(chains,)`` each, unconstrained: at the best of 4096 draws of the prior.

    From any draw, now and then one stays for ever at a mode of negligible probability, such as one at which the spread
    over networks explains much.  The price is that R-hat cannot see a mode that all chains miss.
    """
    priors = prior(m, law)
    keys = dict(zip(priors, jax.random.split(key, len(priors)), strict=True))
    drawn = {name: priors[name].sample(keys[name], (CANDIDATES,)) for name in priors}
    density = jax.vmap(lambda p: jnp.sum(log_density(m, law, p)))(drawn)
    best = jax.lax.top_k(jnp.where(jnp.isnan(density), -jnp.inf, density), chains)[1]
    return {name: dist.biject_to(priors[name].support).inv(values[best]) for name, values in drawn.items()}


@partial(jax.jit, static_argnames=("law", "draws", "chains"))
def sample(key: jax.Array, m: Measurements, law: Law, draws: int, chains: int = CHAINS) -> Sampled:
    """Sample the posterior with NUTS.

    Steps are short (acceptance of 99 %), for where training sets hardly differ, or the crossover is sharp, longer ones
    diverge now and then.
    """
    start_key, run_key = jax.random.split(key)
    kernel = NUTS(model, dense_mass=True, target_accept_prob=0.99)
    mcmc = MCMC(
        kernel, num_warmup=WARM_UP, num_samples=draws, num_chains=chains, chain_method="vectorized", progress_bar=False
    )
    first = starts(start_key, m, law, chains)
    mcmc.run(run_key, m, law, init_params=first if chains > 1 else {name: x[0] for name, x in first.items()})
    return Sampled(mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields(group_by_chain=True)["diverging"])
