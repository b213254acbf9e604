"""The ladder of score models, from solvable to real.

Every rung is a denoiser of one point, ``denoise(..., x, t) -> x_hat`` with ``x`` of shape ``(d,)`` and ``t`` a noise
variance, batched with ``vmap``; its score is ``(denoise - x) / t`` and its gain along a unit vector ``u`` is
``u . grad(denoise) u``.  A rung whose gains have a closed form offers it beside.

The solvable rungs are models too, ``model(x, t) -> x_hat``, whose Jacobians :mod:`geomem_jax.jacobian` knows in closed
form: :class:`population.Model`, :class:`linear.LinearModel`, :class:`empirical_jacobian.Model`.

A rung to be trained has ``init(key, sizes...)``, which makes parameters, and ``weight(t)``, that of the squared error
in the loss, ``weight(t) * |denoise(params, x, t) - y|^2``.
"""
