"""The arms of an evaluation: what an answer may rest on.

Knows: names. Does not know: how evidence is gathered.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arm:
    """texts: descriptions of nodes, found by their words and by embedding; graph: edges, the bridge and analogues; shuffled: what the
    graph and the bridge say is that of other nodes of the same type, drawn by a seed, as a control."""

    name: str
    texts: bool
    graph: bool
    shuffled: bool = False


FULL = Arm("full", True, True)
ARMS: dict[str, Arm] = {
    "none": Arm("none", False, False),
    "text": Arm("text", True, False),
    "bridge": Arm("bridge", False, True),
    "shuffled": Arm("shuffled", False, True, True),
    "full": FULL,
}
