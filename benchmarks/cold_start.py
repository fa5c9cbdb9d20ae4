"""Cold start to the first answer, as a whole process, against the bare import of gradio, chromadb and torch together.

`python benchmarks/cold_start.py [--runs N]`; medians; the starter home is built first and not counted.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMPORTS = "import gradio, chromadb, torch"
ANSWER = "import sys; from biobridge_rag.cli import main; sys.argv = ['biobridge-rag', *sys.argv[1:]]; main()"


def seconds(code: str, *arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as scratch:
        home = str(Path(scratch) / "starter")
        commands = {
            "candidates": ["candidates", "--node", "ABL1", "--home", home],
            "ask": ["ask", "Which drugs act on ABL1?", "--llm", "none", "--home", home],
        }
        seconds(ANSWER, *commands["candidates"])
        seconds(IMPORTS)
        bare, answers = [], {name: [] for name in commands}
        for _ in range(runs):
            bare.append(seconds(IMPORTS))
            for name, arguments in commands.items():
                answers[name].append(seconds(ANSWER, *arguments))
    base = statistics.median(bare)
    for name, times in answers.items():
        first = statistics.median(times)
        print(f"{name}: first answer {first:.2f} s, bare import of gradio, chromadb and torch {base:.2f} s, ratio {first / base:.2f}")


if __name__ == "__main__":
    main()
