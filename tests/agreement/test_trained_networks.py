"""Networks with many points have the gains of infinite data, networks with few collapse onto their points."""

import numpy as np
import pytest
from rich.console import Console

from geomem_jax import train
from geomem_jax.config import TrainOptions
from geomem_jax.gains import relative_gain
from geomem_jax.trained_results import at_step


@pytest.mark.slow  # 16 000 steps of two networks: minutes
def test_networks_of_many_points_are_free_and_of_few_are_frozen(tmp_path):
    # The gain of the small variance falls to its limit from above, slowest at large noise: 5.6 % are left after 6000
    # steps, 2.8 % after 12 000, 1.6 % after 24 000.
    options = TrainOptions(
        two_level="8:1,8:0.09,16:0",
        sizes="30,20000",
        seeds=1,
        steps=16_000,
        snapshots=1,
        batch=256,
        ema_decay=0.9995,
        noise_range="0.05,1",
        t="0.01,0.09",
        out=tmp_path / "run",
    )
    _, dataset = train.run(options, Console(quiet=True))
    view = at_step(dataset, 16_000)
    train_points, held_out = (
        relative_gain(view, "trained", point).isel(seed=0).values for point in ("train", "held_out")
    )
    for many in (train_points[1], held_out[1]):
        np.testing.assert_allclose(many, 1, atol=0.05)  # both noise variances and both groups
    assert (train_points[0] < 0.5).all()
