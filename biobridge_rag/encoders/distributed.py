"""Encoding by Ray Data actors, on the cores and GPUs of this machine or of any number of machines.

Knows: encoders, Ray. Does not know: stores beyond `fill`, graphs, settings.

Each actor makes the encoder once, from weights on its own machine, and refuses to work where that gives another id than here. Values go
out in batches of like length, the longest first, so that the last ones to be done are short; rows come back as they are finished and are
written by this process alone, so that machines share no file system. A worker that is killed is started again and its batch done again.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, redirect_stdout
from functools import partial
from typing import Any, Self

import numpy as np

from biobridge_rag.encoders.batching import batches
from biobridge_rag.encoders.cache import Rows, encoded, fill, silent
from biobridge_rag.encoders.store import EmbeddingStore
from biobridge_rag.errors import BiobridgeError, HomeMismatchError, InputError
from biobridge_rag.types import Encoder, Indices, Progress, Vectors

# Characters of a batch: little is lost with a worker, yet Ray's cost of some 10 ms a batch stays small beside the encoder's.
_CHARACTERS, _CHARACTERS_GPU, _FEWEST = 16_384, 131_072, 4_096
_ROWS = 1024
_BATCHES_EACH = 16
_RETRIES = 3
_PATIENCE = 3.0
_CLUSTER = "Start one by ray start --head, or leave the address out for a Ray of this machine alone."


def fill_by_ray(
    store: EmbeddingStore,
    make: Callable[[], Encoder],
    values: Sequence[str],
    progress: Progress = silent,
    stage: str = "encoding",
    *,
    address: str = "",
    workers: int | None = None,
    gpus_per_worker: float = 0,
) -> int:
    """cache.fill by Ray. make: gives the encoder, here and in every worker; it is sent to them, so a module's function or a
    `functools.partial` of one. For the rest, and what is raised, see RayEngine and cache.fill."""
    with RayEngine(address, workers, gpus_per_worker) as engine:
        return fill(store, make(), values, progress, stage, engine.rows(make))


class RayEngine:
    """Ray, joined when there is first something to encode and left with the `with` block.

    address: "": a Ray of this machine that ends with the block; "auto" or HOST:PORT: a cluster that this machine belongs to.
    workers: at most so many, None: one for each core or for each share of a GPU; fewer of them get more cores each. gpus_per_worker: 0
    for CPUs; a part of 1 lets workers share a GPU. Until the block ends, standard output is turned to standard error, for Ray's sake."""

    def __init__(self, address: str = "", workers: int | None = None, gpus_per_worker: float = 0) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"There cannot be {workers} workers.", "Give a number from 1.")
        if gpus_per_worker < 0:
            raise InputError(f"A worker cannot have {gpus_per_worker} GPUs.", "Give 0 or more.")
        self._address, self._workers, self._gpus = address, workers, gpus_per_worker
        self._left = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    def rows(self, make: Callable[[], Encoder]) -> Rows:
        """What `cache.fill` takes to make rows by actors. Iterating raises InputError where Ray is not installed, its address cannot be
        reached or it lacks what the workers need, HomeMismatchError where a machine holds other weights, and what an encoder raises."""
        return partial(self._rows, make)

    def _rows(self, make: Callable[[], Encoder], encoder: Encoder, values: Sequence[str]) -> Iterator[tuple[Indices, Vectors]]:
        ray = self._join()
        count, cores = self._share([node["Resources"] for node in ray.nodes() if node["Alive"]])
        import pyarrow

        lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
        budget = int(np.clip(lengths.sum() // (_BATCHES_EACH * count), _FEWEST, _CHARACTERS_GPU if self._gpus else _CHARACTERS))
        # A batch is one row of one block, which Ray leaves as it is; it groups rows of its own accord.
        given = ray.data.from_blocks(
            [
                pyarrow.table({"places": [places], "values": [[values[i] for i in places.tolist()]]})
                for places in batches(lengths.tolist(), budget, _ROWS)
            ]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the last two options, which have no other names yet
            rows = given.map_batches(
                _Worker,
                fn_constructor_args=(make, encoder.id),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=count, initial_size=count),
                num_cpus=cores,
                num_gpus=self._gpus,
                max_restarts=-1,
                max_task_retries=_RETRIES,
            )
        finished = iter(rows.iter_batches(batch_size=None, batch_format="numpy"))
        fault = None
        while fault is None:
            try:
                batch = next(finished, None)
            except Exception as error:
                fault = _plain(error)
            else:
                if batch is None:
                    return
                yield batch["place"], batch["vector"]
        # Actors hold their cores while anything refers to these, and an error refers to what raised it.
        del given, rows, finished
        raise fault

    def _share(self, nodes: Sequence[dict[str, float]]) -> tuple[int, int]:
        """How many workers there are, and how many cores each of them has."""
        cores = [int(node.get("CPU", 0)) for node in nodes]
        gpus = [node.get("GPU", 0.0) for node in nodes]
        if self._gpus:
            places = [min(c, int(g / self._gpus)) for c, g in zip(cores, gpus, strict=True)]
            need = f"{self._gpus:g} GPUs and a core"
        else:
            places, need = cores, "a core"
        if not (most := sum(places)):
            raise InputError(f"No machine of the Ray cluster has {need} for a worker.", "Join machines that have by ray start --address.")
        count = min(self._workers or most, most)
        used = [c for c, n in zip(cores, places, strict=True) if n]
        return count, 1 if self._gpus else max(min(used) // -(-count // len(used)), 1)

    def _join(self) -> Any:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise InputError("The extra 'ray' is needed.", "Run pip install biobridge-rag[ray].") from error
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        ray.data.DataContext.get_current().enable_progress_bars = False
        if ray.is_initialized():
            return ray
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if not self._address:
            logs = tempfile.mkdtemp(prefix="biobridge-ray-")
            self._left.callback(shutil.rmtree, logs, ignore_errors=True)
            options |= {"include_dashboard": False, "_temp_dir": logs}
        elif self._address != "auto":
            _reach(self._address)
        self._left.enter_context(redirect_stdout(sys.stderr))  # where Ray prints that a worker died
        self._left.callback(ray.shutdown)
        try:
            ray.init(address=self._address or "local", **options)
        except Exception as error:
            if self._address:
                raise InputError(f"The Ray cluster {self._address!r} cannot be joined: {_line(error)}", _CLUSTER) from error
            raise BiobridgeError(f"Ray did not start on this machine: {_line(error)}") from error
        return ray


def _reach(address: str) -> None:
    """Raises InputError where nothing answers at HOST:PORT; Ray itself would try for long."""
    if address.startswith("ray://"):
        raise InputError(
            f"{address!r} is an address of the Ray client, by which Ray Data cannot be used.",
            "Join this machine to the cluster by ray start --address HOST:PORT --num-cpus 0, then give auto as the address.",
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"{address!r} is no address of a Ray cluster.", "Give auto or HOST:PORT.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"The Ray cluster {address!r} cannot be reached: {_line(error)}", _CLUSTER) from error


class _Worker:
    """What an actor runs. Errors of making the encoder are kept for the first batch: there they reach the user, where Ray would start
    the actor again and again."""

    def __init__(self, make: Callable[[], Encoder], id: str) -> None:
        self._fault: BaseException | None = None
        try:
            self._encoder = make()
            if self._encoder.id != id:
                raise HomeMismatchError(
                    f"The encoder of the machine {socket.gethostname()} is {self._encoder.id!r}, not {id!r}.",
                    "Put the same weights and the same version of this package on every machine.",
                )
        except Exception as error:
            self._fault = _portable(error)

    def __call__(self, batch: Any) -> Iterator[dict[str, Any]]:
        if self._fault is not None:
            raise self._fault
        places, values = np.asarray(batch["places"][0].as_py()), batch["values"][0].as_py()
        try:
            for chosen, vectors in encoded(self._encoder, values):
                yield {"place": places[chosen], "vector": np.asarray(vectors)}
        except Exception as error:
            raise _portable(error, max(map(len, values))) from None


def _portable(error: Exception, longest: int = 0) -> BiobridgeError:
    """An error that any process of the package can read again, in one line."""
    if isinstance(error, BiobridgeError):
        return error
    host = socket.gethostname()
    if type(error).__name__ == "OutOfMemoryError":
        of = f" for values of up to {longest:,} characters" if longest else ""
        return BiobridgeError(
            f"The GPU of the machine {host} has too little memory{of}.",
            "Give each worker more of a GPU, choose a smaller model or a lower precision, or leave the longest values out.",
        )
    return BiobridgeError(f"The encoder failed on the machine {host}: {type(error).__name__}: {_line(error)}")


def _plain(error: BaseException) -> BiobridgeError:
    """The error of ours that is wrapped in one of Ray's, or one of a single line."""
    from ray.exceptions import OutOfMemoryError, RayActorError, WorkerCrashedError

    seen: list[BaseException] = []
    queue: list[Any] = [error]
    while queue:
        found = queue.pop(0)
        if not isinstance(found, BaseException) or any(found is one for one in seen):
            continue
        if type(found).__module__ == BiobridgeError.__module__:
            return found  # type: ignore[return-value]
        seen.append(found)
        queue += [getattr(found, "cause", None), found.__cause__, found.__context__]
    if any(isinstance(one, RayActorError | WorkerCrashedError | OutOfMemoryError) for one in seen):
        return BiobridgeError(
            f"Workers died {_RETRIES + 1} times on the same batch, or could not be started again.",
            "The likeliest cause is too little memory: ask for fewer workers. What was finished is kept; run the same command again.",
        )
    return BiobridgeError(f"Encoding by Ray failed: {type(error).__name__}: {_line(error)}")


def _line(error: BaseException) -> str:
    """The last line of an error that says something, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200].rstrip(".") + "."
