"""Structures from a replayed PubChem: old and new property names, several compounds, none, throttling, and busy servers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from biobridge_rag.errors import FetchError
from biobridge_rag.fetching import Outcome, fetch_structures
from biobridge_rag.fetching.http import AnswerError, Http
from biobridge_rag.fetching.pubchem import choose, client, rest
from tests.fetching.conftest import Reply, Server

NOT_FOUND = Reply(b'{"Fault": {"Code": "PUGREST.NotFound", "Message": "No CID found", "Details": ["No CID found for this id"]}}', 404)
BUSY = Reply(b'{"Fault": {"Code": "PUGREST.ServerBusy", "Message": "Too many requests or server too busy"}}', 503)
ASPIRIN = "CC(=O)OC1=CC=CC=C1C(=O)O"
CALM = "Request Count status: Green (0%), Request Time status: Green (0%), Service status: Green (20%)"


def found(*compounds: dict[str, Any], headers: dict[str, str] | None = None) -> Reply:
    body = json.dumps({"PropertyTable": {"Properties": list(compounds)}}).encode()
    return Reply(body, headers=headers or {"X-Throttling-Control": CALM})


def path(drug: str) -> str:
    return f"/rest/pug/compound/xref/RegistryID/{drug}/property/SMILES,ConnectivitySMILES,Title/JSON"


DRUGS = {
    "DB00945": "Acetylsalicylic acid",
    "DB00001": "Lepirudin",
    "DB00316": "Acetaminophen",
    "DB00091": "Odd",
    "BE1": "x",
    "DB09130": "Copper",
}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    rows = [f"{i},{id},drug,{name},DrugBank" for i, (id, name) in enumerate(DRUGS.items())]
    (tmp_path / "nodes.csv").write_text("\n".join(["node_index,node_id,node_type,node_name,node_source", *rows]) + "\n")
    return tmp_path


@pytest.fixture
def pubchem(server: Server) -> Server:
    server.on(path("DB00945"), found({"CID": 2244, "SMILES": ASPIRIN, "ConnectivitySMILES": ASPIRIN, "Title": "Aspirin"}))
    server.on(path("DB00001"), NOT_FOUND)
    server.on(path("DB00316"), found({"CID": 1983, "CanonicalSMILES": "CC(=O)NC1=CC=C(C=C1)O", "Title": "Acetaminophen"}))
    server.on(path("DB00091"), found({"CID": 1, "SMILES": "C1CC(", "Title": "Odd"}))
    server.on(path("DB09130"), found({"CID": 23978, "Title": "Copper"}))
    return server


def run(server: Server, graph: Path, **given: Any) -> Outcome:
    return fetch_structures(graph, base=server.url, http=client(sleep=lambda _: None), **given)


def table(graph: Path) -> dict[str, dict[str, str]]:
    with (graph / "drug.csv").open(newline="") as file:
        return {row["drugbank_id"]: row for row in csv.DictReader(file)}


def test_structures_are_written_and_what_has_none_is_counted(pubchem: Server, graph: Path) -> None:
    (graph / "drug_features.csv").write_text('node_index,description,state\n0,"A pain killer, and more.",solid\n')
    outcome = run(pubchem, graph)
    rows = table(graph)
    assert list(rows["DB00945"].values()) == ["0", "DB00945", "Acetylsalicylic acid", ASPIRIN, "A pain killer, and more."]
    assert set(rows) == {"DB00945", "DB00316"} and rows["DB00316"]["smiles"] == "CC(=O)NC1=CC=C(C=C1)O"
    assert outcome.fetched["drug.csv"].left_out == {
        "drug without a structure in PubChem": ["DB00001", "DB09130"],
        "structure that RDKit cannot read": ["DB00091"],
        "id that is no DrugBank id": ["BE1"],
    }
    pubchem.asked.clear()
    assert run(pubchem, graph).fetched == {} and pubchem.asked == []


def test_a_busy_server_is_asked_again_and_a_broken_run_goes_on(pubchem: Server, graph: Path) -> None:
    pubchem.on(path("DB00316"), BUSY, BUSY, found({"CID": 1, "IsomericSMILES": "CCO", "CanonicalSMILES": "CC", "Title": ""}))
    pubchem.on(path("DB00091"), Reply(b"<html>gone</html>", 404))
    with pytest.raises(AnswerError, match="has gone"):
        run(pubchem, graph, batch=1)
    pubchem.on(path("DB00091"), NOT_FOUND)
    pubchem.asked.clear()
    run(pubchem, graph, batch=1)
    assert pubchem.paths() == [path("DB00091"), path("DB09130")] and table(graph)["DB00316"]["smiles"] == "CCO"


def test_an_answer_of_another_form_is_told(pubchem: Server, graph: Path) -> None:
    pubchem.on(path("DB00945"), Reply(b'{"IdentifierList": {"CID": [2244]}}'))
    with pytest.raises(FetchError, match="DB00945 has another form"):
        run(pubchem, graph)


def test_the_choice_among_compounds_does_not_hang_on_their_order() -> None:
    salt, drug, other, bad = (5, "CCO.Cl", "Ethanol"), (9, "CCO", "ethanol"), (1, "CCC", "Propane"), (0, "C(", "Ethanol")
    for compounds in ([salt, drug, other, bad], [bad, other, drug, salt]):
        assert choose(compounds, "Ethanol") == "CCO"
        assert choose(compounds, "Unheard of") == "CCC"
    assert choose([salt, other], "ethanol") == "CCO.Cl" and choose([bad], "Ethanol") is None and choose([], "x") is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (CALM, 0),
        ("Request Count status: Yellow (60%), Request Time status: Green (0%), Service status: Green (20%)", 1),
        ("Request Count status: Green (0%), Request Time status: Red (80%), Service status: Yellow (20%)", 10),
        ("Request Count status: Black (101%), Request Time status: Red (80%), Service status: Yellow (20%), too many requests", 60),
        ("", 0),
        ("Service status: Mauve", 0),
    ],
)
def test_the_throttling_header_is_understood(header: str, seconds: float) -> None:
    assert rest({"x-throttling-control": header}) == seconds


def test_a_loaded_service_gets_rest_after_a_refusal_too(pubchem: Server, graph: Path) -> None:
    waits: list[float] = []
    pubchem.on(path("DB00001"), Reply(NOT_FOUND.body, 404, {"X-Throttling-Control": "Service status: Red (80%)"}))
    fetch_structures(graph, base=pubchem.url, http=client(sleep=waits.append, clock=lambda: 0.0))
    assert max(waits) == 10 and min(waits) == pytest.approx(0.25)
    assert isinstance(client(), Http)
