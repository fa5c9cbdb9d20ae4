"""Files of a user's nodes and edges: what each line becomes, and that every row that cannot be used is counted with its reason."""

from __future__ import annotations

import pytest

from biobridge_rag.chemistry import canonical_smiles, write_sdf
from biobridge_rag.encoders.sequences import clean_sequence, split_fasta
from biobridge_rag.errors import FileError, MoleculeError
from biobridge_rag.graph.additions import Entry, Statement, Tally, csv_entries, fasta_entries, sdf_entries, smiles_entries, statements
from biobridge_rag.types import NodeType

PROTEIN, DRUG, DISEASE = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"


def fasta(text: str) -> tuple[list[Entry], Tally]:
    tally = Tally()
    return list(fasta_entries(split_fasta(text), clean_sequence, "p.fasta", tally)), tally


def smiles(text: str) -> tuple[list[Entry], Tally]:
    tally = Tally()
    return list(smiles_entries(text, "m.smi", tally)), tally


def table(text: str) -> tuple[list[Entry], Tally]:
    tally = Tally()
    return list(csv_entries(text, clean_sequence, "n.csv", tally)), tally


def edges(text: str) -> tuple[list[Statement], Tally]:
    tally = Tally()
    return list(statements(text, "t.csv", tally)), tally


def test_a_uniprot_header_gives_the_accession_the_symbol_and_the_name() -> None:
    other = ">tr|A0A024|A0A024_HUMAN Uncharacterized protein"
    header = "sp|P00519|ABL1_HUMAN Tyrosine-protein kinase ABL1 OS=Homo sapiens OX=9606 GN=ABL1 PE=1 SV=4"
    found, tally = fasta(f">{header}\n{SEQUENCE[:10]}\n{SEQUENCE[10:].lower()}*\n{other}\n{SEQUENCE}A")
    assert found[0] == Entry(
        "P00519", PROTEIN, "ABL1", SEQUENCE, (SEQUENCE,), "Tyrosine-protein kinase ABL1", ("ABL1_HUMAN", "Tyrosine-protein kinase ABL1"),
        "p.fasta",
    )  # fmt: skip
    assert (found[1].id, found[1].name, found[1].synonyms) == ("A0A024", "A0A024_HUMAN", ("Uncharacterized protein",))
    assert not tally.counts


def test_any_other_header_gives_its_first_word() -> None:
    found, _ = fasta(f">kin-7 my mutant  kinase\n{SEQUENCE}\n>alone\n{SEQUENCE}")
    assert [(e.id, e.name, e.synonyms) for e in found] == [("kin-7", "kin-7", ("my mutant kinase",)), ("alone", "alone", ())]


def test_records_that_are_no_protein_are_counted_and_named() -> None:
    found, tally = fasta(f">dna\n{'ACGT' * 20}\n>empty\n>gap\nMK-T\n>{'x' * 101}\n{SEQUENCE}\n>\n{SEQUENCE}\n>good\n{SEQUENCE}")
    assert [e.id for e in found] == ["good"]
    assert tally.counts == {"protein sequence that cannot be used": 3, "id of more than 100 characters": 1, "row without an id": 1}
    assert any("'dna' looks like DNA or RNA" in line and "position 3" in line for line in tally.lines())
    assert tally.first is not None and "DNA" in tally.first.message


def test_only_the_first_few_of_a_reason_are_named() -> None:
    _, tally = fasta("".join(f">p{i}\nM-\n" for i in range(9)))
    (line,) = tally.lines()
    assert line.startswith("left out: 9 x protein") and "'p2'" in line and "'p3'" not in line and line.endswith("; ...")


def test_lines_of_smiles() -> None:
    found, tally = smiles("smiles name\nOCC ethanol\n\nCC(=O)O\tacid-1\tacetic acid\nCCN.Cl ethyl amine salt\nCCC\nC1CC bad ring\n")
    assert [(e.id, e.name, e.value) for e in found] == [
        ("ethanol", "ethanol", "CCO"),
        ("acid-1", "acetic acid", "CC(=O)O"),
        ("ethyl_amine_salt", "ethyl amine salt", "CCN"),
    ]
    assert found[2].keys == (canonical_smiles("CCN.Cl"), "CCN"), "known as the salt and as the part that is used"
    assert tally.counts == {"row without an id": 1, "molecule that RDKit cannot read": 1}


def test_molecules_of_an_sdf_go_by_their_title() -> None:
    data = write_sdf([("CCO", {"name": "my ethanol"}), ("CCN", {})]).encode()
    tally = Tally()
    found = list(sdf_entries(data + b"broken\n\n\n  1  9\nM  END\n$$$$\n", "m.sdf", tally))
    assert [(e.id, e.name, e.value) for e in found] == [("my_ethanol", "my ethanol", "CCO")]
    assert tally.counts == {"molecule that RDKit cannot read": 1, "row without an id": 1}
    with pytest.raises(MoleculeError):
        list(sdf_entries(b"nothing", "m.sdf", Tally()))


def test_a_table_holds_nodes_of_any_type() -> None:
    found, tally = table(
        "id,type,name,sequence,smiles,description,synonyms\n"
        f"P1,protein,KIN1,{SEQUENCE},,a kinase,alpha; beta;;alpha\n"
        "D1,drug,ethanol,,OCC,,\n"
        'X:1,disease,big fever,,,"Too hot,\nall day.",fever\n'
        "X:2,disease,small fever,,,,\n"
        "GO:1,biological_process,growth,,,,\n"
    )
    assert not tally.counts
    assert [(e.type, e.value) for e in found] == [
        (PROTEIN, SEQUENCE),
        (DRUG, "CCO"),
        (DISEASE, "Name: big fever. Definition: Too hot, all day."),
        (DISEASE, "Name: small fever."),
        (NodeType.BIOLOGICAL_PROCESS, "Name: growth."),
    ]
    assert found[0].synonyms == ("alpha", "beta") and found[0].description == "a kinase" and found[2].description == "Too hot, all day."


def test_one_column_value_serves_all_types() -> None:
    found, _ = table(f"ID,Type,Name,Value\nP1,gene/protein,KIN1,{SEQUENCE}\nD1,drug,e,OCC\nX:1,disease,fever,Hot.\n")
    assert [e.value for e in found] == [SEQUENCE, "CCO", "Name: fever. Definition: Hot."]


def test_rows_of_a_table_that_cannot_be_used() -> None:
    _, tally = table(
        "id,type,name,value\n,drug,a,CC\na b,drug,a,CC\na\u200bb,drug,a,CC\n\x1b[1m,drug,a,CC\nQ,planet,a,CC\n"
        f"R,drug,a\nS,drug,a,\nT,protein,a,{'ACGT' * 9}\n"
    )
    assert tally.counts == {
        "row without an id": 1,
        "id with white space or control characters": 3,
        "node of no known type": 1,
        "row with another number of columns than the header": 1,
        "molecule that RDKit cannot read": 1,
        "protein sequence that cannot be used": 1,
    }
    assert all(line.isprintable() for line in tally.lines())


def test_names_lose_control_characters() -> None:
    (entry,), _ = table("id,type,name,value,synonyms\nX:1,disease,\x1b[31mfe\tver,Hot.,\x07ding\n")
    assert (entry.name, entry.synonyms) == ("[31mfe ver", ("ding",))


@pytest.mark.parametrize("separator", [",", "\t"])
def test_edges_by_commas_or_tabs(separator: str) -> None:
    rows = [
        "head,relation,tail,head_type,tail_type,source",
        "D1,target,P1,drug,protein,my  assay",
        "D1,target,P2,,,",
        "D1,,P2,,,",
        "D1,target,P2,moon,,",
    ]
    found, tally = edges("\n".join(rows).replace(",", separator))
    assert found == [
        Statement("D1", "target", "P1", DRUG, PROTEIN, "my assay"),
        Statement("D1", "target", "P2", None, None, "added: t.csv"),
    ]
    assert tally.counts == {"edge without a head, a relation or a tail": 1, "edge to a node of no known type": 1}


@pytest.mark.parametrize(("read", "text", "word"), [
    (table, "id,name\nX,a\n", "n.csv has no column type. It has: id, name"),
    (edges, "D1,target,P1\n", "t.csv has no column head. It has: d1, target, p1"),
    (edges, 'head,relation,tail\n"D1,target,P1\n', "t.csv cannot be read as CSV: .*line 2"),
])  # fmt: skip
def test_a_file_without_its_columns_is_one_line(read, text: str, word: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FileError, match=word):
        read(text)
