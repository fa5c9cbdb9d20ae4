"""Asks every question in every arm: several at a time, within a budget, going on where an earlier run stopped.

Knows: questions, arms by name, a function that answers, the file of records. Does not know: engines, models, scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biobridge_rag.errors import BiobridgeError
from biobridge_rag.evaluation.qa_records import RecordFile, open_records
from biobridge_rag.evaluation.questions import Question
from biobridge_rag.types import Answer, Retrieval, Usage

Ask = Callable[[Question, str], Answer]
Progress = Callable[[int, int, Usage], None]  # how many are answered, of how many, and what all have cost

MAX_FAILURES = 20  # in a row; then whoever answers is gone
_MAX_HITS = 10


@dataclass(frozen=True, slots=True)
class Budget:
    """US dollars and tokens (prompt and completion together) that all answers of the run may cost, with those of earlier runs."""

    usd: float | None = None
    tokens: int | None = None


UNLIMITED = Budget()


@dataclass(frozen=True)
class Run:
    """records: by question and arm, in the order of the questions; stopped: why it ended before all was asked, empty where it did not;
    n_asked: in this run; n_kept: from earlier ones; n_dropped: records of those that were damaged or errors, and were asked again."""

    records: tuple[dict[str, Any], ...]
    n_wanted: int
    n_asked: int
    n_kept: int
    n_dropped: int
    stopped: str = ""

    @property
    def usage(self) -> Usage:
        return _total(self.records)


def ask_all(
    questions: Sequence[Question],
    arms: Sequence[str],
    ask: Ask,
    folder: Path,
    identity: Mapping[str, Any],
    *,
    concurrency: int = 1,
    budget: Budget = UNLIMITED,
    progress: Progress = lambda done, total, usage: None,
) -> Run:
    """Asks what `folder` does not yet answer, each question in all arms before the next, and adds a record for each.

    ask: is called from `concurrency` threads; what it raises becomes a record with "error", which a later run asks again. identity: see
    open_records. The run stops by itself when the budget is used up or MAX_FAILURES answers in a row have failed; on Ctrl-C it waits for
    what is being asked, records it, and raises KeyboardInterrupt. With a budget in dollars one question at a time is asked until a
    price is known, then only what fits when each answer costs as much as the dearest so far.
    """
    with open_records(folder, identity) as file:
        wanted = [(q, arm) for q in questions for arm in arms]
        open_ = [(q, arm) for q, arm in wanted if (q.id, arm) not in file.records]
        n_kept = len(wanted) - len(open_)
        loop = _Loop(file, ask, budget, len(wanted), n_kept, progress)
        loop.run(open_, concurrency)
        records = tuple(file.records[q.id, arm] for q, arm in wanted if (q.id, arm) in file.records)
        return Run(records, len(wanted), loop.n_done - n_kept, n_kept, file.n_dropped, loop.stopped)


class _Loop:
    def __init__(self, file: RecordFile, ask: Ask, budget: Budget, n_wanted: int, n_kept: int, progress: Progress) -> None:
        self.file, self.ask, self.budget, self.progress = file, ask, budget, progress
        self.n_wanted, self.n_done, self.stopped, self.failures = n_wanted, n_kept, "", 0
        self.usage, self.dearest = _total(list(file.records.values())), (0.0, 0)
        for record in file.records.values():
            self._weigh(_usage(record))

    def run(self, tasks: list[tuple[Question, str]], concurrency: int) -> None:
        self.progress(self.n_done, self.n_wanted, self.usage)
        queue, in_flight = iter(tasks), set[Future[dict[str, Any]]]()
        left = len(tasks)
        pool = ThreadPoolExecutor(max_workers=max(1, concurrency), thread_name_prefix="asking")
        try:
            while left or in_flight:
                while left and not self.stopped and len(in_flight) < concurrency and self._affordable(len(in_flight)):
                    in_flight.add(pool.submit(_record, *next(queue), self.ask))
                    left -= 1
                if not in_flight:
                    break
                for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
                    self._take(future.result())
                    in_flight.remove(future)
        except KeyboardInterrupt:
            for record in [future.result() for future in wait(in_flight).done]:
                if (record["id"], record["arm"]) not in self.file.records:
                    self._take(record)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _take(self, record: dict[str, Any]) -> None:
        self.file.add(record)
        self.n_done += 1
        used = _usage(record)
        self.usage += used
        self._weigh(used)
        self.failures = self.failures + 1 if "error" in record else 0
        if self.failures >= MAX_FAILURES:
            self.stopped = self.stopped or f"{MAX_FAILURES} questions in a row failed; the last: {record['error']}"
        if self.budget.usd is not None and used.calls > used.cached and used.cost is None:
            self.stopped = (
                self.stopped or "what the language model costs is not known, so a budget in dollars cannot be kept: give one in tokens"
            )
        self.progress(self.n_done, self.n_wanted, self.usage)

    def _weigh(self, used: Usage) -> None:
        self.dearest = max(self.dearest[0], used.cost or 0.0), max(self.dearest[1], _tokens(used))

    def _affordable(self, n_in_flight: int) -> bool:
        """Whether one more question may be asked beside those that are being asked; sets `stopped` where none may be any more."""
        for most, spent, dearest, what in (
            (self.budget.usd, self.usage.cost or 0.0, self.dearest[0], "US dollars"),
            (self.budget.tokens, _tokens(self.usage), self.dearest[1], "tokens"),
        ):
            if most is None:
                continue
            if (not dearest and n_in_flight) or (n_in_flight and spent + dearest * (n_in_flight + 1) > most):
                return False
            if spent + dearest > most or spent >= most > 0 or most <= 0:
                shown = f"{spent:.4f}" if isinstance(most, float) else f"{spent:,}"
                self.stopped = f"the budget of {most:,} {what} is used up: {shown} spent, and the next answer may cost {dearest:.4g}"
                return False
        return True


def _record(question: Question, arm: str, ask: Ask) -> dict[str, Any]:
    """The record of one question in one arm: what was asked, the whole answer, the seconds it took."""
    begun = time.perf_counter()
    record: dict[str, Any] = {"id": question.id, "arm": arm, **{k: v for k, v in question.to_dict().items() if k not in ("id", "passages")}}
    try:
        answer = ask(question, arm)
    except BiobridgeError as error:
        return _failed(record, begun, str(error))
    except Exception as error:
        return _failed(record, begun, f"internal error: {type(error).__name__}: {' '.join(str(error).split())[:500]}")
    seconds = _since(begun)
    data = answer.to_dict()
    data.pop("question")
    data |= {"kind": question.kind, "retrieved": [_retrieved(r) for r in answer.retrieved], "seconds": seconds}
    if answer.prompt and answer.model == "none":  # the model was asked and failed: this is the answer without it
        data["error"] = answer.notice or "The language model did not answer."
    return record | _without_surrogates(data)


def _failed(record: dict[str, Any], begun: float, error: str) -> dict[str, Any]:
    return record | {"seconds": _since(begun), "error": _without_surrogates(error)}


def _since(begun: float) -> float:
    return round(time.perf_counter() - begun, 6)


def _retrieved(found: Retrieval) -> dict[str, Any]:
    """A retrieval with its first hits alone, without their reasons: those that counted are among what was shown."""
    hits = [
        {"rank": h.rank, "id": h.node.id, "name": h.node.name, "probability": round(h.probability, 4), "known": h.known}
        for h in found.hits[:_MAX_HITS]
    ]
    return {
        "query": found.query.name,
        "type": found.query.type.value,
        "relation": found.relation.key,
        "n_hits": len(found.hits),
        "hits": hits,
    }


def _without_surrogates(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", errors="replace").decode()
    if isinstance(data, dict):
        return {k: _without_surrogates(v) for k, v in data.items()}
    return [_without_surrogates(v) for v in data] if isinstance(data, list) else data


def _usage(record: Mapping[str, Any]) -> Usage:
    found = record.get("usage") or {}
    return Usage(**{k: v for k, v in found.items() if k in Usage.__slots__})


def _tokens(usage: Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens


def _total(records: Sequence[Mapping[str, Any]]) -> Usage:
    total = Usage()
    for record in records:
        total += _usage(record)
    return total
