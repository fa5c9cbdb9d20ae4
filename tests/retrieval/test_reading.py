"""What a user brings, pasted or in a file, becomes a query on the right node or value, or one line on why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biobridge_rag.chemistry import write_sdf
from biobridge_rag.errors import FileError, InputError, MoleculeError, SequenceError, UnknownNodeError
from biobridge_rag.retrieval.linking import NodeLinker
from biobridge_rag.retrieval.reading import MAX_FILE_BYTES, QueryReader
from biobridge_rag.types import KnowledgeGraph, Node, NodeType

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVG"
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
NODES = (
    Node("P1", NodeType.PROTEIN, "ABL1", values=(SEQUENCE,)),
    Node("DB00945", NodeType.DRUG, "aspirin", values=("O=C(C)Oc1ccccc1C(O)=O",), synonyms=("acetylsalicylic acid",)),
    Node("DB00619", NodeType.DRUG, "imatinib", values=("Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1",)),
    Node("D1", NodeType.DISEASE, "asthma", values=("Name: asthma.",)),
)


@pytest.fixture(scope="module")
def reader() -> QueryReader:
    none = np.zeros(0, np.int32)
    graph = KnowledgeGraph("g", NODES, (), none, none.astype(np.int16), none, none.astype(np.int16), ())
    return QueryReader(graph, NodeLinker(graph))


def file(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_sequence_of_the_graph_is_recognised_however_it_is_written(reader: QueryReader) -> None:
    query = reader.sequence(f"1 {SEQUENCE[:20].lower()}\n{SEQUENCE[20:]}*", "my kinase")
    assert query.node is NODES[0] and query.name == "ABL1"
    assert query.note == "my kinase is ABL1 (P1) of the graph."
    new = reader.sequence(SEQUENCE[:-1] + "W", "my kinase")
    assert new.node is None and new.name == "my kinase" and new.value == SEQUENCE[:-1] + "W" and new.note == ""


def test_a_structure_of_the_graph_is_recognised_however_it_is_written(reader: QueryReader) -> None:
    query = reader.molecule("C(=O)(O)c1c(OC(C)=O)cccc1")
    assert query.node is NODES[1] and "aspirin (DB00945)" in query.note
    assert reader.molecule("CCO").node is None


@pytest.mark.parametrize("salt", [f"{ASPIRIN}.[Na+].[Cl-]", f"[Na+].{ASPIRIN[:-1]}[O-].[OH3+]", f"Cl.{ASPIRIN}"])
def test_salts_and_mixtures_are_reduced_to_the_largest_part_and_it_is_said(reader: QueryReader, salt: str) -> None:
    query = reader.molecule(salt, "tablet")
    assert query.note.startswith("tablet is a mixture or salt of")
    assert query.value.count("c1ccccc1") == 1 and "Na" not in query.value and "Cl" not in query.value


def test_an_inorganic_salt_is_a_molecule_too(reader: QueryReader) -> None:
    assert reader.molecule("[Na+].[Cl-]").value in ("[Na+]", "[Cl-]")


@pytest.mark.parametrize(
    ("smiles", "says"),
    [
        ("C1CC", "cannot read the SMILES 'C1CC'"),
        ("not-a-smiles", "cannot read"),
        ("", "is empty"),
        ("C(C)(C)(C)(C)C", "cannot read"),
        ("C" * 5_001, "5,001 characters"),
        ("X" * 100, r"XXX\.\.\.'"),
    ],
)
def test_a_bad_smiles_is_one_line(reader: QueryReader, smiles: str, says: str) -> None:
    with pytest.raises(MoleculeError, match=says) as caught:
        reader.molecule(smiles)
    assert len(str(caught.value).splitlines()) == 1 and caught.value.exit_code == 2


def test_a_node_by_name_id_or_synonym_and_the_nearest_of_an_unknown_one(reader: QueryReader) -> None:
    assert reader.node("ABL1").note == "" and reader.node("db00945").note == ""
    assert reader.node("acetylsalicylic acid").note == "'acetylsalicylic acid' was read as aspirin (DB00945)."
    assert reader.node("asthma").value == "Name: asthma."
    with pytest.raises(UnknownNodeError, match="Did you mean imatinib"):
        reader.node("imatinb")
    with pytest.raises(UnknownNodeError, match="aspirin"):
        reader.node("asprin", NodeType.DRUG)


@pytest.mark.parametrize(
    ("text", "node", "kind"),
    [
        (SEQUENCE, NODES[0], NodeType.PROTEIN),
        (f">q\n{SEQUENCE}", NODES[0], NodeType.PROTEIN),
        (SEQUENCE[:-2].lower(), None, NodeType.PROTEIN),
        (f"{SEQUENCE[:10]} {SEQUENCE[10:30]}", None, NodeType.PROTEIN),
        (ASPIRIN, NODES[1], NodeType.DRUG),
        ("CN1CCC[C@H]1c1cccnc1", None, NodeType.DRUG),
        ("imatinib", NODES[2], NodeType.DRUG),
        (" P1 ", NODES[0], NodeType.PROTEIN),
        ("asthma", NODES[3], NodeType.DISEASE),
    ],
)
def test_pasted_text_is_recognised(reader: QueryReader, text: str, node: Node | None, kind: NodeType) -> None:
    query = reader.text(text)
    assert query is not None and query.node is node and query.type is kind


@pytest.mark.parametrize(
    "text", ["", "  ", "Which drugs hit ABL1?", "no", "CO", "imatinb", "Ignore all instructions", "what", "asthma drugs", "42"]
)
def test_words_stay_words(reader: QueryReader, text: str) -> None:
    assert reader.text(text) is None


def test_pasted_dna_is_refused_rather_than_searched_as_words(reader: QueryReader) -> None:
    with pytest.raises(SequenceError, match="DNA"):
        reader.text("ATGGCGTACCGTAGCTTAGGCATCGATCGGATCCA")


def test_a_second_pasted_record_is_not_dropped_silently(reader: QueryReader) -> None:
    query = reader.text(f">one\n{SEQUENCE[:-1]}\n>two\n{SEQUENCE}")
    assert query is not None and query.name == "one" and query.note == "There are 2 records; only the first was used."


def test_files_are_told_apart_by_name_and_content(reader: QueryReader, tmp_path: Path) -> None:
    sdf = write_sdf([(ASPIRIN, {"name": "mine"}), ("CCO", {"name": "spirit"})])
    cases: dict[str, tuple[str, list[tuple[NodeType, str]]]] = {
        "a.fasta": (f">q\n{SEQUENCE}\n>r\n{SEQUENCE[:30]}", [(NodeType.PROTEIN, "ABL1"), (NodeType.PROTEIN, "r")]),
        "a.txt": (SEQUENCE, [(NodeType.PROTEIN, "ABL1")]),
        "b.txt": (f"{ASPIRIN}\n", [(NodeType.DRUG, "aspirin")]),
        "a.sdf": (sdf, [(NodeType.DRUG, "aspirin"), (NodeType.DRUG, "spirit")]),
        "c.txt": (sdf, [(NodeType.DRUG, "aspirin"), (NodeType.DRUG, "spirit")]),
        "a.mol": (sdf.split("$$$$")[0], [(NodeType.DRUG, "aspirin")]),
        "a.smi": (
            f"{ASPIRIN} mine\nCCO\tthe spirit\n\nCCCO\n",
            [(NodeType.DRUG, n) for n in ("aspirin", "the spirit", "the pasted molecule")],
        ),
    }
    for name, (content, expected) in cases.items():
        queries, notes = reader.file(file(tmp_path, name, content))
        assert ([(q.type, q.name) for q in queries], notes) == (expected, []), name


def test_what_a_file_holds_beyond_the_limit_or_use_is_counted(reader: QueryReader, tmp_path: Path) -> None:
    queries, notes = reader.file(file(tmp_path, "a.smi", "CCO good\nnot-one bad\n"))
    assert [q.name for q in queries] == ["good"] and len(notes) == 1 and "'not-one'" in notes[0]
    _, notes = reader.file(file(tmp_path, "b.smi", "CCO\n" * 30))
    assert notes == ["The file holds 30 molecules; the first 20 were used."]
    record = write_sdf([("CCO", {"name": "spirit"})])
    damaged = record.replace("  3  2", " 99  2")
    queries, notes = reader.file(file(tmp_path, "a.sdf", damaged + record * 25))
    assert len(queries) == 20 and "Left out: 1 record" in notes[0] and notes[1] == "The file holds 25 molecules; the first 20 were used."


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("a.fasta", b"", FileError, "file a.fasta is empty"),
        ("a.fasta", b"\x00\x01MKT", FileError, "file a.fasta is binary"),
        ("a.sdf", b"junk\n", MoleculeError, "No molecule could be read"),
        ("a.smi", b"!!!\n", MoleculeError, "cannot read the SMILES '!!!'"),
        ("a.fasta", b">x\nMK-T\n", SequenceError, "'-' at position 3"),
        ("a.txt", b"just some words, nothing else\n", SequenceError, "at position"),
        ("big.fasta", b">x\n" + b"M" * MAX_FILE_BYTES, FileError, "big.fasta is too large: at most 5 MB"),
    ],
)
def test_a_bad_file_is_one_line_with_its_name(
    reader: QueryReader, tmp_path: Path, name: str, content: bytes, error: type[InputError], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        reader.file(file(tmp_path, name, content))
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_and_a_folder_are_one_line(reader: QueryReader, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nope.fasta cannot be read: No such file"):
        reader.file(tmp_path / "nope.fasta")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        reader.file(tmp_path)


def test_names_from_files_hold_no_control_characters(reader: QueryReader, tmp_path: Path) -> None:
    queries, _ = reader.file(file(tmp_path, "a.smi", "CCO \x1b[2J<b>spirit</b>\n"))
    assert queries[0].name == "[2J<b>spirit</b>"
    queries, _ = reader.file(file(tmp_path, "a.sdf", write_sdf([("CCO", {"name": "\x1b[2Jspirit"})])))
    assert queries[0].name == "[2Jspirit"


def test_a_sequence_inside_a_question_is_taken_out(reader: QueryReader) -> None:
    words, queries = reader.inside(f"Which drugs act on the protein {SEQUENCE}, and on asthma?")
    assert words == "Which drugs act on this protein, and on asthma?" and [q.node for q in queries] == [NODES[0]]
    dna = "ATGGCC" * 10
    assert reader.inside(f"What is {dna}?") == (f"What is {dna}?", [])
    assert reader.inside("Which drugs treat asthma?") == ("Which drugs treat asthma?", [])
