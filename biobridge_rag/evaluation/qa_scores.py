"""The scores of a question run: what each arm got right, what its answers rest on, what they cost, and how arms differ.

Knows: records of a run, the aliases of answers. Does not know: how questions are asked, graphs, what a report looks like.

All shares are in [0, 1]. Records with an error are counted and left out of all else; questions without a known answer are left out of
what needs one. A top prediction is right as qa_matching.right_names says; an answer that abstains is not right, whatever it predicts.
Intervals are percentile bootstrap intervals of 95 % over questions (Efron & Tibshirani 1993); arms are compared on the questions that
both answered, drawn together, and p is that of the two-sided sign-flip test (see comparison).

A citation is a key in a sentence, each once. It is right when it stands for evidence that was shown and its sentence was not found
unsupported; made-up keys, which were taken out of the text, count as wrong (after Gao et al. 2023, arXiv 2305.14627, whose judge of
support is a model). The share of unsupported sentences is one of those that cite something or were found unsupported: what merely says
that something is not known, or heads a list, cannot be either.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biobridge_rag.evaluation.comparison import PerHead, bootstrap, sign_flip_p
from biobridge_rag.evaluation.qa_matching import Aliases, best_f1, first_right, normalised, right_names
from biobridge_rag.qa.citations import MARK
from biobridge_rag.qa.markdown import keys_of, sentences

Record = Mapping[str, Any]
RESAMPLES = 10_000
CUTOFFS = (1, 5, 10)


def score_record(record: Record, aliases: Aliases | None = None) -> dict[str, Any]:
    """What is measured of one record.

    {"id", "arm", "kind", "answerable", "abstained", "seconds", "tokens", "cost", "calls"; "right" (the top prediction is right and the
    answer does not abstain), "exact_match" (the top prediction is right), "f1" (of the top prediction), "rank" and "evidence_rank" (of
    the first right prediction and of the first right node shown, from 1, or None; true/false has no node), all None where no answer is
    known; "citations", "right_citations", "dangling" (keys without a citation), "not_shown", "removed",
    "sentences", "unsupported"}; only {"id", "arm", "kind", "answerable", "error"} of a failed one.
    """
    kind, answers = record["kind"], record.get("answers") or []
    common = {"id": record["id"], "arm": record["arm"], "kind": kind, "answerable": record.get("answerable")}
    if "error" in record:
        return common | {"error": record["error"]}
    usage = record.get("usage") or {}
    found: dict[str, Any] = common | {
        "abstained": bool(record["abstained"]), "seconds": record["seconds"], "cost": usage.get("cost"),
        "tokens": usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0), "calls": usage.get("calls", 0),
        "right": None, "exact_match": None, "f1": None, "rank": None, "evidence_rank": None,
    }  # fmt: skip
    if answers:
        names, predictions = right_names(kind, answers, aliases), record["prediction"]
        rank = first_right(kind, predictions, names)
        found |= {
            "right": rank == 1 and not found["abstained"],
            "exact_match": rank == 1,
            "f1": 1.0 if rank == 1 else best_f1(predictions[0], sorted(names)) if predictions else 0.0,
            "rank": rank,
        }
        if kind != "true_false":
            nodes = names if kind == "open" else right_names("open", answers, aliases)
            shown = ({normalised(c["name"]), normalised(c["node_id"])} for c in record.get("shown") or ())
            found["evidence_rank"] = next((k for k, c in enumerate(shown, start=1) if c & nodes), None)
    return found | _citations(record)


def _citations(record: Record) -> dict[str, int]:
    text, unsupported = record["text"].replace(MARK, ""), [" ".join(s.split()) for s in record["unsupported"]]
    cited = {c["key"].strip("[]"): c for c in record["citations"]}
    shown = {(c["node_id"], c["name"]) for c in record.get("shown") or ()}
    n = right = dangling = not_shown = n_sentences = 0
    for sentence in sentences(text):
        plain, keys = " ".join(sentence.split()), keys_of(sentence)
        supported = not any(plain in judged for judged in unsupported)  # what was judged as one may hold several
        n_sentences += bool(keys) and supported
        for key in keys:
            n += 1
            if key not in cited:
                dangling += 1
            elif (cited[key]["node_id"], cited[key]["name"]) not in shown:
                not_shown += 1
            else:
                right += supported
    removed = int(record.get("removed") or 0)
    return {
        "citations": n + removed, "right_citations": right, "dangling": dangling, "not_shown": not_shown, "removed": removed,
        "sentences": n_sentences + len(unsupported), "unsupported": len(unsupported),
    }  # fmt: skip


def summarise(records: Sequence[Record], arms: Sequence[str], seed: int, aliases: Aliases | None = None) -> dict[str, Any]:
    """{"arms": {arm: as `_arm`}, "paired": as `compare_arms`, "resamples", "seed"}; the same for the same records, in any order."""
    scored = sorted((score_record(r, aliases) for r in records), key=lambda s: (s["id"], s["arm"]))
    by_arm = {arm: [s for s in scored if s["arm"] == arm] for arm in arms}
    return {
        "arms": {arm: _arm(rows, [seed, k]) for k, (arm, rows) in enumerate(by_arm.items())},
        "paired": compare_arms(by_arm, seed),
        "resamples": RESAMPLES,
        "seed": seed,
    }


def _arm(rows: Sequence[Record], seed: Sequence[int]) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    good = [r for r in rows if "error" not in r]
    of_kind = {kind: [r for r in good if r["kind"] == kind] for kind in sorted({r["kind"] for r in good})}
    seconds, costs = [r["seconds"] for r in good], [r["cost"] for r in good if r["cost"] is not None]
    total = {
        k: sum(r[k] for r in good) for k in ("citations", "right_citations", "dangling", "not_shown", "removed", "sentences", "unsupported")
    }
    return {
        **_block(good, rng),
        "errors": len(rows) - len(good),
        **_by_answerable(good, rng),
        "by_kind": {kind: _block(mine, rng) | _by_answerable(mine, rng) for kind, mine in of_kind.items()},
        "abstention": _abstention(good),
        "citations": {
            "n": total["citations"], "precision": _share(total["right_citations"], total["citations"]), "dangling": total["dangling"],
            "not_shown": total["not_shown"], "removed": total["removed"], "sentences": total["sentences"],
            "unsupported": total["unsupported"], "unsupported_share": _share(total["unsupported"], total["sentences"]),
        },
        "latency": {f"p{q}": round(float(np.percentile(seconds, q)), 6) if seconds else None for q in (50, 99)},
        "usage": {
            "calls": sum(r["calls"] for r in good), "tokens": sum(r["tokens"] for r in good),
            "cost": round(sum(costs), 6) if costs else None,
        },
    }  # fmt: skip


def _by_answerable(rows: Sequence[Record], rng: np.random.Generator) -> dict[str, Any]:
    return {
        name: _block(mine, rng)
        for name, said in (("answerable", True), ("unanswerable", False))
        if (mine := [r for r in rows if r["answerable"] is said])
    }


def _block(rows: Sequence[Record], rng: np.random.Generator) -> dict[str, Any]:
    """Means over some questions: "n", "n_scored" (with a known answer), "accuracy" and its interval, "exact_match", "f1", "abstained",
    and "recall", "evidence_recall" (over those whose answer is a node or an option): a right one within the first k."""
    known = [r for r in rows if r["right"] is not None]
    nodes = [r for r in known if r["kind"] != "true_false"]
    accuracy = _share(sum(r["right"] for r in known), len(known))
    # To draw n questions anew and average what is 0 or 1 is to draw a binomial number.
    drawn = rng.binomial(len(known), accuracy, RESAMPLES) / len(known) if accuracy is not None else None
    return {
        "n": len(rows),
        "n_scored": len(known),
        "accuracy": accuracy,
        "ci": None if drawn is None else [round(float(v), 6) for v in np.percentile(drawn, [2.5, 97.5])],
        "exact_match": _share(sum(r["exact_match"] for r in known), len(known)),
        "f1": _share(sum(r["f1"] for r in known), len(known)),
        "abstained": _share(sum(r["abstained"] for r in rows), len(rows)),
        "recall": {str(k): _share(sum(_within(r["rank"], k) for r in nodes), len(nodes)) for k in CUTOFFS},
        "evidence_recall": {
            **{str(k): _share(sum(_within(r["evidence_rank"], k) for r in nodes), len(nodes)) for k in CUTOFFS},
            "all": _share(sum(r["evidence_rank"] is not None for r in nodes), len(nodes)),
        },
    }


def _abstention(rows: Sequence[Record]) -> dict[str, Any]:
    """right: abstained where the graph cannot answer; wrong: where it can; missed: answered where it cannot; numbers of questions."""
    can, cannot = ([r for r in rows if r["answerable"] is said] for said in (True, False))
    right, wrong = sum(r["abstained"] for r in cannot), sum(r["abstained"] for r in can)
    return {"right": right, "wrong": wrong, "missed": len(cannot) - right, "precision": _share(right, right + wrong)}


def compare_arms(by_arm: Mapping[str, Sequence[Record]], seed: int) -> list[dict[str, Any]]:
    """Each two arms on the questions that both answered: over all, over those that the graph can and cannot answer, and by kind.

    A row: {"arm", "other", "over", "n", "accuracy_difference" (the arm's minus the other's), "ci", "p", "f1_difference", "f1_ci",
    "only_arm", "only_other": how many questions only one of the two got right}.
    """
    known = {arm: {r["id"]: r for r in rows if r.get("right") is not None} for arm, rows in by_arm.items()}
    kinds = sorted({r["kind"] for rows in known.values() for r in rows.values()})
    scopes = [
        ("all", None, None),
        ("answerable", "answerable", True),
        ("unanswerable", "answerable", False),
        *((k, "kind", k) for k in kinds),
    ]
    drawn: dict[tuple[str, ...], _Drawn] = {}
    out = []
    for (arm, mine), (other, theirs) in itertools.combinations(known.items(), 2):
        both = sorted(mine.keys() & theirs.keys())
        for k, (over, field, value) in enumerate(scopes):
            ids = tuple(i for i in both if field is None or mine[i][field] == value)
            if ids and (over == "all" or len(ids) < len(both)):
                if ids not in drawn:
                    drawn[ids] = _Drawn(known, ids, [seed, k])
                out.append({"arm": arm, "other": other, "over": over, **drawn[ids].compared(arm, other)})
    return out


class _Drawn:
    """Some questions drawn anew, each counting once, for all arms that answered all of them; see comparison."""

    def __init__(self, known: Mapping[str, Mapping[str, Record]], ids: Sequence[str], seed: Sequence[int]) -> None:
        self.arms = [arm for arm, rows in known.items() if all(i in rows for i in ids)]
        sums = np.zeros((len(ids), len(self.arms), 4))
        for k, arm in enumerate(self.arms):
            sums[:, k, 0] = [known[arm][i]["right"] for i in ids]
            sums[:, k, 1] = [known[arm][i]["f1"] for i in ids]
        self.seed = seed
        self.table = PerHead("questions", np.arange(len(ids)), np.ones(len(ids)), sums, tuple(self.arms))
        self.means = bootstrap([self.table], RESAMPLES, np.random.default_rng(list(seed)))

    def compared(self, arm: str, other: str) -> dict[str, Any]:
        at, of = self.arms.index(arm), self.arms.index(other)
        gaps, measured = self.means[:, at] - self.means[:, of], self.table.means[at] - self.table.means[of]
        accuracy, f1 = ([round(float(v), 6) for v in np.percentile(gaps[:, k], [2.5, 97.5])] for k in (0, 1))
        gap = self.table.sums[:, at, 0] - self.table.sums[:, of, 0]
        return {
            "n": len(gap),
            "accuracy_difference": round(float(measured[0]), 6),
            "ci": accuracy,
            "p": round(sign_flip_p([self.table], arm, other, RESAMPLES, np.random.default_rng([*self.seed, 1])), 6),
            "f1_difference": round(float(measured[1]), 6),
            "f1_ci": f1,
            "only_arm": int((gap > 0).sum()),
            "only_other": int((gap < 0).sum()),
        }


def _within(rank: int | None, k: int) -> bool:
    return rank is not None and rank <= k


def _share(part: float, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None
