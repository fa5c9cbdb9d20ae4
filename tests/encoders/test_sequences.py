"""Protein sequences and FASTA files: what is read, what is refused in one line, and what is said of the rest."""

from __future__ import annotations

import gzip
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biobridge_rag.encoders.sequences import MAX_RESIDUES, RESIDUES, clean_sequence, decode, looks_like_dna, parse_fasta
from biobridge_rag.errors import FileError, SequenceError

PEPTIDE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"
DNA = "ATGGCGTACCGTAGCTTAGGCATCGATCGGATCCA"


def random_protein(length: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("ACDEFGHIKLMNPQRSTVWY", k=length))


def test_spaces_numbers_case_and_the_final_stop_are_taken_off() -> None:
    assert clean_sequence(" 1 mktay iakqr\n 11 QISFVK*\r\n") == "MKTAYIAKQRQISFVK"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        (" \n*", "is empty"),
        ("12345", "is empty"),
        ("MKT-AYI", "'-' at position 4"),
        ("MKT*AYI", r"'\*' at position 4"),
        ("MKTJ", "'J' at position 4"),
        ("MKß", "'ß' at position 3"),
        ("A" * (MAX_RESIDUES + 1), "40,001 residues; at most 40,000"),
        (DNA, "looks like DNA or RNA"),
        (DNA.replace("T", "U").lower(), "looks like DNA"),
    ],
)
def test_a_bad_sequence_is_named_in_one_line(text: str, says: str) -> None:
    with pytest.raises(SequenceError, match=says) as caught:
        clean_sequence(text, "my protein")
    assert "'my protein'" in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_rare_residue_codes_are_kept() -> None:
    assert clean_sequence("MUOXBZ") == "MUOXBZ"


def test_short_or_mixed_sequences_are_not_taken_for_dna() -> None:
    assert not looks_like_dna("ACGT" * 7)
    assert looks_like_dna("ACGT" * 8)
    assert not looks_like_dna("ACGTK" * 8)


@given(st.text(alphabet=sorted(RESIDUES), min_size=1, max_size=29), st.integers(0, 40))
def test_any_residues_come_back_whole_however_they_are_wrapped(sequence: str, at: int) -> None:
    assert clean_sequence(f"{sequence[:at]}\r\n {sequence[at:].lower()}*") == sequence


@given(st.text(max_size=60))
def test_any_text_is_residues_or_one_line(text: str) -> None:
    try:
        assert RESIDUES.issuperset(clean_sequence(text))
    except SequenceError as error:
        assert len(str(error).splitlines()) == 1


@given(st.binary(max_size=200))
def test_any_bytes_are_records_or_one_line(data: bytes) -> None:
    try:
        assert parse_fasta(data).records
    except (FileError, SequenceError) as error:
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("data", [b"", b" \n\r\n\t", b"\xef\xbb\xbf\n"])
def test_an_empty_file_is_said_to_be_empty(data: bytes) -> None:
    with pytest.raises(FileError, match="is empty"):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [b"\x00\x01\x02", b"\x89PNG\r\n\x1a\n\x00", gzip.compress(PEPTIDE.encode() * 50), PEPTIDE.encode("utf-16"), bytes(range(1, 256)) * 4],
)
def test_a_binary_file_is_said_to_be_binary(data: bytes) -> None:
    with pytest.raises(FileError, match="is binary"):
        decode(data)


def test_a_byte_order_mark_and_a_foreign_encoding_are_read() -> None:
    assert parse_fasta(b"\xef\xbb\xbf>a\n" + PEPTIDE.encode()).records[0].name == "a"
    assert parse_fasta(">caf\xe9 \x85 enzyme\n".encode("latin-1") + PEPTIDE.encode()).records[0].name == "café enzyme"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_records_lines_and_comments(newline: str) -> None:
    text = newline.join([";comment", ">one  first", "MKTAY", "", "IAKQR*", ">two", "GGGGG"])
    found = parse_fasta(text)
    assert [(r.name, r.sequence) for r in found.records] == [("one first", "MKTAYIAKQR"), ("two", "GGGGG")]
    assert found.n_records == 2 and found.notes == ()


def test_bare_sequence_text_is_one_record() -> None:
    found = parse_fasta(f"{PEPTIDE[:10]}\n{PEPTIDE[10:]}\n")
    assert [(r.name, r.sequence) for r in found.records] == [("pasted sequence", PEPTIDE)]


def test_records_without_a_header_are_numbered() -> None:
    assert [r.name for r in parse_fasta(f">\n{PEPTIDE}\n>\n{PEPTIDE}").records] == ["record 1", "record 2"]


def test_ten_thousand_records_are_counted_and_the_first_twenty_read() -> None:
    data = "".join(f">p{i}\n{PEPTIDE}\n" for i in range(10_000)).encode()
    found = parse_fasta(data)
    assert (len(found.records), found.n_records) == (20, 10_000)
    assert found.notes == ("There are 10,000 records; the first 20 were used.",)
    assert parse_fasta(data, limit=1).notes == ("There are 10,000 records; only the first was used.",)


def test_one_record_of_35_000_residues_is_read_whole() -> None:
    titin = random_protein(35_000)
    assert parse_fasta(f">titin\n{titin}").records[0].sequence == titin


def test_bad_records_are_left_out_by_name_and_counted() -> None:
    bad = "".join(f">bad{i}\nMK-T\n" for i in range(5))
    found = parse_fasta(f">dna\n{DNA}\n{bad}>good\n{PEPTIDE}")
    assert [r.name for r in found.records] == ["good"]
    assert len(found.notes) == 4 and "'dna' looks like DNA" in found.notes[0] and "'bad1'" in found.notes[2]
    assert found.notes[3] == "6 records in all were left out."


def test_where_no_record_can_be_used_the_first_fault_is_raised() -> None:
    with pytest.raises(SequenceError, match="'dna' looks like DNA"):
        parse_fasta(f">dna\n{DNA}\n>gap\nMK-T")
    with pytest.raises(SequenceError, match="holds no FASTA record"):
        parse_fasta(";only a comment")
    with pytest.raises(SequenceError, match="'empty' is empty"):
        parse_fasta(">empty\n")


def test_a_header_is_one_short_line_without_control_characters() -> None:
    found = parse_fasta(f">\x1b[31mred\x07\t<script>alert(1)</script> {'x' * 200}\n{PEPTIDE}").records[0]
    assert found.name.startswith("[31mred <script>alert(1)</script> xxx") and len(found.name) == 80 and found.name.isprintable()
