"""Minutes, utilisation and peak memory of training the authors' architecture on a GPU, on a graph of PrimeKG's size.

`python benchmarks/official_gpu.py [--epochs N] [--batch N] [--negatives N] [--precision fp32|bf16]`

The graph is that of official_throughput.py: 85,000 nodes, 3.5 million triples, embeddings 2560, 768 and 512 wide, all made at random, so
the time means something and the loss does not. The network is the full one, 768 wide in 6 layers. Without CUDA it says so and stops.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time

import numpy as np
import torch
from official_throughput import synthetic

from biobridge_rag.bridge.checkpoints import EpochRow
from biobridge_rag.bridge.official_training import train_official


class Watch:
    """The GPU's utilisation in percent, asked of nvidia-smi every second."""

    def __init__(self, index: int) -> None:
        self.index, self.seen, self._over = index, [], threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        command = ["nvidia-smi", f"--id={self.index}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._over.wait(1.0):
            try:
                self.seen.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
            except (OSError, subprocess.CalledProcessError, ValueError):
                return  # told below as not known


def measure(device: str, thin: float, **options: object) -> None:
    data = synthetic(thin)
    rows: list[EpochRow] = []
    print(f"{len(data.graph.nodes):,} nodes, {data.graph.n_edges:,} triples, options {options}", flush=True)

    def progress(stage: str, done: int, total: int) -> None:
        print(f"{stage}: {done} of {total}", file=sys.stderr, flush=True)

    start = time.perf_counter()
    with Watch(0) as watch:
        bridge, _ = train_official(data.graph, data.tables, seed=0, device=device, progress=progress, history=rows, **options)
    minutes = (time.perf_counter() - start) / 60
    epochs = sum(row.seconds for row in rows) / 60
    print(f"{sum(p.numel() for p in bridge.network.parameters()) / 1e6:.1f} M parameters, {rows[-1].steps:,} steps")
    print(f"{minutes:.1f} minutes in all, {epochs:.1f} of them in {len(rows)} epochs with their validation")
    during = f"{np.mean(watch.seen):.0f} % on the mean of {len(watch.seen)} looks" if watch.seen else "not known (no nvidia-smi)"
    print(f"utilisation: {during}")
    if torch.cuda.is_available():
        print(f"peak memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of {torch.cuda.get_device_name()}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--negatives", type=int)
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA here: nothing was measured.")
        return
    measure("cuda", 1.138, epochs=given.epochs, batch=given.batch, negatives=given.negatives, precision=given.precision)


if __name__ == "__main__":
    main()
