"""How alike protein sequences are by local alignment, which sees relatives that share no words.

Knows: amino-acid sequences, Smith-Waterman scores (pyopal). Does not know: graphs, training, vectors.

    similarity(a, b) = sqrt(excess(a, b) / sqrt(excess(a, a) excess(b, b)))         in [0, 1], 1 for equal sequences
    excess(a, b)     = max(0, score(a, b) - chance(|a|, |b|))

score: the best local alignment (Smith & Waterman 1981) under BLOSUM50, a gap of n residues costing 10 + n. chance: what shuffled
human proteins of these lengths reach on average, a fit of benchmarks/alignment_chance.py. Gaps are so cheap here that the score
grows with the length of unrelated sequences, so no E-value can be stated; subtracting what chance gives takes that growth out.
Normalised alignment scores as kernels between proteins: Bleakley & Yamanishi 2009.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.types import Indices, Progress, Vectors

if TYPE_CHECKING:
    import pyopal

MATRIX, GAP_OPEN, GAP_EXTEND = "BLOSUM50", 11, 1  # the first residue of a gap costs 11, each further one 1
_CHANCE = (-1.244, 0.1046, 3.087, 0.0350)
_RARE = str.maketrans("UO", "CK")  # selenocysteine and pyrrolysine, which the matrix lacks, as what they stand for
_MOST_CELLS = 20_000_000  # of an alignment that is traced back, at 12 bytes each
_KEPT = 64 * 2**20  # bytes of similarities of the latest queries that are kept


def chance(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Mean score of unrelated sequences of a and b residues, at least 0, broadcast together."""
    short, long = np.minimum(a, b).astype(np.float64), np.maximum(a, b).astype(np.float64)
    level, by_short, by_logs, by_ratio = _CHANCE
    found = level + by_short * short + by_logs * np.log(short * long) + by_ratio * short * np.log(long / short)
    return np.asarray(np.maximum(found, 0.0))


class SequenceAligner:
    """Aligns sequences with those of a graph, all of them; safe to use from several threads."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = [s.translate(_RARE) for s in sequences]
        self._lengths = np.array([len(s) for s in sequences], dtype=np.int64)
        self._own = self._self_excess(self._sequences)
        self._kept: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = Lock()

    @cached_property
    def _aligner(self) -> pyopal.Aligner:
        import pyopal

        return pyopal.Aligner(MATRIX, gap_open=GAP_OPEN, gap_extend=GAP_EXTEND)

    @cached_property
    def _database(self) -> pyopal.Database:
        return _database_of(self._sequences)

    def _self_excess(self, sequences: Sequence[str]) -> NDArray[np.float64]:
        """Of each sequence aligned with itself, at least 1. Its best stretch, as unknown residues cost."""
        diagonal = np.zeros(128)
        for i, letter in enumerate(self._aligner.alphabet):
            diagonal[ord(letter)] = self._aligner.scoring_matrix[i][i]
        sums = [np.append(0.0, np.cumsum(diagonal[np.frombuffer(s.encode("ascii"), np.uint8)])) for s in sequences]
        own = np.array([(s - np.minimum.accumulate(s)).max() for s in sums])
        lengths = np.array([len(s) for s in sequences])
        return np.maximum(own - chance(lengths, lengths), 1.0)

    def kept(self, rows: Indices) -> SequenceAligner:
        """With some of the sequences only."""
        return SequenceAligner([self._sequences[i] for i in rows])

    def similarities(self, sequences: Sequence[str]) -> Vectors:
        """(n, n_t) float32 with all sequences of the graph. The latest queries' are kept: one is mostly asked for several
        relations in a row."""
        out = np.empty((len(sequences), len(self._sequences)), dtype=np.float32)
        wanted: dict[str, list[int]] = {}
        with self._lock:
            for row, sequence in enumerate(sequences):
                if sequence in self._kept:
                    self._kept.move_to_end(sequence)
                    out[row] = self._kept[sequence]
                else:
                    wanted.setdefault(sequence, []).append(row)
        found = self._align(list(wanted))
        for sequence, values in zip(wanted, found, strict=True):
            out[wanted[sequence]] = values
        with self._lock:
            self._kept.update(zip(wanted, found, strict=True))
            while len(self._kept) > max(1, _KEPT // max(out[:1].nbytes, 1)):
                self._kept.popitem(last=False)
        return out

    def _align(self, sequences: list[str]) -> list[Vectors]:
        read = [s.translate(_RARE) for s in sequences]
        n, cores = len(self._sequences), _cores()
        own, lengths = self._self_excess(read), np.array([len(s) for s in read])
        # A single query is shared among the cores, of many each core takes one at a time.
        cuts = np.linspace(0, n, cores + 1).astype(int) if len(read) < cores else np.array([0, n])
        jobs = [(row, int(start), int(end)) for row in range(len(read)) for start, end in pairwise(cuts) if start < end]
        scores = np.zeros((len(read), n), dtype=np.float64)

        def run(job: tuple[int, int, int]) -> None:
            row, start, end = job
            scores[row, start:end] = self._scores(read[row], start, end)

        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(run, jobs))
        return [_similarity(s, self._lengths, length, self._own, mine) for s, length, mine in zip(scores, lengths, own, strict=True)]

    def _scores(self, sequence: str, start: int, end: int) -> NDArray[np.float64]:
        hits = self._aligner.align(sequence, self._database, overflow="simple", start=start, end=end)
        return np.array([hit.score for hit in hits], dtype=np.float64)

    def identities(self, sequence: str, rows: Sequence[int]) -> list[tuple[float, int] | None]:
        """Of the best local alignment with each of these sequences: the share of identical residues among its columns, gaps included,
        in [0, 1], and how many columns it has; None where there is none, or where two long sequences would take too much memory."""
        read = sequence.translate(_RARE)
        out: list[tuple[float, int] | None] = [None] * len(rows)
        short = [i for i, row in enumerate(rows) if len(read) * len(self._sequences[row]) <= _MOST_CELLS]
        targets = _database_of([self._sequences[rows[i]] for i in short])
        for i, hit in zip(short, self._aligner.align(read, targets, mode="full", overflow="simple"), strict=True):
            if hit.score > 0:
                out[i] = hit.alignment.count("M") / len(hit.alignment), len(hit.alignment)
        return out

    def table(self, progress: Progress) -> NDArray[np.float16]:
        """(n_t, n_t) float16 of the graph's sequences among each other; each pair is aligned once."""
        n = len(self._sequences)
        out = np.zeros((n, n), dtype=np.float16)

        def run(row: int) -> None:
            scores = self._scores(self._sequences[row], row, n)
            values = _similarity(scores, self._lengths[row:], self._lengths[row], self._own[row:], self._own[row])
            out[row, row:] = values
            out[row:, row] = values

        with ThreadPoolExecutor(_cores()) as pool:
            for done, _ in enumerate(pool.map(run, range(n))):
                if done % 100 == 0:
                    progress("aligning sequences", done, n)
        progress("aligning sequences", n, n)
        np.fill_diagonal(out, 1.0)
        return out


def _similarity(scores: NDArray[np.float64], lengths: NDArray[np.int64], length: int, own: NDArray[np.float64], mine: float) -> Vectors:
    excess = np.maximum(scores - chance(lengths, np.asarray(length)), 0.0)
    return np.sqrt(np.minimum(excess / np.sqrt(own * mine), 1.0)).astype(np.float32)


def _database_of(sequences: Sequence[str]) -> pyopal.Database:
    import pyopal

    return pyopal.Database(sequences)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
