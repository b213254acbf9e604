"""What jobs share: the folder of a run, the options that are kept in it, and a progress bar."""

import dataclasses
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from geomem_jax import data
from geomem_jax.config import SpectrumOptions
from geomem_jax.errors import InputError


def configuration(options: SpectrumOptions, left_out: tuple[str, ...]) -> dict[str, object]:
    """Plain options from which a run can be repeated; ``left_out``: what says where it ran or was written to."""
    plain = {name: value for name, value in dataclasses.asdict(options).items() if name not in left_out}
    if options.data is not None and options.data not in data.BUNDLED:
        plain["data"] = str(Path(options.data).resolve())
    return plain


def new_folder(out: Path | None, name: str) -> Path:
    """Create the folder of a run: ``out``, or the first free one below ``runs/`` with a name made of ``name``.

    Raises:
      InputError: if ``out`` exists, or cannot be created.
    """
    if out is not None:
        if out.exists():
            raise InputError(f"{out} exists; give another --out, or finish that run with --resume {out}")
        folder = out
    else:
        stem = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in Path(name).stem)
        taken = (Path("runs") / (stem if count == 1 else f"{stem}-{count}") for count in range(1, 10**6))
        folder = next(path for path in taken if not path.exists())
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot create {folder}: {error.strerror}; give another --out") from error
    return folder


def progress_bar(console: Console) -> Progress:
    """Build a progress bar with the time that is left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)
