"""Spectra from strings: what is accepted, and one clear line for everything else."""

import numpy as np
import pytest

from geomem_jax.errors import InputError
from geomem_jax.spectra import check_variances, parse_levels, parse_power_law, parse_variances


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (parse_variances, "1,1,0.09", [1, 1, 0.09]),
        (parse_variances, "0, 2 ,1e-3", [0, 2, 1e-3]),
        (parse_levels, "2:1,3:0.09,1:0", [1, 1, 0.09, 0.09, 0.09, 0]),
        (parse_levels, "1:4", [4]),
        (parse_power_law, "4:2", [1, 1 / 4, 1 / 9, 1 / 16]),
        (parse_power_law, "3:0.5:2", [2, 2 / 2**0.5, 2 / 3**0.5]),
        (parse_power_law, "2:0", [1, 1]),
    ],
)
def test_parses(parse, text, expected):
    values = parse(text)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, expected, rtol=1e-15)  # a rounding of the power


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (parse_variances, "", "'' is not a number"),
        (parse_variances, "1,,2", "'' is not a number"),
        (parse_variances, "1,two", "'two' is not a number"),
        (parse_variances, "1,-2", "number 2 is -2"),
        (parse_variances, "nan", "number 1 is nan"),
        (parse_variances, "1,2,inf", "number 3 is inf"),
        (parse_variances, "0,0", "every variance is 0"),
        (parse_variances, "1e40", "1e+40"),
        (parse_variances, "1e-40", "1e-40"),
        (parse_variances, "1\n2", r"'1\n2' is not a number"),
        (parse_variances, "x" * 10**5, "..."),
        (parse_levels, "", "'' is not count:variance"),
        (parse_levels, "8", "'8' is not count:variance"),
        (parse_levels, "8:1:2", "'8:1:2' is not count:variance"),
        (parse_levels, "8:1,0:2", "'0' directions"),
        (parse_levels, "-1:1", "'-1' directions"),
        (parse_levels, "1.5:1", "'1.5' is not a whole number"),
        (parse_levels, "8:x", "'x' is not a number"),
        (parse_levels, "8:0", "every variance is 0"),
        (parse_levels, "2:1,2:-1", "number 3 is -1"),
        (parse_levels, "600000:1,600000:2", "more than 1000000"),
        (parse_levels, "9" * 5000 + ":1", "not a whole number"),
        (parse_power_law, "", "not count:exponent"),
        (parse_power_law, "64", "not count:exponent"),
        (parse_power_law, "64:1:1:1", "not count:exponent"),
        (parse_power_law, "0:1", "'0' directions"),
        (parse_power_law, "1000001:1", "more than 1000000"),
        (parse_power_law, "64:nan", "exponent is nan"),
        (parse_power_law, "64:-1", "exponent is -1"),
        (parse_power_law, "64:inf", "exponent is inf"),
        (parse_power_law, "64:a", "'a' is not a number"),
        (parse_power_law, "64:1:0", "every variance is 0"),
        (parse_power_law, "64:1:-2", "number 1 is -2"),
        (parse_power_law, "64:1:inf", "number 1 is inf"),
    ],
)
def test_refuses_in_one_line(parse, text, says):
    with pytest.raises(InputError) as caught:
        parse(text)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert len(message) < 250


@pytest.mark.parametrize("variances", [[], [[1.0]], 1.0, ["a"], [None, 1], np.ones(10**6 + 1)])
def test_check_variances_refuses_what_is_no_list_of_numbers(variances):
    with pytest.raises(InputError, match=r"^variances: "):
        check_variances(variances)
