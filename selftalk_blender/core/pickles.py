"""Reading the pickles that face data comes in, without running what is in them.

A pickle is a program: `pickle.load` calls whatever the file names. Here only arrays, numbers, text
and plain containers can come out, and no numpy code sees a description of an array that was not
checked first (a forged data type could make numpy take bytes for pointers).
"""

from __future__ import annotations

import collections
import math
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import SelfTalkError

Progress = Callable[[float, str], None]
PLAIN = re.compile(r"[<>=|]?(?:[biufc?]\d*|[SUO]\d*)")  # numbers, text, objects; nothing structured


def load_numpy_pickle(path: str | os.PathLike[str], progress: Progress | None = None) -> Any:
    """What a pickle of plain data holds; nothing in the file is executed.

    Understood are numpy arrays and scalars (of numpy 1 and 2), dict, OrderedDict, list, tuple, set,
    str, bytes, numbers, None; every protocol, Python 2's included, whose byte strings are read as
    Latin-1 text. Files of several GB need that much memory.

    Args:
        path: the file.
        progress: called with the part read (0..1) and what is being done.

    Raises:
        SelfTalkError: the file is missing, damaged, no pickle, or names anything else.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            source = _Counted(file, size, path.name, progress) if progress else file
            return _plain(_Unpickler(source, path.name).load(), {})
    except OSError as error:
        raise SelfTalkError(f"{path} cannot be read: {error.strerror or error}.") from error
    except SelfTalkError:
        raise
    except MemoryError as error:
        raise SelfTalkError(f"{path.name} needs more memory than there is.") from error
    except Exception as error:  # a damaged pickle can end in any of Python's errors
        raise SelfTalkError(
            f"{path.name} is not a whole pickle file ({error}). Copy or download it again."
        ) from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, name: str) -> None:
        super().__init__(file, encoding="latin1")
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        module = re.sub(r"^numpy\._core\b", "numpy.core", module)
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise SelfTalkError(
                f"{self._name} asks for {module}.{name}, which plain data has no need of. It was "
                "refused and nothing was executed; save the data as .npy or .npz if you trust it."
            ) from None


class _Known:
    """Something that a pickle may call. The pickle cannot change it, as it could a function."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes the reader")


class _DataType:
    """Stands for numpy.dtype until its state is known; only `real` makes one, from checked text."""

    __slots__ = ("_order", "_text")

    def __init__(self, text: Any, *_: Any) -> None:
        if not isinstance(text, str) or not PLAIN.fullmatch(text):
            raise SelfTalkError(
                f"The pickle holds an array of the type {text!r}; only numbers and text are read. "
                "Nothing was executed."
            )
        self._text = text
        self._order = "="

    def __setstate__(self, state: Any) -> None:
        _, order, *structure = state
        if order not in ("<", ">", "=", "|") or any(part is not None for part in structure[:3]):
            raise SelfTalkError("The pickle holds a structured array, which is not read here.")
        self._order = order

    def real(self) -> np.dtype:
        return np.dtype(self._text).newbyteorder(self._order)  # type: ignore[arg-type]


class _Array:
    """Stands for numpy.ndarray until its state is known."""

    __slots__ = ("array",)

    def __init__(self, *_: Any) -> None:
        self.array = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        shape, dtype, fortran, data = state[-4:]
        order = "F" if fortran else "C"
        if dtype.real().hasobject:
            if not isinstance(data, list):  # bytes: numpy would take them for pointers
                raise ValueError("an array of objects is made of something else")
            flat = np.empty(len(data), object)
            flat[:] = data
            self.array = flat.reshape(shape, order=order)  # type: ignore[call-overload]
        else:
            self.array = _from_bytes(data, dtype, shape, order)


def _from_bytes(data: Any, dtype: _DataType, shape: Any, order: str) -> np.ndarray:
    raw = data.encode("latin1") if isinstance(data, str) else data  # text in Python 2's pickles
    if len(raw) != math.prod(shape) * dtype.real().itemsize:
        raise ValueError("an array is not as long as it says")
    if len(raw) == 0:
        return np.zeros(shape, dtype.real())
    return np.frombuffer(raw, dtype.real()).reshape(shape, order=order)  # type: ignore[call-overload]


def _scalar(dtype: _DataType, data: Any = b"") -> Any:
    if dtype.real().hasobject:
        return data
    return _from_bytes(data, dtype, (1,), "C")[0]


def _latin1_bytes(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"unexpected encoding {encoding!r}")
    return text.encode("latin1")


def _no_array(*_: Any) -> Any:
    raise ValueError("an array is made in an unusual way")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Known(_Array),
    ("numpy.core.multiarray", "scalar"): _Known(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Known(_from_bytes),
    ("numpy", "ndarray"): _Known(_no_array),
    ("numpy", "dtype"): _Known(_DataType),
    ("_codecs", "encode"): _Known(_latin1_bytes),
    ("collections", "OrderedDict"): collections.OrderedDict,
}
for _module in ("builtins", "__builtin__"):
    for _type in (set, frozenset, complex, bytearray):
        _KNOWN[_module, _type.__name__] = _type
    _KNOWN[_module, "bytes"] = _Known(lambda *_: b"")  # how Python 2 writes an empty one


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """The data with numpy's own arrays in it instead of what stood for them."""
    if id(value) in done:
        return done[id(value)][0]
    result = value.array if isinstance(value, _Array) else value
    # The value is kept beside its result: its id must not be given to another meanwhile.
    done[id(value)] = result, value
    if isinstance(result, dict):
        for key, item in result.items():
            result[key] = _plain(item, done)
    elif isinstance(result, list):
        result[:] = [_plain(item, done) for item in result]
    elif isinstance(result, tuple):
        result = tuple(_plain(item, done) for item in result)
        done[id(value)] = result, value
    elif isinstance(result, np.ndarray) and result.dtype == object:
        for index in np.ndindex(result.shape):
            result[index] = _plain(result[index], done)
    elif isinstance(result, _DataType):
        result = result.real()
        done[id(value)] = result, value
    return result


class _Counted:
    """A file that tells how far it was read."""

    def __init__(self, file: BinaryIO, size: int, name: str, progress: Progress) -> None:
        self._file, self._size, self._progress = file, max(size, 1), progress
        self._stage = f"reading {name}"
        self.peek = file.peek  # type: ignore[attr-defined]

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count)
        self._progress(self._file.tell() / self._size, self._stage)
        return data

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._progress(self._file.tell() / self._size, self._stage)
        return int(count)

    def readline(self) -> bytes:
        return self._file.readline()
