"""``geomem predict``: what the theory says, without simulation."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import theory
from geomem_jax.config import PredictOptions, check_noise_variance, parse_sizes
from geomem_jax.data.source import Source
from geomem_jax.laws import data_log_size, law_size

# Those in closed form: others take more than the second in which this answers.
LAWS = ("population", "linear", "empirical", "planted")


def predict(options: PredictOptions, source: Source) -> dict[str, object]:
    """Evaluate every law on the variances of ``source``.

    Returns:
      Plain numbers: ``log_freeze_out_sizes`` (nats, per direction and law) at noise variance ``t``; and per dataset
      size the condensation and onset time (noise variances) and the soft dimension at ``t`` under each law of gains
      (the random-energy predictor has sizes alone).
    """
    variances = source.variances
    sizes = parse_sizes(options.n, "--n", least=1)
    if options.t is not None:
        check_noise_variance(options.t, "--t")
    n = np.asarray(sizes, np.float64)

    def of_law(law: str) -> tuple[np.ndarray, np.ndarray]:
        log_size = data_log_size(law, theory.freeze_out_sizes(variances, t, law), centred=source.centred)
        law_n = law_size(law, n, centred=source.centred)
        # One centred point has no spread, so that nothing moves.
        reached = np.asarray(theory.soft_dimension(variances, np.maximum(law_n, 1), t, law), np.float64)
        return log_size, np.where(law_n < 1, 0, reached)

    # Nearly all the time goes into compilation: one program serves both times, the laws are compiled side by side.
    condensation_times, onset_times = (
        np.asarray(time(variances, np.append(n, 1000)), np.float64)
        for time in (theory.condensation_time, theory.onset_time)
    )
    t = float(condensation_times[-1]) if options.t is None else options.t
    random_energy = theory.freeze_out_sizes(variances, t, "random_energy", normalized=options.normalized)
    with ThreadPoolExecutor() as threads:
        log_sizes, dimension = zip(*threads.map(of_law, LAWS), strict=True)
    return {
        "name": source.name,
        "t": t,
        "gaussian_relative": not source.gaussian,
        "variances": variances.tolist(),
        "log_freeze_out_sizes": {law: values.tolist() for law, values in zip(LAWS, log_sizes, strict=True)}
        | {"random_energy": np.asarray(random_energy, np.float64).tolist()},
        "dataset_sizes": list(sizes),
        "condensation_times": condensation_times[:-1].tolist(),
        "onset_times": onset_times[:-1].tolist(),
        "soft_dimensions": {law: values.tolist() for law, values in zip(LAWS, dimension, strict=True)},
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
