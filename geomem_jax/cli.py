"""The command line: ``geomem predict``, ``overlay``, ``sweep``, ``train``, ``ablate`` and ``report``."""

import contextlib
import io
import os
import sys
from itertools import groupby
from typing import Annotated

import tyro

from geomem_jax.config import (
    AblateOptions,
    OverlayOptions,
    PredictOptions,
    ReportOptions,
    SweepOptions,
    TrainOptions,
)
from geomem_jax.errors import InputError

# Everything heavier is imported when it is needed, so that help and errors come at once.

Command = (
    Annotated[OverlayOptions, tyro.conf.subcommand("overlay")]
    | Annotated[SweepOptions, tyro.conf.subcommand("sweep")]
    | Annotated[PredictOptions, tyro.conf.subcommand("predict")]
    | Annotated[TrainOptions, tyro.conf.subcommand("train")]
    | Annotated[AblateOptions, tyro.conf.subcommand("ablate")]
    | Annotated[ReportOptions, tyro.conf.subcommand("report")]
)


def _predict(options: PredictOptions) -> None:
    from geomem_jax import data, tables
    from geomem_jax.predict import predict, to_json

    prediction = predict(options, data.from_options(options))
    if options.json:
        print(to_json(prediction))
    else:
        tables.print_prediction(prediction)


def _every_core() -> None:
    """Make every core a device, over which networks are spread, unless the user or a program around this chose."""
    import jax

    if jax.config.values["jax_num_cpu_devices"] < 0:
        with contextlib.suppress(RuntimeError):  # where devices are running already
            jax.config.update("jax_num_cpu_devices", os.cpu_count())


def _overlay(options: OverlayOptions) -> None:
    from rich.console import Console

    from geomem_jax import tables
    from geomem_jax.overlay import run

    _every_core()
    folder, dataset = run(options, Console(stderr=True))
    tables.print_comparison(dataset)
    print(f"\nreport: {folder / 'report.html'}")


def _sweep(options: SweepOptions) -> None:
    from rich.console import Console

    from geomem_jax import overlay, tables

    _every_core()
    folder, dataset = overlay.measure(options, Console(stderr=True))
    tables.print_comparison(dataset)
    print(f"\nresult: {folder / overlay.RESULTS}")


def _train(options: TrainOptions) -> None:
    import jax
    from rich.console import Console

    from geomem_jax import tables, train

    _every_core()
    folder, dataset = train.run(options, Console(stderr=True))
    if jax.process_index() > 0:
        return
    tables.print_trained(dataset)
    print(f"\nresult: {folder / train.RESULTS}, figures: {', '.join(str(folder / name) for name in train.FIGURES)}")


def _ablate(options: AblateOptions) -> None:
    from rich.console import Console

    from geomem_jax import ablate_job, ablate_tables

    _every_core()
    folder, dataset, toy = ablate_job.run(options, Console(stderr=True))
    ablate_tables.write(dataset, toy, Console())
    print(f"\nresults, figures and this summary: {folder}")


def _report(options: ReportOptions) -> None:
    from rich.console import Console

    from geomem_jax import referee, tables
    from geomem_jax.freeze_out import comparison_noise

    path, dataset, league = referee.run(options, Console(stderr=True))
    tables.print_league(league, comparison_noise(dataset))
    print(f"\nreport: {path}")


def _parse() -> OverlayOptions | SweepOptions | PredictOptions | TrainOptions | AblateOptions | ReportOptions:
    """Parse the command line; an error of the parser, which it prints at length, becomes one line."""
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(
                Command,
                prog="geomem",
                description="Which directions of the data a diffusion model can still vary, at which dataset size.",
            )
    except SystemExit as stop:
        if not stop.code:  # help was asked for
            raise
    # A box with a heading and paragraphs, of which the first is the error and the last says where help is.
    _, *lines = (line.strip(" │╭╮╰╯─") for line in shown.getvalue().splitlines())
    paragraphs = [list(group) for full, group in groupby(lines, lambda line: bool(line.strip("-"))) if full]
    error, hint = (" ".join(paragraphs[index]) for index in (0, -1))
    raise InputError(f"{error.rstrip('.')}. {hint}")


def main() -> None:
    """Run the command line; a user's error is one line on standard error and exit status 2.

    So is an error of the machine, such as a full disk, with exit status 1.
    """
    try:
        options = _parse()
        if isinstance(options, PredictOptions):
            _predict(options)
        elif isinstance(options, SweepOptions):
            _sweep(options)
        elif isinstance(options, TrainOptions):
            _train(options)
        elif isinstance(options, AblateOptions):
            _ablate(options)
        elif isinstance(options, ReportOptions):
            _report(options)
        else:
            _overlay(options)
    except InputError as error:
        print(f"geomem: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"geomem: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
