r"""Noise in other conventions: their clocks, their points and what their models predict.

Model.  Every convention writes a noised point as

.. math:: x_{\rm conv}=a\,y+s\,z,\qquad z\sim\mathcal N(0,I), \tag{1}

with a *scale* :math:`a>0` and a *standard deviation* :math:`s>0`.  This toolkit's point is
:math:`x=y+\sqrt t\,z` (variance exploding, VE), so that

.. math:: x_{\rm conv}=a\,x,\qquad t=(s/a)^2. \tag{2}

Results.  A :class:`Convention` is three functions: from ``t`` to the :class:`Noising` :math:`(a,s)`, from ``t`` to the
convention's clock, and back from the clock to ``t``.

============  =====================================  =======================================  =======================
convention    clock                                  t(clock)                                 (a, s) at t
============  =====================================  =======================================  =======================
``VE``        variance t                             t                                        1, √t
``EDM``       standard deviation σ                   σ²                                       1, √t
``OU``        time τ of dx = −x dτ + √2 dW           exp(2τ) − 1                              1/√(1+t), √(t/(1+t))
``vp()``      time τ, rate β₀ + (β₁ − β₀)τ           exp(β₀τ + (β₁ − β₀)τ²/2) − 1             as ``OU``
``ddpm(β)``   index k = 0 … T−1                      1/ᾱₖ − 1, with ᾱₖ = ∏(1 − βⱼ), j ≤ k     as ``OU``
``FLOW``      time τ in (0, 1): x = (1−τ)y + τz      (τ/(1−τ))²                               1/(1+√t), √t/(1+√t)
============  =====================================  =======================================  =======================

At one point and one noise every common prediction says the same two things, the expected data
:math:`\hat y=\mathbb E[y\mid x_{\rm conv}]` and the expected noise :math:`\hat z=\mathbb E[z\mid x_{\rm conv}]`, with
:math:`a\hat y+s\hat z=x_{\rm conv}`: a :class:`Prediction`.  From them

.. math::
   \text{score }\nabla\log p_{\rm conv}=-\frac{\hat z}s,\qquad \text{VE score}=-\frac{\hat z}{\sqrt t}=a\,\text{score},
   \qquad v=a\hat z-s\hat y,\qquad u=\hat z-\hat y. \tag{3}

Solved for the pair (the last two lines have no small denominator at any noise):

.. math::
   \begin{aligned}
   \hat y&=(x_{\rm conv}-s\hat z)/a, &\hat z&=(x_{\rm conv}-a\hat y)/s,\\
   \hat y&=(a\,x_{\rm conv}-s\,v)/(a^2+s^2), &\hat z&=(s\,x_{\rm conv}+a\,v)/(a^2+s^2),\\
   \hat y&=(x_{\rm conv}-s\,u)/(a+s), &\hat z&=(x_{\rm conv}+a\,u)/(a+s).
   \end{aligned} \tag{4}

Scope.  Exact, for any data.  Rounding: a denoiser fixes :math:`\hat z` to about :math:`|x|/s` roundings and an
:math:`\epsilon` or score model fixes :math:`\hat y` to about :math:`|x|/a`, whatever the formula; nothing else is lost.
:func:`speciation_time` is leading order for a large variance.
Source.  Derivation: DERIVATIONS.md, section N.  EDM: arXiv 2206.00364; VP: arXiv 2011.13456; DDPM: arXiv 2006.11239;
v: arXiv 2202.00512; flow matching: arXiv 2210.02747 and 2209.03003 (there the data are at time 1: their time is
:math:`1-\tau` and their velocity :math:`-u`); speciation and collapse times in OU time: arXiv 2402.18491.
"""

from ._noise_conventions import EDM, FLOW, OU, VE, Convention, Noising, ddpm, speciation_time, vp
from ._noise_predictions import (
    Prediction,
    Reading,
    as_denoiser,
    from_denoised,
    from_epsilon,
    from_score,
    from_v,
    from_velocity,
)

__all__ = [
    "EDM",
    "FLOW",
    "OU",
    "VE",
    "Convention",
    "Noising",
    "Prediction",
    "Reading",
    "as_denoiser",
    "ddpm",
    "from_denoised",
    "from_epsilon",
    "from_score",
    "from_v",
    "from_velocity",
    "speciation_time",
    "vp",
]
