"""Arrays from files: every real array is read as it was saved, everything else is refused in one line."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from geomem_jax.data import files, read_array
from geomem_jax.errors import InputError

POINTS = np.random.default_rng(0).normal(size=(20, 6))


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=True)  # hostile files are written here
    return stream.getvalue()


def header(shape, descr="<f8", data=b"", version=1):
    """A .npy file whose header says whatever it is told to."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def archive(members, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return stream.getvalue()


def declare_size(zipped, size):
    """Make a one-member archive lie about the size of its content."""
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = zipped.rindex(signature) + offset
        zipped = zipped[:at] + struct.pack("<I", size) + zipped[at + 4 :]
    return zipped


def flip_last_data_byte(zipped, content):
    at = zipped.index(content) + len(content) - 1
    return zipped[:at] + bytes([zipped[at] ^ 1]) + zipped[at + 1 :]


def with_value(value, *indices):
    points = POINTS.copy()
    for index in indices:
        points[index] = value
    return points


class Runs:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("unpickled"),)


WHOLE = npy(POINTS)
DEFLATED = zipfile.ZIP_DEFLATED
REFUSED = {
    # not an array file
    "empty": (b"", "empty"),
    "garbage": (bytes(range(7, 207)), "neither a .npy nor a .npz"),
    "text": (b"1.0,2.0\n3.0,4.0\n", "neither a .npy nor a .npz"),
    "pickle": (pickle.dumps(Runs()), "a pickle, which is never loaded"),
    "cut magic": (WHOLE[:5], "neither a .npy nor a .npz"),
    "cut after magic": (WHOLE[:9], "broken"),
    "cut header": (WHOLE[:60], "broken"),
    "cut data": (WHOLE[:-8], "promises 960 bytes of data, the file holds 952"),
    "too much data": (WHOLE + b"12345678", "promises 960 bytes of data, the file holds 968"),
    "unknown version": (WHOLE[:6] + b"\x09" + WHOLE[7:], "unknown version"),
    "header is no dictionary": (WHOLE.replace(b"{'descr'", b"['descr'"), "broken"),
    "header is nested": (b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000, "broken"),
    "header is huge": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b" " * 100, "broken"),
    # dtypes
    "objects": (npy(np.array([[Runs()] * 2] * 5, object)), "dtype is object"),
    "complex": (npy(POINTS + 1j), "dtype is complex128"),
    "text array": (npy(np.full((5, 2), "a")), "dtype is text"),
    "bytes array": (npy(np.full((5, 2), b"a")), "dtype is text"),
    "dates": (npy(np.zeros((5, 2), "M8[s]")), "dtype is datetime64"),
    "structured": (npy(np.zeros((5, 2), [("a", "f8"), ("b", "f8")])), "dtype is structured"),
    "sub-array": (header((5, 2), ("<f8", (2,)), bytes(160)), "dtype is structured"),
    # shapes
    "0-D": (npy(3.0), "shape is ()"),
    "1-D": (npy(np.arange(9.0)), "shape is (9,)"),
    "two points": (npy(POINTS[:2]), "has 2 points"),
    "no points": (npy(POINTS[:0]), "has 0 points"),
    "no columns": (npy(POINTS[:, :0]), "has no coordinates"),
    "too many columns": (npy(np.zeros((3, 20_001), np.uint8)), "20001 coordinates per point are more than 20000"),
    # values
    "NaN": (npy(with_value(np.nan, (7, 1), (3, 4))), "2 of 120 values are NaN or infinite, the first in row 3, col"),
    "infinite": (npy(with_value(-np.inf, (0, 5))), "1 of 120 values are NaN or infinite, the first in row 0, column 5"),
    "beyond float64": (npy(np.full((3, 2), np.longdouble("1e4000"))), "6 of 6 values are NaN or infinite"),
    "constant": (npy(np.full((5, 2), 0.1)), "all 5 points are equal"),
    "overflows float32": (npy(with_value(-1e25, (1, 1))), "largest value is 1e+25"),
    "near the end of float64": (npy(1e307 * POINTS), "overflow float32"),
    "underflows float32": (npy(1e-25 * POINTS), "underflow float32"),
    # headers that promise too much
    "more than the file": (header((10**9, 100), data=bytes(1000)), "promises 800000000000 bytes of data"),
    "overflowing product": (header((2**32, 2**32, 2**3), data=bytes(64)), "impossible shape"),
    "huge axis": (header((10**40, 2), data=bytes(64)), "impossible shape"),
    "negative axis": (header((-4, -2), data=bytes(64)), "impossible shape"),
    "axis is no integer": (header("(4.0, 2)", data=bytes(64)), "broken"),
    # archives
    "no array": (archive({}), "holds 0 arrays"),
    "two arrays": (archive({"x.npy": WHOLE, "labels.npy": npy(np.arange(20))}), "2 arrays ('x.npy', 'labels.npy')"),
    "many arrays": (archive({f"{i}\n.npy": WHOLE for i in range(99)}), "'4\\n.npy', ...), need exactly one"),
    "text inside": (archive({"notes.txt": b"hello, hello"}), "'notes.txt' in it is not an array"),
    "archive inside": (archive({"inner.npz": archive({"x.npy": WHOLE})}), "'inner.npz' in it is not an array"),
    "objects inside": (archive({"x.npy": npy(np.array([[Runs()] * 2] * 5, object))}), "dtype is object"),
    "cut archive": (archive({"x.npy": WHOLE})[:-30], "broken"),
    "damaged member": (flip_last_data_byte(archive({"x.npy": WHOLE}), WHOLE), "broken (BadZipFile"),
    "lzma": (archive({"x.npy": WHOLE}, zipfile.ZIP_LZMA), "a method that numpy does not use"),
    "bomb": (archive({"x.npy": npy(np.zeros((1000, 4000)))}, DEFLATED), "decompression bomb, 32000128 bytes from"),
    "member promises more": (archive({"x.npy": header((10**9, 100))}), "promises 800000000000 bytes"),
    "member declares more": (
        declare_size(archive({"x.npy": header((21, 6), data=WHOLE[-960:])}, DEFLATED), len(header((21, 6))) + 1008),
        "holds 960 of the 1008 bytes",
    ),
    "member declares less": (
        declare_size(archive({"x.npy": npy(np.tile(POINTS, (10, 1)))}, DEFLATED), len(WHOLE) - 960 + 9600 - 48),
        "promises 9600 bytes of data, the file holds 9552",
    ),
    "member hides more": (
        declare_size(archive({"x.npy": header((10, 6), data=WHOLE[-960:])}, DEFLATED), len(header((10, 6))) + 480),
        "broken (BadZipFile",
    ),
}  # fmt: skip


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_array(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) - len(str(path)) < 250
    return message


@pytest.mark.parametrize(("content", "says"), REFUSED.values(), ids=REFUSED)
def test_refuses_in_one_line(content, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("points.npy").write_bytes(content)
    assert says in refusal("points.npy")
    # Nothing was unpickled, nothing was written, and the user's file is as it was.
    assert list(Path().iterdir()) == [Path("points.npy")]
    assert Path("points.npy").read_bytes() == content


def test_the_pickle_of_these_tests_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Runs()))
    assert list(Path().iterdir()) == [Path("unpickled")]


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f8", "<f2", "u1", "<i8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_reads_what_numpy_saves(dtype, order, save, tmp_path):
    array = np.asarray(np.maximum(2 * POINTS, 0), dtype, order=order)
    path = tmp_path / ("points.npy" if save is np.save else "points.npz")
    save(path, array)
    path.chmod(0o400)
    before = path.stat()
    values = read_array(path)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, array)
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (before.st_mtime_ns, before.st_size)


def test_reads_images_long_headers_and_any_name(tmp_path):
    images = POINTS.reshape(10, 3, 4)
    np.save(tmp_path / "images.npy", images)
    np.testing.assert_array_equal(read_array(tmp_path / "images.npy"), images.reshape(10, 12))
    (tmp_path / "points").write_bytes(header((20, 6), data=POINTS.tobytes(), version=2))
    np.testing.assert_array_equal(read_array(str(tmp_path / "points")), POINTS)


def test_more_than_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "points.npy"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(files, "MEMORY_SHARE", memory // 100_000)  # a limit of about 100 kB
    for count in (20_000, 2_000):
        # As bytes 20 000 and 2 000 numbers would fit: what counts is their size as float64.
        array = np.arange(count, dtype=np.uint8).reshape(-1, 4)
        for stored in (npy(array), archive({"x.npy": npy(array)})):
            path.write_bytes(stored)
            if count == 2_000:
                np.testing.assert_array_equal(read_array(path), array)
            else:
                assert "more than a quarter of memory" in refusal(path)
    long_header = b"\x93NUMPY\x02\x00" + struct.pack("<I", 150_000) + bytes(range(250)) * 600
    for stored in (long_header, archive({"x.npy": long_header}, DEFLATED)):  # the archive itself is small
        path.write_bytes(stored)
        assert "more than a quarter of memory" in refusal(path)


def test_what_is_not_a_readable_file(tmp_path, monkeypatch):
    assert "no such file" in refusal(tmp_path / "none.npy")
    assert "is a folder" in refusal(tmp_path)
    assert "File name too long" in refusal(tmp_path / ("x" * 300 + ".npy"))
    assert "broken (ValueError" in refusal("a\0.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    assert "not a regular file" in refusal(tmp_path / "pipe.npy")
    (tmp_path / "dangling.npy").symlink_to(tmp_path / "none.npy")
    assert "no such file" in refusal(tmp_path / "dangling.npy")

    def denied(self, mode):
        raise PermissionError(13, "Permission denied")

    np.save(tmp_path / "points.npy", POINTS)
    monkeypatch.setattr(Path, "open", denied)  # chmod does not stop an administrator
    assert "cannot be read (Permission denied)" in refusal(tmp_path / "points.npy")
