"""What stands where an encoder would, for vectors that were released ready-made."""

from __future__ import annotations

import numpy as np
import pytest

from biobridge_rag.encoders.cache import cached_embeddings, content_key, save_array
from biobridge_rag.encoders.released import ReleasedEncoder, is_released, released_encoders
from biobridge_rag.errors import HomeError, InputError
from biobridge_rag.types import Encoder, Modality, NodeType


def tables() -> dict[NodeType, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {NodeType.PROTEIN: (4, 12), NodeType.DRUG: (3, 5), NodeType.DISEASE: (2, 7), NodeType.CELLULAR_COMPONENT: (3, 7)}
    return {t: rng.standard_normal(shape).astype(np.float32) for t, shape in shapes.items()}


def test_ids_name_the_vectors_and_their_width() -> None:
    found = released_encoders(tables())
    assert set(found) == set(Modality)
    assert found[Modality.PROTEIN].id.startswith("released-gene-protein-") and found[Modality.PROTEIN].id.endswith("-12")
    assert found[Modality.MOLECULE].dim == 5 and found[Modality.TEXT].id.startswith("released-text-")
    for modality, encoder in found.items():
        assert isinstance(encoder, Encoder) and is_released(encoder.id) and encoder.modality is modality
        again = ReleasedEncoder(modality, encoder.id)
        assert (again.id, again.dim) == (encoder.id, encoder.dim)


@pytest.mark.parametrize("node_type", sorted(tables()))
def test_any_number_changes_the_id_of_its_modality_alone(node_type: NodeType) -> None:
    before, changed = released_encoders(tables()), tables()
    changed[node_type][1, 3] += np.float32(1e-3)
    after = released_encoders(changed)
    assert {m for m in before if before[m].id != after[m].id} == {node_type.modality}
    fewer = {**tables(), node_type: tables()[node_type][:-1]}
    assert released_encoders(fewer)[node_type.modality].id != before[node_type.modality].id


@pytest.mark.parametrize(
    ("modality", "value", "word"), [("protein", "MKT", "ESM-2"), ("molecule", "CCO", "Uni-Mol"), ("text", "asthma", "PubMedBERT")]
)
def test_a_new_value_is_bad_input_that_says_what_is_needed(modality: str, value: str, word: str) -> None:
    encoder = released_encoders(tables())[Modality(modality)]
    with pytest.raises(InputError, match=word) as error:
        encoder.encode([value])
    assert "node of the graph" in error.value.help and "\n" not in str(error.value)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_widths_of_one_modality_must_agree() -> None:
    with pytest.raises(InputError, match="cellular component, disease"):
        released_encoders({**tables(), NodeType.DISEASE: np.zeros((2, 8), np.float32)})


@pytest.mark.parametrize("name", ["kmer", "released-drug-12", "released-drug-0123456789abcdef-0", "released--0123456789abcdef-5"])
def test_other_names_are_no_released_vectors(name: str) -> None:
    assert not is_released(name)
    with pytest.raises(HomeError, match="names no released vectors"):
        ReleasedEncoder(Modality.TEXT, name)


def test_a_stored_table_is_found_without_encoding(tmp_path) -> None:
    x = tables()[NodeType.PROTEIN]
    encoder = released_encoders({NodeType.PROTEIN: x})[Modality.PROTEIN]
    groups = [("MKT",), ("AAA",), ("CCC",), ("DDD",)]
    save_array(tmp_path / f"gene-protein-{content_key(encoder.id, groups)}.npy", x)
    assert np.array_equal(cached_embeddings(tmp_path, "gene-protein", encoder, groups), x)
    with pytest.raises(InputError, match="cannot be encoded"):
        cached_embeddings(tmp_path, "gene-protein", encoder, [*groups, ("EEE",)])
