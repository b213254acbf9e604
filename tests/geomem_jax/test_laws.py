"""The point that an estimated mean costs, both ways and against simulation-free counting."""

import numpy as np
import pytest

from geomem_jax.config import PredictOptions
from geomem_jax.data import from_points
from geomem_jax.laws import data_log_size, law_size
from geomem_jax.predict import predict


@pytest.mark.parametrize("law", ["population", "linear", "empirical", "planted"])
@pytest.mark.parametrize("centred", [False, True])
def test_the_two_directions_are_inverse(law: str, centred: bool) -> None:
    n = np.array([2.0, 3.0, 100.0, 1e12])
    sizes = law_size(law, n, centred=centred)
    np.testing.assert_allclose(n - sizes, float(centred and law == "linear"), atol=1e-3)
    np.testing.assert_allclose(data_log_size(law, np.log(sizes), centred=centred), np.log(n), rtol=1e-12)


def test_infinite_sizes_stay_infinite() -> None:
    ends = np.array([-np.inf, np.inf])
    np.testing.assert_array_equal(data_log_size("population", ends, centred=True), ends)
    np.testing.assert_array_equal(data_log_size("linear", np.inf, centred=True), np.inf)


def test_one_centred_point_has_no_free_direction() -> None:
    points = np.random.default_rng(0).standard_normal((20, 3))
    found = predict(PredictOptions(n="1,2", t=0.1), from_points(points, "points"))
    dimensions = found["soft_dimensions"]
    assert isinstance(dimensions, dict)
    assert dimensions["linear"][0] == 0 < dimensions["linear"][1]
    assert dimensions["empirical"][0] == 0
