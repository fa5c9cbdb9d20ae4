"""Checkpoints and records of a training run: written whole or not at all, and read without running anything in them.

Knows: torch's files, TensorBoard. Does not know: what is trained, graphs.

A folder holds `checkpoint.pt` (all that going on needs, with the description of the run it belongs to) and `training.json`
(the same description and one row an epoch, for learning curves).
"""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biobridge_rag.errors import DiskFullError, HomeError, HomeMismatchError, InputError

CHECKPOINT, RECORD = "checkpoint.pt", "training.json"
_VERSION = 1
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch. epoch: from 1; steps: optimiser steps since the start; loss: mean over the epoch's triples, in nats;
    validation_mrr: filtered, in [0, 1], higher is better, None without validation heads; seconds: wall time of the epoch's
    training and validation; learning_rate: that of its last step."""

    epoch: int
    steps: int
    loss: float
    validation_mrr: float | None
    seconds: float
    learning_rate: float


def write_checkpoint(folder: Path, run: Mapping[str, object], state: Mapping[str, object]) -> None:
    """Writes `checkpoint.pt` beside its place and renames it: a killed run leaves the one before. run: the options and hashes that
    the state belongs to; both of tensors and plain Python values. Raises DiskFullError where there is no room, else HomeError."""
    import torch

    content = {"version": _VERSION, "run": dict(run), "state": dict(state)}
    _write(folder / CHECKPOINT, lambda stream: torch.save(content, stream))


def read_checkpoint(folder: Path, run: Mapping[str, object]) -> dict[str, Any] | None:
    """The state that `write_checkpoint` wrote last, on the CPU, or None where there is none.

    Raises HomeMismatchError where it belongs to a run with other options or data, naming what differs, and HomeError where it is
    damaged. Nothing in the file is run.
    """
    import torch

    path = folder / CHECKPOINT
    if not path.exists():
        return None
    again = f"Delete {path} to train anew."
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version, stored, state = content["version"], content["run"], content["state"]
        differ = sorted(k for k in stored.keys() | run.keys() if stored.get(k) != run.get(k))
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise HomeError(f"The checkpoint {path} is damaged.", again) from error
    if version != _VERSION:
        raise HomeMismatchError(f"The checkpoint {path} was written by another version.", again)
    if differ:
        what = ", ".join(f"{k} {_short(stored.get(k))}, not {_short(run.get(k))}" for k in differ)
        raise HomeMismatchError(f"The checkpoint {path} is of another run: {what}.", f"Go on with the same options and data. {again}")
    return dict(state)


def write_record(folder: Path, run: Mapping[str, object], rows: Sequence[EpochRow], best_epoch: int | None) -> None:
    """Writes `training.json`: {"run", "best_epoch" (by validation MRR, or null), "epochs": one object a row}."""
    content = {"run": dict(run), "best_epoch": best_epoch, "epochs": [asdict(row) for row in rows]}
    text = json.dumps(content, indent=1) + "\n"
    _write(folder / RECORD, lambda stream: stream.write(text.encode()))


def open_board(log_dir: Path, after: int) -> Any:
    """A TensorBoard writer; what an earlier run wrote of epochs later than `after` is hidden. Raises InputError where TensorBoard is
    not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("Logs for TensorBoard need it installed.", 'pip install "biobridge-rag[tensorboard]"') from error
    return SummaryWriter(str(log_dir), purge_step=after + 1)


def _short(value: object) -> str:
    return value[:12] if isinstance(value, str) else str(value)


def _write(path: Path, write: Callable[[Any], object]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch turns some errors of the stream into its own
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            raise DiskFullError(f"There is no room to write {path}.", "Free some space and run the same again: it goes on.") from error
        reason = getattr(cause, "strerror", None) or error
        raise HomeError(f"The file {path} cannot be written: {reason}.") from error
