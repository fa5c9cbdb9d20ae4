"""Residues a second of the ESM-2 encoder against the plain loop: the same weights, precision, threads and sequences, on a CPU.

`python benchmarks/esm_throughput.py [--n N] [--graph DIR] [--seed N] [--threads N]` (an hour on 2 cores; 8 minutes with --n 60)

The model has the shape of ESM-2 150M (30 layers, 640 wide, 20 heads) and random weights, stored as fair-esm stores them and read from
that file by both sides; speed does not depend on what the weights are. The sequences are human proteins: those of the starter graph,
or with --graph those of a graph directory, N of them drawn by the seed and kept in the order of the file.

The loop is fair-esm as most scripts use it: batches of 8 in file order, cut at 1,022 residues, mean over residues. Ours reads longer
sequences whole, in overlapping windows, so most of their residues pass the model twice; what is counted is each residue that enters an
embedding, once. Both clocks are printed: on a machine that does other work too, the processor's is the fairer.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import esm
import numpy as np
import torch

from biobridge_rag.encoders.esm import WINDOW, make_esm
from biobridge_rag.encoders.weights import Source
from biobridge_rag.graph.primekg import load_graph
from biobridge_rag.graph.starter import load_starter
from biobridge_rag.types import NodeType

NAME, LAYERS, WIDTH, HEADS = "esm2_t30_150M_UR50D", 30, 640, 20
BATCH, TOLERANCE, TARGET = 8, 1e-4, 3.0


def sequences(directory: Path | None, n: int, seed: int) -> list[str]:
    graph = load_graph(directory) if directory else load_starter()
    found = [graph.nodes[i].values[0] for i in graph.by_type[NodeType.PROTEIN] if graph.nodes[i].values]
    drawn = np.sort(np.random.default_rng(seed).choice(len(found), min(n, len(found)), replace=False))
    lengths = [len(found[i]) for i in drawn]
    print(
        f"{len(drawn)} human sequences of {directory or 'the starter graph'}, {min(lengths)} to {max(lengths):,} residues, "
        f"{sum(lengths):,} in all; {sum(x > WINDOW for x in lengths)} longer than {WINDOW:,}"
    )
    return [found[i] for i in drawn]


def write_checkpoint(file: Path) -> None:
    model = esm.model.esm2.ESM2(LAYERS, WIDTH, HEADS)
    state = {f"encoder.{'' if k.startswith('lm_head') else 'sentence_encoder.'}{k}": v for k, v in model.state_dict().items()}
    cfg = argparse.Namespace(encoder_layers=LAYERS, encoder_embed_dim=WIDTH, encoder_attention_heads=HEADS, token_dropout=True)
    torch.save({"cfg": {"model": cfg}, "model": {k: v for k, v in state.items() if "contact_head" not in k}}, file)


def loop(model: torch.nn.Module, alphabet: esm.Alphabet, values: list[str]) -> np.ndarray:
    convert, out = alphabet.get_batch_converter(WINDOW), []
    with torch.no_grad():
        for start in range(0, len(values), BATCH):
            batch = values[start : start + BATCH]
            states = model(convert([("", value) for value in batch])[2], repr_layers=[LAYERS])["representations"][LAYERS]
            out += [states[i, 1 : min(len(value), WINDOW) + 1].mean(0) for i, value in enumerate(batch)]
    return torch.nn.functional.normalize(torch.stack(out), dim=1).numpy()


def timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    out = work()
    return out, time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--graph", type=Path, help="a graph directory, such as ../shared/realkg")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    values = sequences(given.graph, given.n, given.seed)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{NAME}.pt"
        write_checkpoint(file)
        warnings.filterwarnings("ignore", "Regression weights not found")
        with torch.serialization.safe_globals([argparse.Namespace]):
            plain, alphabet = esm.pretrained.load_model_and_alphabet_core(NAME, torch.load(file, weights_only=True), None)
        encoder = make_esm(str(file), Source())
        plain.eval(), encoder.encode(["MKT"]), loop(plain, alphabet, ["MKT"])  # loaded and warm
        theirs, their_wall, their_cpu = timed(lambda: loop(plain, alphabet, values))
        ours, our_wall, our_cpu = timed(lambda: encoder.encode(values))
    within = np.array([len(value) <= WINDOW for value in values])
    difference = float(np.abs(ours - theirs)[within].max())
    n_ours, n_theirs = sum(map(len, values)), sum(min(len(value), WINDOW) for value in values)
    print(f"{torch.get_num_threads()} threads, fp32; residues that enter an embedding: ours {n_ours:,}, loop {n_theirs:,}")
    for clock, a, b in (("clock", our_wall, their_wall), ("processor", our_cpu, their_cpu)):
        x, y = n_ours / a, n_theirs / b
        print(
            f"{clock}: ours {x:,.0f} residues/s ({a:,.0f} s), loop {y:,.0f} residues/s ({b:,.0f} s), ratio {x / y:.2f} (target {TARGET:g})"
        )
    verdict = "the same" if difference <= TOLERANCE else "NOT the same"
    print(f"largest difference on the {within.sum()} sequences within the window: {difference:.1e}: {verdict} within {TOLERANCE:g}")
    raise SystemExit(difference > TOLERANCE)


if __name__ == "__main__":
    main()
