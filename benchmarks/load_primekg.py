"""How much memory and time the loader needs for a graph of PrimeKG's size, beside pandas.read_csv of its kg.csv alone.

Makes a synthetic graph with PrimeKG's published counts of nodes and rows (129,375 nodes, 8.1 million rows, both directions)
in a temporary directory, loads it in a process of its own, reads kg.csv with pandas in another, prints both sides and
their ratios, and deletes the files. Exits 1 where the loader is over the bound.

    python benchmarks/load_primekg.py [--rows 8100498] [--gzip] [--seed 0]

Knows: the loader, PrimeKG's layout and counts. Does not know: what the graph means; edges are drawn at random.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BOUND_GB = 4.0
NODES = {
    "gene/protein": 27_671, "drug": 7_957, "disease": 17_080, "biological_process": 28_642, "molecular_function": 11_169,
    "cellular_component": 4_176, "effect/phenotype": 15_311, "anatomy": 14_035, "pathway": 2_516, "exposure": 818,
}  # fmt: skip
GO, PROTEIN = ("biological_process", "molecular_function", "cellular_component"), "gene/protein"
ROWS = [  # display_relation, x_type, y_type, rows in both directions
    ("expression present", "anatomy", PROTEIN, 3_036_406), ("synergistic interaction", "drug", "drug", 2_672_628),
    ("ppi", PROTEIN, PROTEIN, 642_150), ("phenotype present", "disease", "effect/phenotype", 300_634),
    ("interacts with", GO[0], PROTEIN, 289_610), ("interacts with", GO[2], PROTEIN, 166_804),
    ("associated with", "disease", PROTEIN, 160_822), ("interacts with", GO[1], PROTEIN, 139_060),
    ("side effect", "drug", "effect/phenotype", 129_568), ("parent-child", GO[0], GO[0], 105_772),
    ("interacts with", "pathway", PROTEIN, 85_292), ("parent-child", "disease", "disease", 64_388),
    ("contraindication", "drug", "disease", 61_350), ("expression absent", "anatomy", PROTEIN, 39_774),
    ("target", "drug", PROTEIN, 32_760), ("parent-child", "anatomy", "anatomy", 28_064), ("parent-child", GO[1], GO[1], 27_148),
    ("indication", "drug", "disease", 18_776), ("enzyme", "drug", PROTEIN, 10_634), ("parent-child", GO[2], GO[2], 9_690),
    ("transporter", "drug", PROTEIN, 6_184), ("off-label use", "drug", "disease", 5_136), ("linked to", "exposure", "disease", 4_608),
    ("carrier", "drug", PROTEIN, 1_728),
]  # fmt: skip
KG_ROWS = 8_100_498


def make(directory: Path, rows: int, packed: bool, seed: int) -> dict[str, Any]:
    """Writes the tables; child process. Returns {"rows": rows of kg.csv, "bytes": of all files}."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    rng = np.random.default_rng(seed)
    ending = ".csv.gz" if packed else ".csv"
    order = [t for t, n in NODES.items() for _ in range(n)]
    first = dict(zip(NODES, np.cumsum([0, *NODES.values()]).tolist(), strict=False))
    ids = [f"DB{i:05d}" if t == "drug" else str(i) for t, i in zip(order, range(len(order)), strict=True)]
    names = [f"{t} {i} with a name of the usual length" if t != PROTEIN else f"GENE{i}" for t, i in zip(order, ids, strict=True)]
    index = [str(i) for i in range(len(order))]

    def write(stem: str, columns: dict[str, Any]) -> None:
        with pa.output_stream(str(directory / f"{stem}{ending}"), compression="gzip" if packed else None) as out:
            csv.write_csv(pa.table(columns), out)

    def of(node_type: str, column: list[str]) -> list[str]:
        return column[first[node_type] : first[node_type] + NODES[node_type]]

    write("nodes", {"node_index": index, "node_id": ids, "node_type": order, "node_name": names, "node_source": ["made"] * len(order)})
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)
    n = NODES[PROTEIN]
    sequences = [letters[rng.integers(0, 20, size)].tobytes().decode() for size in rng.integers(100, 500, n)]
    write("protein", {"node_id": of(PROTEIN, ids), "node_index": of(PROTEIN, index), "sequence": sequences})
    ring = ["c1ccccc1", "C1CCNCC1", "c1ccncc1", "C1COCCN1"]
    smiles = [f"{'C' * (1 + i % 17)}N({'C' * (1 + i // 17 % 19)}O)C(=O){ring[i % 4]}" for i in range(NODES["drug"])]
    words = ["A text of the usual length that says what this is and where it is found. " * 4]
    described = {"node_index": of("drug", index), "drugbank_id": of("drug", ids), "node_name": of("drug", names)}
    write("drug", {**described, "smiles": smiles, "description": words * NODES["drug"]})
    described = {"node_index": of("disease", index), "mondo_id": of("disease", ids), "mondo_name": of("disease", names)}
    write("disease", {**described, "definition": words * NODES["disease"]})
    for stem, node_type in zip(("biological", "molecular", "cellular"), GO, strict=True):
        write(stem, {"node_id": of(node_type, ids), "node_index": of(node_type, index), "description": words * NODES[node_type]})

    columns = {"index": pa.array(index), "id": pa.array(ids), "type": pa.array(order), "name": pa.array(names)}
    made = 0
    with pa.output_stream(str(directory / f"kg{ending}"), compression="gzip" if packed else None) as out:
        for i, (relation, x_type, y_type, both) in enumerate(ROWS):
            n_edges = max(1, round(both * rows / sum(r[3] for r in ROWS) / 2))
            across = NODES[x_type] * NODES[y_type]
            pairs = rng.permutation(np.unique(rng.integers(0, across, int(n_edges * 1.2) + 20)))[:n_edges]
            x, y = first[x_type] + pairs // NODES[y_type], first[y_type] + pairs % NODES[y_type]
            x, y = pa.array(np.r_[x, y]), pa.array(np.r_[y, x])
            table: dict[str, Any] = {"relation": pa.array([relation] * len(x)), "display_relation": pa.array([relation] * len(x))}
            for side, taken in (("x", x), ("y", y)):
                table |= {f"{side}_{column}": values.take(taken) for column, values in columns.items()}
                table[f"{side}_source"] = pa.array(["made"] * len(x))
            csv.write_csv(pa.table(table), out, csv.WriteOptions(include_header=i == 0))
            made += len(x)
    return {"rows": made, "bytes": sum(path.stat().st_size for path in directory.iterdir())}


def load(directory: Path) -> dict[str, Any]:
    """The loader; child process."""
    from biobridge_rag.graph.primekg import load_graph

    start = time.perf_counter()
    graph = load_graph(directory)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "nodes": len(graph.nodes), "edges": graph.n_edges, "skipped": graph.skipped}


def pandas(directory: Path) -> dict[str, Any]:
    """The plain way: the whole of kg.csv as a data frame; child process."""
    import pandas as pd

    start = time.perf_counter()
    frame = pd.read_csv(next(directory.glob("kg.csv*")), low_memory=False)
    return {"seconds": time.perf_counter() - start, "rows": len(frame)}


def child(part: str, directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Runs one part in a process of its own, so that its peak memory is its own."""
    settings = {"--part": part, "--directory": directory, "--rows": options.rows, "--seed": options.seed}
    command = [sys.executable, __file__, *(str(word) for pair in settings.items() for word in pair)]
    done = subprocess.run(command + ["--gzip"] * options.gzip, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=KG_ROWS, help="rows of kg.csv, both directions together")
    parser.add_argument("--gzip", action="store_true", help="write .csv.gz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=["make", "load", "pandas"], help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        parts = {"make": lambda d: make(d, options.rows, options.gzip, options.seed), "load": load, "pandas": pandas}
        result = parts[options.part](options.directory)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        print(json.dumps({**result, "peak_gb": peak / 1e9}))
        return 0
    with tempfile.TemporaryDirectory(prefix="primekg-size-") as name:
        made = child("make", Path(name), options)
        print(f"made      {made['rows']:>10,} rows in kg.csv{'.gz' * options.gzip}, {made['bytes'] / 1e9:.2f} GB of files", flush=True)
        ours = child("load", Path(name), options)
        plain = child("pandas", Path(name), options)
    print(f"loader    {ours['nodes']:>10,} nodes, {ours['edges']:,} edges, {ours['seconds']:.1f} s, peak {ours['peak_gb']:.2f} GB")
    for reason, count in ours["skipped"].items():
        print(f"          {count:>10,} {reason}")
    print(f"pandas    {plain['rows']:>10,} rows of kg.csv alone, {plain['seconds']:.1f} s, peak {plain['peak_gb']:.2f} GB")
    print(f"bound     {BOUND_GB:.2f} GB; loader / bound {ours['peak_gb'] / BOUND_GB:.2f}")
    print(f"loader / pandas: memory {ours['peak_gb'] / plain['peak_gb']:.2f}, time {ours['seconds'] / plain['seconds']:.2f}")
    return 0 if ours["peak_gb"] < BOUND_GB else 1


if __name__ == "__main__":
    sys.exit(main())
