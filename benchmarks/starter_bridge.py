"""The starter's trained bridge: trains it again and compares it, bit for bit, with the one that ships.

`python benchmarks/starter_bridge.py [--write]`; --write replaces the shipped files. The bits depend on the machine's linear
algebra libraries and number of threads: on one machine they are the same every time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import biobridge_rag
from biobridge_rag.assembly import build
from biobridge_rag.building import TRAINED_ON
from biobridge_rag.config import Settings

SHIPPED = Path(biobridge_rag.__file__).parent / "graph" / "starter" / "bridge"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "starter"
        start = time.perf_counter()
        manifest, _ = build(Settings(graph="starter", home=home), lambda *_: None, train=True)
        seconds = time.perf_counter() - start
        if write:
            SHIPPED.mkdir(exist_ok=True)
            for file in (home / "bridge" / "model.safetensors", home / "bridge" / "config.json", home / "fusion.json"):
                shutil.copyfile(file, SHIPPED / file.name)
            described = {name: getattr(manifest, name) for name in (*TRAINED_ON, "bridge_sha256")}
            (SHIPPED / "trained_on.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
        shipped = json.loads((SHIPPED / "trained_on.json").read_text())["bridge_sha256"]
        fusion = (home / "fusion.json").read_bytes() == (SHIPPED / "fusion.json").read_bytes()
    same = manifest.bridge_sha256 == shipped and fusion
    print(f"trained in {seconds:.0f} s: {manifest.bridge_sha256}")
    print(f"shipped:          {shipped}")
    print("bit for bit the same" if same else "not the same")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
