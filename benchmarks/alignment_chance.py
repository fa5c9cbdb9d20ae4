"""What the best local alignment of unrelated proteins scores: a least-squares fit beside the constants that `chance` states.

`python benchmarks/alignment_chance.py [--graph DIR] [--queries 400] [--targets 1500] [--seed 0]`
(default ../shared/realkg; says so and stops where it is not there). Human proteins drawn by the seed, their residues shuffled, are
aligned with others that are as they are; the score of a pair is fitted by its lengths.

Knows: the aligner's matrix, gaps and constants. Does not know: graphs, similarities.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyopal
from numpy.typing import NDArray
from realkg import read

from biobridge_rag.encoders import alignment

FEATURES = ("1", "shorter", "ln(product)", "shorter * ln(longer / shorter)")


def features(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 4) of pairs of a and b residues, in the order of FEATURES."""
    short, long = np.minimum(a, b).astype(np.float64), np.maximum(a, b).astype(np.float64)
    return np.stack([np.ones(len(short)), short, np.log(short * long), short * np.log(long / short)], axis=1)


def shuffled(rng: np.random.Generator, sequence: str) -> str:
    return "".join(rng.permutation(list(sequence)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "realkg")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--targets", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not (given.graph / "protein.csv.gz").exists():
        print(f"{given.graph} is not there: nothing measured. Give --graph DIR with gzipped tables in PrimeKG's layout.")
        return
    header, *rows = read(given.graph / "protein.csv.gz")
    sequences = sorted({row[header.index("sequence")].translate(alignment._RARE) for row in rows} - {""})
    rng, start = np.random.default_rng(given.seed), time.perf_counter()
    drawn = rng.permutation(len(sequences))[: given.queries + given.targets]
    queries = [shuffled(rng, sequences[i]) for i in drawn[: given.queries]]
    targets = [sequences[i] for i in drawn[given.queries :]]
    if not queries or not targets:
        parser.error(f"{len(sequences):,} sequences are too few for {given.queries:,} queries and as many others.")
    aligner = pyopal.Aligner(alignment.MATRIX, gap_open=alignment.GAP_OPEN, gap_extend=alignment.GAP_EXTEND)
    database = pyopal.Database(targets)
    scores = np.array([[hit.score for hit in aligner.align(query, database)] for query in queries], dtype=np.float64).ravel()
    a, b = np.repeat([len(q) for q in queries], len(targets)), np.tile([len(t) for t in targets], len(queries))
    x = features(a, b)
    fitted = np.linalg.lstsq(x, scores, rcond=None)[0]
    stated = alignment.chance(a, b)
    seconds = time.perf_counter() - start
    print(f"{len(queries):,} shuffled proteins against {len(targets):,} real ones, {len(scores):,} pairs in {seconds:.0f} s")
    print(f"mean score {scores.mean():.2f}, standard deviation {scores.std():.2f}\n")
    print("| feature | in the code | fitted |\n| --- | --- | --- |")
    for name, constant, value in zip(FEATURES, alignment._CHANCE, fitted, strict=True):
        print(f"| {name} | {constant:g} | {value:.4g} |")
    print(f"\nresidual's standard deviation: {np.std(scores - x @ fitted):.2f} of the fit, {np.std(scores - stated):.2f} of the code's")
    apart = np.abs(x @ fitted - stated)
    print(f"mean residual of the code's constants: {np.mean(scores - stated):+.2f}")
    print(
        f"the code's chance and the fit differ by {apart.mean():.2f} on average, by {np.quantile(apart, 0.99):.2f} at the 99th percentile"
    )


if __name__ == "__main__":
    main()
