"""A real graph of 20,000 nodes: time and memory of the build, then retrieval on nodes that were cut out of it beforehand.

`python benchmarks/realkg.py [--graph DIR] [--seed N] [--keep DIR] [--baselines a,b]`
(default ../shared/realkg; says so and stops where it is not
there). 432 proteins, 335 drugs and 130 diseases drawn by the seed are cut out with all their edges; the bridge, the fusion and
the analogues never see them.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HELD = {"gene/protein": 432, "drug": 335, "disease": 130}
MAX_SECONDS, MAX_GB = 15 * 60, 6.0
COMMAND = "import sys; from biobridge_rag.cli import main; sys.argv = ['biobridge-rag', *sys.argv[1:]]; main()"


def read(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", newline="") as stream:
        return list(csv.reader(stream))


def write(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", newline="") as stream:
        csv.writer(stream).writerows(rows)


def cut(source: Path, target: Path, seed: int) -> None:
    """Writes target/graph without the held-out nodes and target/unseen with them and their edges to the rest."""
    rng = np.random.default_rng(seed)
    header, *nodes = read(source / "nodes.csv.gz")
    index, kind = header.index("node_index"), header.index("node_type")
    held: set[str] = set()
    for node_type, count in HELD.items():
        of_type = [row[index] for row in nodes if row[kind] == node_type]
        held.update(rng.choice(of_type, min(count, len(of_type) // 5), replace=False))
    for path in sorted(source.glob("*.csv.gz")):
        header, *rows = read(path)
        if path.name.startswith("kg."):
            x, y = header.index("x_index"), header.index("y_index")
            inside = [row for row in rows if row[x] not in held and row[y] not in held]
            outside = [row for row in rows if (row[x] in held) != (row[y] in held)]
        else:
            at = header.index("node_index")
            inside, outside = [row for row in rows if row[at] not in held], [row for row in rows if row[at] in held]
        write(target / "graph" / path.name, [header, *inside])
        write(target / "unseen" / path.name, [header, *outside])


def run(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", COMMAND, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "realkg")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--baselines", default="popularity,analogues,kernel-ridge")
    given = parser.parse_args()
    if not (given.graph / "nodes.csv.gz").exists():
        print(f"{given.graph} is not there: nothing measured. Give --graph DIR with gzipped tables in PrimeKG's layout.")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        cut(given.graph, folder, given.seed)
        home, report = str(folder / "home"), folder / "retrieval.json"
        seconds = run("build", "--graph", str(folder / "graph"), "--home", home)
        gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f"build: {seconds:.0f} s of at most {MAX_SECONDS} s, ratio {seconds / MAX_SECONDS:.2f}")
        print(f"peak memory: {gigabytes:.2f} GB of at most {MAX_GB:.0f} GB, ratio {gigabytes / MAX_GB:.2f}")
        arguments = ("--graph", str(folder / "graph"), "--home", home, "--unseen", str(folder / "unseen"), "--out", str(report))
        arguments += ("--baselines", given.baselines, "--report", str(folder / "report"))
        run("evaluate", "retrieval", *arguments)
        found = json.loads(report.read_text())
    methods = list(found["macro"])
    print(f"\n| relation | triples | {' | '.join(methods)} |\n| --- | --- | {' | '.join('---' for _ in methods)} |")
    for row in found["relations"]:
        figures = " | ".join(f"{row['methods'][m]['mrr']:.3f}" for m in methods)
        print(f"| {row['head_type']} - {row['relation']} - {row['tail_type']} | {row['n_triples']} | {figures} |")
    macro = " | ".join(f"{found['macro'][m]['mrr']:.3f}" for m in methods)
    ranges = " | ".join("{:.3f} to {:.3f}".format(*found["macro_ci"][m]["mrr"]) for m in methods)
    print(f"| macro MRR of {len(found['macro_over'])} | | {macro} |\n| 95 % interval | | {ranges} |\n")
    best = found["macro_best_baseline"]
    for ours in ("fused", "bridge"):
        test = found["macro_against_best_baseline"][ours]
        ratio = found["macro"][ours]["mrr"] / found["macro"][best]["mrr"]
        low, high = test["ci"]
        change = f"{test['mrr_difference']:+.4f} ({low:+.4f} to {high:+.4f})"
        print(f"{ours} against {best}: ratio {ratio:.3f}, difference {change}, p {test['p']:.4f}")
    print(f"expected calibration error of the best 20 of each head: {found['calibration']['ece']:.4f}")


if __name__ == "__main__":
    main()
