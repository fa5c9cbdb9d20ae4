"""The embedding tables that the BioBridge authors released as pickles: written, and read without running what a pickle names.

Knows: the pickle format, and how numpy writes arrays in it. Does not know: graphs, node types, the bridge.

A pickle is a program: it may call whatever it names. Here the few names that numpy's arrays need stand for recorders of their
arguments, and every other name ends the reading. Nothing of numpy's own unpickling runs either: an array is made from its
bytes, and only where their number is that of its shape.

The authors' files hold a dict of lists and numpy arrays: node_index (n integers), node_id and node_name (n each; their
disease.pkl, a mean over the diseases that PrimeKG grouped, has neither) and embedding, an array (n, d) or a list of n rows.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biobridge_rag.errors import GraphFormatError
from biobridge_rag.types import Indices, Vectors

_KEYS = "It takes a pickled dict with node_index, node_id, node_name and embedding, as the BioBridge authors released it."
_KINDS = re.compile(r"f[248]|[iu][1248]|b1|U[1-9][0-9]{0,4}|O8?")
_PROTOCOL = 4
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class ReleasedEmbeddings:
    """node_index (n,) int64; node_id and node_name: n strings each, or none where the file states none, "" where one is
    missing; embedding (n, d) float32, finite, as the encoder gave it: not scaled to length 1."""

    node_index: Indices
    node_id: tuple[str, ...]
    node_name: tuple[str, ...]
    embedding: Vectors


class _Refused(pickle.UnpicklingError):
    """What a pickle holds that is not read, as the end of a sentence."""


class _Dtype:
    """A dtype as a pickle states it: kind and width at once, the byte order afterwards."""

    def __init__(self, kind: Any) -> None:
        if not isinstance(kind, str) or not _KINDS.fullmatch(kind):
            raise _Refused(f"holds an array of a kind that is not read: {str(kind)[:40]!r}")
        self.kind, self.order = kind, "="

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise _Refused("holds an array in no byte order that there is")
        self.order = state[1]


class _Array:
    """An array of a pickle; `values` is a numpy array, or a list where it is an array of objects."""

    values: Any = ()

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        self.values = _filled(shape, dtype, "F" if fortran else "C", data)


def _filled(shape: Any, dtype: Any, order: Any, data: Any) -> Any:
    if not isinstance(dtype, _Dtype) or order not in ("C", "F") or not isinstance(shape, tuple):
        raise _Refused("holds an array that is not described as numpy does")
    if any(type(n) is not int or n < 0 for n in shape):
        raise _Refused("holds an array whose shape is not made of integers")
    size = math.prod(shape)
    if dtype.kind.startswith("O"):
        if type(data) is not list or len(shape) != 1 or len(data) != size:
            raise _Refused("holds an array of objects that is no list of them")
        return data
    plain = np.dtype(dtype.kind).newbyteorder(dtype.order)  # type: ignore[arg-type]  # one of the four orders, checked above
    if not isinstance(data, bytes | bytearray) or len(data) != size * plain.itemsize:
        raise _Refused("holds an array whose bytes do not fill its shape")
    return np.frombuffer(data, plain).reshape(shape, order=order) if size else np.zeros(shape, plain)


class _Unpickler(pickle.Unpickler):
    """Its methods stand for what a pickled array names. A bound method has no attributes that a pickle could set."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return self._reconstruct
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "scalar":
            return self._scalar
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return self._frombuffer
        known = {("numpy", "dtype"): self._dtype, ("numpy", "ndarray"): self._ndarray, ("_codecs", "encode"): self._encode}
        if (module, name) not in known:
            raise _Refused(f"names {_plain(f'{module}.{name}')}, which no table of embeddings needs; nothing of it was run")
        return known[module, name]

    def _reconstruct(self, _kind: Any, _shape: Any, _typecode: Any) -> _Array:
        return _Array()

    def _frombuffer(self, data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        array = _Array()
        array.values = _filled(shape, dtype, order, data)
        return array

    def _ndarray(self, shape: Any, dtype: Any, data: Any) -> _Array:
        return self._frombuffer(data, dtype, shape, "C")

    def _dtype(self, kind: Any, _align: Any = False, _copy: Any = True) -> _Dtype:
        return _Dtype(kind)

    def _scalar(self, dtype: Any, data: Any = None) -> Any:
        return _filled((1,), dtype, "C", data)[0].item()

    def _encode(self, text: Any, encoding: Any) -> bytes:
        """Bytes, as the protocols before 3 write them."""
        if type(text) is not str or encoding != "latin1":
            raise _Refused("holds bytes that are not written as pickles write them")
        return text.encode("latin-1")


class _Pickler(pickle.Pickler):
    """Names arrays as every version of numpy since 1.0 knows them; numpy 2 by itself writes names that those before 1.26 lack."""

    def reducer_override(self, obj: Any) -> Any:
        return (np.ndarray, (obj.shape, obj.dtype, obj.tobytes())) if isinstance(obj, np.ndarray) else NotImplemented


def write_embeddings(table: ReleasedEmbeddings) -> bytes:
    """The table as a pickled dict of lists and one array, protocol 4; keys of which the table has nothing are left out."""
    lists = {"node_index": table.node_index.tolist(), "node_id": list(table.node_id), "node_name": list(table.node_name)}
    content = {key: value for key, value in lists.items() if value}
    stream = io.BytesIO()
    _Pickler(stream, protocol=_PROTOCOL).dump({**content, "embedding": np.array(table.embedding, dtype=np.float32, order="C")})
    return stream.getvalue()


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:80])


def read_embeddings(path: Path | str) -> ReleasedEmbeddings:
    """One released table. Raises GraphFormatError, in one line, where the file is missing, damaged, a Git LFS pointer, names
    anything but arrays, or holds no such table; no code that it names is ever run."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            if stream.peek(len(_POINTER)).startswith(_POINTER):
                raise GraphFormatError(f"The file {path} is a Git LFS pointer, not the embeddings.", "Fetch them: git lfs pull.")
            content = _Unpickler(stream).load()
        if not isinstance(content, dict):
            raise _Refused("holds no dict")
        return _table(content)
    except _Refused as error:
        raise GraphFormatError(f"The file {path} {error}.", _KEYS) from error
    except OSError as error:
        raise GraphFormatError(f"The file {path} cannot be read: {error.strerror or error}.", _KEYS) from error
    except GraphFormatError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise GraphFormatError(f"The file {path} is no pickle, or a damaged one ({type(error).__name__}).", _KEYS) from error


def _table(content: dict[Any, Any]) -> ReleasedEmbeddings:
    for key in ("node_index", "embedding"):
        if key not in content:
            raise _Refused(f"has no {key}")
    vectors = _vectors(content["embedding"])
    index = _listed(content["node_index"], "node_index")
    if not all(type(i) is int for i in index):
        raise _Refused("has a node_index that is no integer")
    words = [tuple(_word(v, key) for v in _listed(content[key], key)) if key in content else () for key in ("node_id", "node_name")]
    for key, values in (("node_index", index), *zip(("node_id", "node_name"), words, strict=True)):
        if len(values) != len(vectors) and (values or key == "node_index"):
            raise _Refused(f"has {len(values):,} of {key} and {len(vectors):,} embeddings")
    return ReleasedEmbeddings(np.array(index, dtype=np.int64), words[0], words[1], vectors)


def _listed(value: Any, key: str) -> list[Any]:
    value = value.values if isinstance(value, _Array) else value
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return value.tolist()
    if not isinstance(value, list | tuple):
        raise _Refused(f"has a {key} that is no list")
    return list(value)


def _word(value: Any, key: str) -> str:
    """An id or a name as text. A column of numbers with gaps reads as floats: 7.0 is the id 7, NaN none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str) or type(value) is int:
        return str(value).strip()
    raise _Refused(f"has a {key} that is neither text nor an integer")


def _vectors(value: Any) -> Vectors:
    value = value.values if isinstance(value, _Array) else value
    if isinstance(value, list | tuple):
        rows = [row.values if isinstance(row, _Array) else row for row in value]
        if len({len(row) if isinstance(row, list | tuple | np.ndarray) else -1 for row in rows}) > 1:
            raise _Refused("has embeddings of several lengths")
        value = np.array(rows)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise _Refused("has embeddings that are not numbers")
    if value.ndim != 2 or not value.size:
        raise _Refused(f"has embeddings of shape {value.shape}, not (nodes, numbers)")
    with np.errstate(over="ignore"):
        out: Vectors = np.array(value, dtype=np.float32, order="C")
    if bad := int((~np.isfinite(out).all(axis=1)).sum()):
        raise _Refused(f"has {bad:,} of {len(out):,} embeddings with numbers that are not finite")
    return out
