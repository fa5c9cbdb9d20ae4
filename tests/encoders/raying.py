"""Encoders that workers in other processes make, for tests of the distribution."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biobridge_rag.errors import SequenceError
from biobridge_rag.types import Modality
from tests.encoders.stored import DIM, truth


class Traced:
    """Gives `truth` and notes in `folder` which process encoded what. A value "kill once" kills the process that first meets it, "kill"
    every one, "bad" is refused, "huge" takes more memory than the GPU has. nodes: on so many nodes of the cluster an encoder must have
    been asked before any answers, so that a quick one does not do all the work."""

    id, modality, dim = "traced-v1", Modality.TEXT, DIM

    def __init__(self, folder: Path, id: str = "traced-v1", nodes: int = 0) -> None:
        self.folder, self.id, self.nodes = folder, id, nodes
        (folder / f"made-{os.getpid()}").touch()

    def encode(self, values: Sequence[str]) -> np.ndarray:
        (self.folder / f"met-{_node()}").touch()
        until = time.monotonic() + 120
        while len(list(self.folder.glob("met-*"))) < self.nodes and time.monotonic() < until:
            time.sleep(0.05)
        for value in values:
            if value == "kill" or (value.startswith("kill once") and self._first(value)):
                os.kill(os.getpid(), signal.SIGKILL)
            if value == "bad":
                raise SequenceError("The value 'bad' is bad.", "Leave it out.")
            if value == "huge":
                raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory.\nTried to allocate 20 GiB")
        with (self.folder / f"{_node()}-{os.getpid()}").open("a") as file:
            file.writelines(f"{value}\n" for value in values)
        return truth(values)

    def _first(self, value: str) -> bool:
        try:
            (self.folder / value.replace(" ", "-")).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def other_here(folder: Path, driver: int) -> Traced:
    """An encoder whose id is another in every process but one."""
    return Traced(folder, "traced-v1" if os.getpid() == driver else "traced-v0")


def none_there(folder: Path, driver: int) -> Traced:
    """An encoder whose weights are in one process only."""
    if os.getpid() != driver:
        raise FileNotFoundError(2, "No such file or directory", "/weights/model.pt")
    return Traced(folder)


def _node() -> str:
    """The node of the cluster that this process belongs to."""
    import ray

    return str(ray.get_runtime_context().get_node_id())[:8] if ray.is_initialized() else "here"
