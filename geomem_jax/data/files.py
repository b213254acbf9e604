"""Read a user's array from a ``.npy`` or ``.npz`` file that may be broken or hostile.

Nothing is unpickled, and nothing is allocated before the header has been compared with the bytes that are
there and with the memory of the machine.  The contents decide what a file is, not its name.
"""

import math
import os
import stat
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from geomem_jax.data.points import check_layout, check_points
from geomem_jax.errors import InputError

MEMORY_SHARE = 4  # of physical memory: reading, centring and the copy on the device need about three times the data
MAX_COMPRESSION = 1000  # deflate ends at 1032, which only constant data reach
SAVE_NPY = "save it with numpy.save(path, points)"
SAVE_NPZ = "save one array with numpy.savez(path, points=points)"


def read_array(path: str | Path) -> np.ndarray:
    """Read one array of points from a ``.npy`` file, or from a ``.npz`` archive that holds just one array.

    Args:
      path: the file; it is opened for reading only.

    Returns:
      ``(M, D)`` float64, one point per row; further axes, as of images, are flattened.

    Raises:
      InputError: if the file is missing, unreadable or not such a file; if its header promises more than the
        file holds or than a quarter of physical memory; if an archive holds several arrays or looks like a
        decompression bomb; or as :func:`geomem_jax.data.points.check_points`.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{path}: is a folder; give a .npy or .npz file")
        if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
            raise InputError(f"{path}: is not a regular file; give a .npy or .npz file")
        with path.open("rb") as stream:
            array = _read(stream, path)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give an existing .npy or .npz file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); give a readable file") from error
    except Exception as error:  # a hostile file can make the parsers of headers and archives raise anything
        raise InputError(f"{path}: broken ({type(error).__name__} while reading); {SAVE_NPY}") from error
    return check_points(array, str(path))


def _read(stream: IO[bytes], path: Path) -> np.ndarray:
    start = stream.read(len(npy.MAGIC_PREFIX))
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if start == npy.MAGIC_PREFIX:
        return _read_npy(stream, size, path)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _read_npz(stream, path)
    if start[:1] == b"\x80":
        raise InputError(f"{path}: looks like a pickle, which is never loaded because it can run code; {SAVE_NPY}")
    raise InputError(f"{path}: {'empty' if size == 0 else 'neither a .npy nor a .npz file'}; {SAVE_NPY}")


def _read_npz(stream: IO[bytes], path: Path) -> np.ndarray:
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if len(members) != 1:
            names = ", ".join(ascii(member.filename[:40]) for member in members[:5])
            more = ", ..." if len(members) > 5 else ""
            raise InputError(f"{path}: holds {len(members)} arrays ({names}{more}), need exactly one; {SAVE_NPZ}")
        member = members[0]
        # What numpy writes; the other methods of zip can expand without bound before a length is looked at.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{path}: compressed by a method that numpy does not use; {SAVE_NPZ}")
        if member.file_size > MAX_COMPRESSION * member.compress_size:
            raise InputError(
                f"{path}: looks like a decompression bomb, {member.file_size} bytes from "
                f"{member.compress_size}; save the array without compression"
            )
        with archive.open(member) as content:
            if content.read(len(npy.MAGIC_PREFIX)) != npy.MAGIC_PREFIX:
                raise InputError(f"{path}: {member.filename[:40]!a} in it is not an array; {SAVE_NPZ}")
            content.seek(0)
            return _read_npy(content, member.file_size, path)


def _read_npy(stream: IO[bytes], size: int, path: Path) -> np.ndarray:
    """Read an array from a stream that is said to hold ``size`` bytes, header included."""
    _check_memory(size, path)  # first of all: a header can be as long as the file
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, fortran_order, dtype = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran_order, dtype = npy.read_array_header_2_0(stream)
    else:  # version 3 exists for structured dtypes only
        raise InputError(f"{path}: holds a structured array or is of an unknown version; {SAVE_NPY}")
    # Python integers: the products cannot overflow.
    if not (all(0 <= length < 2**63 for length in shape) and math.prod(shape) < 2**63):
        raise InputError(f"{path}: broken, the header states an impossible shape; {SAVE_NPY}")
    check_layout(shape, dtype, str(path))
    promised, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if promised != held:
        raise InputError(
            f"{path}: the header promises {promised} bytes of data, the file holds {held}; it is "
            f"truncated or damaged, {SAVE_NPY}"
        )
    _check_memory(math.prod(shape) * max(dtype.itemsize, 8), path)
    data = stream.read(promised)
    if len(data) != promised:
        raise InputError(f"{path}: holds {len(data)} of the {promised} bytes it declares; {SAVE_NPY}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")


def _check_memory(num_bytes: int, path: Path) -> None:
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEMORY_SHARE
    if num_bytes > limit:
        raise InputError(
            f"{path}: needs {num_bytes / 2**30:.1f} GiB as float64, more than a quarter of memory, "
            f"{limit / 2**30:.1f} GiB; give fewer points or coordinates"
        )
