"""InfoNCE with several positives a query, over all candidates.

Knows: torch tensors. Does not know: models, graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def info_nce(logits: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Mean over the positive pairs (rows[k], columns[k]) of -log(e^s / (e^s + sum of the negatives)).

    logits: (queries, candidates), already divided by the temperature. A query's other positives are no negatives of it,
    as in the filtered ranking protocol (van den Oord et al. 2018 for the loss; Bordes et al. 2013 for the filter).
    """
    import torch

    positive = logits[rows, columns]
    mask = torch.zeros_like(logits)
    mask[rows, columns] = -1e9  # finite, so that a query whose every candidate is true has a gradient: zero
    negatives = torch.logsumexp(logits + mask, dim=1)[rows]
    return (torch.logaddexp(positive, negatives) - positive).mean()
