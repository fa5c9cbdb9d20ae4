"""What the doctor says of the language model that is set up."""

from __future__ import annotations

from pathlib import Path

from biobridge_rag.config import Settings
from biobridge_rag.diagnosis import _diagnose_llm


def test_a_language_model_on_this_machine_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    found = _diagnose_llm(Settings(llm_model=str(tmp_path), llm_base_url=""))
    assert found.ok and f"{tmp_path.name} runs on this machine" in found.detail
