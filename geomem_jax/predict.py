"""``geomem predict``: what the theory says, without simulation."""

import json
import math

import numpy as np

import theory
from geomem_jax.config import PredictOptions, check_noise_variance, parse_sizes
from geomem_jax.data.source import Source
from geomem_jax.laws import data_log_size, law_size

LAWS = tuple(theory.LAWS)


def predict(options: PredictOptions, source: Source) -> dict[str, object]:
    """Evaluate every law on the variances of ``source``.

    Returns:
      Plain numbers: ``log_freeze_out_sizes`` (nats, per direction and law) at noise variance ``t``; and per dataset
      size the condensation and onset time (noise variances) and the soft dimension at ``t`` under each law.
    """
    variances = source.variances
    sizes = parse_sizes(options.n, "--n", least=1)
    if options.t is None:
        t = float(theory.condensation_time(variances, 1000))
    else:
        check_noise_variance(options.t, "--t")
        t = options.t
    n = np.asarray(sizes, np.float64)
    log_sizes, dimension = {}, {}
    for law in LAWS:
        log_size = theory.freeze_out_sizes(variances, t, law)
        log_sizes[law] = data_log_size(law, log_size, centred=source.centred)
        law_n = law_size(law, n, centred=source.centred)
        # One centred point has no spread, so that nothing moves.
        reached = np.asarray(theory.soft_dimension(variances, np.maximum(law_n, 1), t, law), np.float64)
        dimension[law] = np.where(law_n < 1, 0, reached)
    return {
        "name": source.name,
        "t": t,
        "gaussian_relative": not source.gaussian,
        "variances": variances.tolist(),
        "log_freeze_out_sizes": {law: values.tolist() for law, values in log_sizes.items()},
        "dataset_sizes": list(sizes),
        "condensation_times": np.asarray(theory.condensation_time(variances, n), np.float64).tolist(),
        "onset_times": np.asarray(theory.onset_time(variances, n), np.float64).tolist(),
        "soft_dimensions": {law: values.tolist() for law, values in dimension.items()},
    }


def to_json(prediction: dict[str, object]) -> str:
    """Encode a prediction; infinities, which JSON lacks, become the strings "inf" and "-inf"."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, float) and math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return value

    return json.dumps(plain(prediction), allow_nan=False)
