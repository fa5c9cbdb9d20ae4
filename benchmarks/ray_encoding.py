"""Encoding in this process against Ray's actors on the cores of this machine: values and residues or characters a second, and memory.

Both write the same store. Ray's time is told with and without its start, which is paid once a build; "flowing" counts from the first rows
to the last. On a machine with few cores Ray can only cost: it serves to use many cores, GPUs or machines.

`python benchmarks/ray_encoding.py [--encoder kmer] [--modality protein] [--values N] [--workers N] [--address ADDRESS]`
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from biobridge_rag.encoders import make_encoder
from biobridge_rag.encoders.cache import encoded, fill
from biobridge_rag.encoders.distributed import RayEngine
from biobridge_rag.encoders.store import EmbeddingStore
from biobridge_rag.types import Modality

WORDS = ("kinase", "receptor", "chronic", "renal", "inhibitor", "binding", "syndrome", "cardiac", "acute", "hepatic")
PARTS = ("C", "CC", "c1ccccc1", "N(C)", "C(=O)N", "OC", "C(F)", "S", "CCO", "C(C)")


def made(modality: Modality, count: int) -> list[str]:
    """Distinct values with lengths like those of real ones; proteins have a log-normal length with a median of 350."""
    rng = np.random.default_rng(0)
    if modality is Modality.PROTEIN:
        return ["".join(rng.choice([*"ACDEFGHIKLMNPQRSTVWY"], int(n))) for n in np.clip(rng.lognormal(5.86, 0.6, count), 40, 5000)]
    if modality is Modality.MOLECULE:
        return list(dict.fromkeys("".join(rng.choice(PARTS, rng.integers(5, 20))) for _ in range(count)))
    return [f"{' '.join(rng.choice(WORDS, rng.integers(5, 40)))} {i}" for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--modality", default="protein", choices=[m.value for m in Modality])
    parser.add_argument("--encoder", default="kmer")
    parser.add_argument("--values", type=int, default=5000)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--address", default="")
    given = parser.parse_args()
    modality = Modality(given.modality)
    make = partial(make_encoder, modality, given.encoder)
    encoder, values = make(), made(modality, given.values)
    size, unit = sum(map(len, values)), "residues" if modality is Modality.PROTEIN else "characters"
    encoder.encode(values[:2])  # loads what is loaded late
    print(f"{len(values):,} values, {size:,} {unit}, {encoder.id}, {os.cpu_count()} cores here")
    stamps: list[tuple[float, int]] = []
    seconds, tables, lines = {}, {}, []

    def note(_stage: str, done: int, _all: int) -> None:
        stamps.append((time.perf_counter(), done))

    with tempfile.TemporaryDirectory() as scratch, RayEngine(given.address, given.workers) as engine:
        for name, rows in (("here", encoded), ("ray", engine.rows(make))):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with EmbeddingStore(Path(scratch) / name, encoder.id, encoder.dim) as store:
                start = time.perf_counter()
                stamps.clear()
                fill(store, encoder, values, note, rows=rows)
                seconds[name] = time.perf_counter() - start
                tables[name] = store.read(values[:: max(len(values) // 500, 1)])
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            lines.append(
                f"{name}: {seconds[name]:.1f} s, {size / seconds[name]:,.0f} {unit}/s, {len(values) / seconds[name]:,.0f} values/s, "
                f"peak of this process {after / 1024:,.0f} MiB (+{(after - before) / 1024:,.0f})"
            )
        (first, done), (last, _) = stamps[1], stamps[-1]
        flowing = (size - done) / max(last - first, 1e-9)
        lines.append(f"ray, flowing: {flowing:,.0f} {unit}/s; first rows after {first - stamps[0][0]:.1f} s")
    print(*lines, sep="\n")
    print(f"ray / here: {seconds['here'] / seconds['ray']:.2f}; flowing: {flowing * seconds['here'] / size:.2f}")
    print(f"largest difference of any number: {np.abs(tables['here'] - tables['ray']).max():.1e}")


if __name__ == "__main__":
    main()
