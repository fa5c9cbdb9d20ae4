"""Encoding by Ray on two raylets of one core each: the same rows as here, whatever dies, and errors in one line."""

from __future__ import annotations

import builtins
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biobridge_rag.embedding import rows_of
from biobridge_rag.encoders import make_encoder
from biobridge_rag.encoders.cache import fill
from biobridge_rag.encoders.distributed import RayEngine, _plain, _portable, fill_by_ray
from biobridge_rag.encoders.store import EmbeddingStore
from biobridge_rag.encoders.weights import ANYWHERE
from biobridge_rag.errors import BiobridgeError, HomeMismatchError, InputError, MoleculeError, SequenceError
from biobridge_rag.types import Encoder, Modality
from tests.encoders.raying import Traced, none_there, other_here
from tests.encoders.stored import names, truth
from tests.encoders.test_cache import Told


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two nodes with a raylet and a core each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    one = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={**one, "include_dashboard": False})
    cluster.add_node(**one)
    yield cluster.address
    cluster.shutdown()


def store_of(folder: Path, encoder: Encoder) -> EmbeddingStore:
    return EmbeddingStore(folder / "store", encoder.id, encoder.dim)


def run(folder: Path, values: list[str], address: str, make: Callable[[], Encoder] | None = None) -> int:
    with store_of(folder, Traced(folder)) as store:
        count = fill_by_ray(store, make or partial(Traced, folder), values, address=address)
        assert np.array_equal(store.read(values), truth(values))
        return count


@pytest.mark.slow
def test_two_machines_give_the_rows_of_one_and_a_killed_worker_loses_none(tmp_path: Path, address: str) -> None:
    values, told = [*names(0, 8000), "kill once", *names(0, 5)], Told()
    with store_of(tmp_path, Traced(tmp_path)) as store:
        store.append(values[:100], truth(values[:100]))
        assert fill_by_ray(store, partial(Traced, tmp_path, nodes=2), values, told, "encoding", address=address) == 7901
    with store_of(tmp_path, Traced(tmp_path)) as store:
        assert np.array_equal(store.read(values), truth(values)) and store.verify() == 0
    assert (tmp_path / "kill-once").exists()
    traces = [p for p in tmp_path.iterdir() if p.suffix == "" and not p.name.startswith(("made", "met", "kill")) and p.is_file()]
    assert len({p.name.split("-")[0] for p in traces}) == 2 and not any(p.name.startswith("here") for p in traces)
    seen = {value for p in traces for value in p.read_text().splitlines()}
    assert seen == {*values} - {*values[:100]}
    total = sum(map(len, values[100:8001]))
    done = [n for _, n, _ in told.calls]
    assert {(stage, n) for stage, _, n in told.calls} == {("encoding (characters)", total)}
    assert done[0] == 0 and done[-1] == total and done == sorted(set(done)) and len(done) > 10
    # What is there is not made again, and then no Ray is needed.
    assert run(tmp_path, values, "127.0.0.1:1") == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modality", "name", "values", "bad", "error"),
    [
        (Modality.PROTEIN, "kmer", [("MKVLAARNDCEQGHILK" * 40)[i : 60 + 3 * i] for i in range(150)], "MK1", SequenceError),
        (Modality.MOLECULE, "fingerprint", ["C" * n + "N(C)C(=O)O" + "C" * (n % 7) for n in range(150)], "C1CC(", MoleculeError),
    ],
    ids=["proteins", "molecules"],
)
def test_real_encoders_give_the_same_bits_and_their_errors_come_back(
    tmp_path: Path, address: str, modality: Modality, name: str, values: list[str], bad: str, error: type[Exception]
) -> None:
    encoder = make_encoder(modality, name)
    with RayEngine(address) as engine, store_of(tmp_path, encoder) as store, store_of(tmp_path / "here", encoder) as here:
        rows = engine.rows(partial(make_encoder, modality, name))
        assert fill(store, encoder, values, rows=rows) == fill(here, encoder, values) == len(set(values))
        assert np.array_equal(store.read(values), here.read(values))
        with pytest.raises(error) as there:
            fill(store, encoder, [bad], rows=rows)
        with pytest.raises(error) as known:
            encoder.encode([bad])
    assert str(there.value) == str(known.value) and type(there.value) is type(known.value)


@pytest.mark.slow
def test_faults_of_workers_are_one_line_and_keep_what_was_finished(tmp_path: Path, address: str) -> None:
    import ray

    mine, first = os.getpid(), names(0, 3)
    with RayEngine(address) as engine, store_of(tmp_path, Traced(tmp_path)) as store:

        def raised(make: Callable[[], Encoder], *values: str) -> BiobridgeError:
            with pytest.raises(BiobridgeError) as error:
                fill(store, Traced(tmp_path), [*first, *values], rows=engine.rows(make))
            assert "\n" not in str(error.value)
            return error.value

        other = raised(partial(other_here, tmp_path, mine))
        assert isinstance(other, HomeMismatchError) and "'traced-v0', not 'traced-v1'" in other.message and "same weights" in other.help
        assert "FileNotFoundError: [Errno 2] No such file or directory" in raised(partial(none_there, tmp_path, mine)).message
        huge = raised(partial(Traced, tmp_path), "huge")
        assert "too little memory for values of up to 7 characters" in huge.message and "lower precision" in huge.help
        assert store.missing(first).tolist() == [0, 1, 2]
        long = [f"{value:>5000}" for value in names(0, 12)]
        died = raised(partial(Traced, tmp_path), *long, "kill")
        assert "Workers died 4 times on the same batch" in died.message and "fewer workers" in died.help
        assert 0 < (rest := len(store.missing([*long, *first]))) < len(long)
        assert fill(store, Traced(tmp_path), [*long, *first], rows=engine.rows(partial(Traced, tmp_path))) == rest
        assert np.array_equal(store.read(long), truth(long))
        with pytest.raises(InputError, match="No machine of the Ray cluster has 1 GPUs and a core"):
            fill(store, Traced(tmp_path), ["new"], rows=RayEngine(gpus_per_worker=1).rows(partial(Traced, tmp_path)))
        assert ray.is_initialized()
    assert not ray.is_initialized()


LOCAL = """
import json, os, sys
from functools import partial
from pathlib import Path
from tests.encoders.raying import Traced
from tests.encoders.stored import names, truth
from biobridge_rag.encoders.distributed import fill_by_ray
from biobridge_rag.encoders.store import EmbeddingStore
from biobridge_rag.encoders.weights import ANYWHERE
folder, values = Path(sys.argv[1]), [*names(0, 50), "kill once"]
with EmbeddingStore(folder / "store", "traced-v1", 6) as store:
    count = fill_by_ray(store, partial(Traced, folder), values, workers=1)
    same = bool((store.read(values) == truth(values)).all())
import ray
print(json.dumps({"count": count, "same": same, "left": ray.is_initialized(), "usage": os.environ["RAY_USAGE_STATS_ENABLED"]}))
"""


@pytest.mark.slow
def test_a_ray_of_this_machine_ends_with_the_work_and_keeps_off_the_output(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": "/tmp"}
    done = subprocess.run([sys.executable, "-c", LOCAL, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert json.loads(done.stdout) == {"count": 51, "same": True, "left": False, "usage": "0"}, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr


# Without a cluster


def test_an_address_that_does_not_answer_is_named_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"The Ray cluster '{address}' cannot be reached: .*refused") as error:
            run(tmp_path, ["a"], address)
        assert "ray start --head" in error.value.help
    with pytest.raises(InputError, match="address of the Ray client") as error:
        run(tmp_path, ["a"], f"ray://{address}")
    assert "ray start --address" in error.value.help
    for address in ("nonsense", "host:", ":6379", "host:port"):
        with pytest.raises(InputError, match="is no address of a Ray cluster"):
            run(tmp_path, ["a"], address)


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name.split(".")[0] == "ray":
            raise ModuleNotFoundError("No module named 'ray'")
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="The extra 'ray' is needed") as error:
        run(tmp_path, ["a"], "")
    assert "pip install biobridge-rag[ray]" in error.value.help


@pytest.mark.parametrize(
    ("workers", "gpus", "nodes", "share"),
    [
        (None, 0, [(4, 0), (2, 0)], (6, 1)),
        (2, 0, [(64, 0), (32, 0)], (2, 32)),
        (3, 0, [(8, 0), (8, 0)], (3, 4)),
        (9, 0, [(2, 0), (0, 0)], (2, 1)),
        (None, 1, [(64, 8), (64, 8), (4, 0)], (16, 1)),
        (None, 0.5, [(64, 2)], (4, 1)),
        (3, 2, [(64, 3)], (1, 1)),
        (None, 0, [(0, 0)], None),
        (None, 1, [(0, 4), (8, 0)], None),
    ],
)
def test_workers_fit_the_cores_and_gpus(
    workers: int | None, gpus: float, nodes: list[tuple[int, int]], share: tuple[int, int] | None
) -> None:
    engine, resources = RayEngine("", workers, gpus), [{"CPU": float(c), "GPU": float(g)} for c, g in nodes]
    if share is not None:
        assert engine._share(resources) == share
    else:
        with pytest.raises(InputError, match="No machine of the Ray cluster has"):
            engine._share(resources)


def test_numbers_of_workers_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be 0 workers"):
        RayEngine(workers=0)
    with pytest.raises(InputError, match="cannot have -1 GPUs"):
        RayEngine(gpus_per_worker=-1)


def test_errors_become_one_line() -> None:
    pytest.importorskip("ray")
    ours = MoleculeError("Bad.", "Mend it.")
    wrapped = RuntimeError("outer\nlines")
    wrapped.__cause__ = ValueError("middle")
    wrapped.__cause__.__context__ = ours
    assert _plain(wrapped) is ours and _portable(ours) is ours
    assert _plain(RuntimeError("first\nlast\n")).message == "Encoding by Ray failed: RuntimeError: last."
    assert _portable(ValueError("")).message.endswith(": ValueError: ValueError.")


def test_the_engine_of_a_build_is_checked() -> None:
    with rows_of({}, ANYWHERE, "local", "") as rows:
        assert rows == {}
    with pytest.raises(InputError, match="option of the engine 'ray'"), rows_of({}, ANYWHERE, "local", "auto"):
        pass
    with rows_of({Modality.PROTEIN: "kmer"}, ANYWHERE, "ray", "") as rows:
        assert set(rows) == {Modality.PROTEIN}
