"""Sequences from a replayed UniProt: jobs, pages, the choice among entries, entries that have gone, and runs that were broken off."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from biobridge_rag.errors import FetchError, GraphFormatError, InputError
from biobridge_rag.fetching import Outcome, fetch_accessions, fetch_sequences, uniprot
from biobridge_rag.fetching.http import Http
from biobridge_rag.fetching.records import read_record
from tests.fetching.conftest import Asked, Reply, Server

SEQUENCE = "MKVLAAGIVGLLLAQWERTY"


def entry(accession: str, symbol: str = "", reviewed: bool = True, sequence: str = SEQUENCE, taxon: int = 9606) -> dict[str, Any]:
    """An entry as the service gives it with the fields that are asked for."""
    named = {"fullName": {"value": f"Protein {accession}"}}
    return {
        "entryType": "UniProtKB reviewed (Swiss-Prot)" if reviewed else "UniProtKB unreviewed (TrEMBL)",
        "primaryAccession": accession,
        "organism": {"taxonId": taxon},
        "proteinDescription": {"recommendedName": named} if reviewed else {"submissionNames": [named]},
        "genes": [{"geneName": {"value": symbol}}] if symbol else [],
        "sequence": {"value": sequence, "length": len(sequence), "molWeight": 1, "crc64": "0", "md5": "0"},
    }


def inactive(accession: str, kind: str, *to: str) -> dict[str, Any]:
    reason = {"inactiveReasonType": kind} | ({"mergeDemergeTo": list(to)} if to else {"deletedReason": "Proteome removed"})
    return {"entryType": "Inactive", "primaryAccession": accession, "uniProtkbId": f"{accession}_HUMAN", "inactiveReason": reason}


class UniProt:
    """Jobs over `known`: id -> entries. Two results a page, and one look at a job before it is finished."""

    def __init__(self, server: Server, known: dict[str, list[dict[str, Any]]]) -> None:
        self.server, self.known = server, known
        self.jobs: list[list[str]] = []
        server.on("/idmapping/run", self.run)

    def run(self, asked: Asked) -> Reply:
        assert asked.method == "POST" and asked.form["to"] == "UniProtKB" and asked.form["from"] in ("GeneID", "UniProtKB_AC-ID")
        ids = asked.form["ids"].split(",")
        self.jobs.append(ids)
        job = f"job{len(self.jobs)}"
        results = [{"from": id, "to": e} for id in ids for e in self.known.get(id, [])]
        failed = [id for id in ids if id not in self.known]
        done = Reply(json.dumps({"results": results[:1], "failedIds": failed}).encode())
        self.server.on(f"/idmapping/status/{job}", Reply(b'{"jobStatus":"RUNNING"}'), done)

        def page(asked: Asked) -> Reply:
            assert asked.query["format"] == "json" and "sequence" in asked.query["fields"]
            start = int(asked.query.get("cursor", 0))
            path = f"{self.server.url}/idmapping/uniprotkb/results/{job}?format=json&fields=sequence&size=500"
            more = {"Link": f'<{path}&cursor={start + 2}>; rel="next"'} if start + 2 < len(results) else {}
            return Reply(json.dumps({"results": results[start : start + 2], "failedIds": failed}).encode(), headers=more)

        self.server.on(f"/idmapping/uniprotkb/results/{job}", page)
        return Reply(json.dumps({"jobId": job}).encode())


GENES = {
    "1": [entry("P00001", "A1BG")],
    "2": [entry("A0A000AAA1", "A2M", reviewed=False, sequence=SEQUENCE * 3), entry("P00002", "A2M"), entry("O00009", "A2M", taxon=10090)],
    "3": [entry("P00003", "OTHER", sequence=SEQUENCE * 2), entry("P00004", "CDKN2A")],
    "4": [entry("Q00002", "NAT", False), entry("Q00001", "NAT", False), entry("Q00003", "NAT", False, SEQUENCE + "A")],
    "5": [entry("P00005", "BAD", sequence="MK-V")],
    "6": [inactive("P00006", "DELETED")],
    "7": [inactive("P00007", "DEMERGED", "P00008", "P00010")],
}
NAMES = {"1": "A1BG", "2": "A2M", "3": "CDKN2A", "4": "NAT", "5": "BAD", "6": "GONE", "7": "SPLIT", "8": "RNA", "LOC9": "LOC"}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    rows = [f"{i},{id},gene/protein,{name},NCBI" for i, (id, name) in enumerate(NAMES.items())]
    lines = ["node_index,node_id,node_type,node_name,node_source", *rows, "99,DB00001,drug,Lepirudin,DrugBank"]
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "nodes.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "g"


def run(server: Server, graph: Path, **given: Any) -> Outcome:
    return fetch_sequences(graph, base=server.url, http=Http(sleep=lambda _: None), **given)


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "protein.csv").open(newline="") as file:
        return {row["node_id"]: row for row in csv.DictReader(file)}


LEFT_OUT = {
    "entry was deleted": ["6"],
    "entry was split into several": ["7"],
    "gene without a protein in UniProt": ["8"],
    "id that is no NCBI gene id": ["LOC9"],
    "sequence that cannot be read": ["5"],
}


def test_the_best_entry_of_each_gene_is_taken(server: Server, graph: Path) -> None:
    service, told = UniProt(server, GENES), list[tuple[str, int, int]]()
    outcome = run(server, graph, progress=lambda *what: told.append(what))
    rows = table(graph)
    assert {id: row["uniprot_id"] for id, row in rows.items()} == {"1": "P00001", "2": "P00002", "3": "P00004", "4": "Q00003"}
    assert list(rows["1"].values()) == ["1", "0", "A1BG", "gene/protein", "NCBI", SEQUENCE, "P00001", "Protein P00001"]
    assert list(rows["1"]) == ["node_id", "node_index", "node_name", "node_type", "node_source", "sequence", "uniprot_id", "full_name"]
    assert outcome.fetched["protein.csv"].left_out == LEFT_OUT and outcome.fetched["protein.csv"].licence.name == "CC BY 4.0"
    assert outcome.fetched["protein.csv"].skipped == {reason: 1 for reason in LEFT_OUT}
    assert service.jobs == [["1", "2", "3", "4", "5", "6", "7", "8"]] and told == [("fetching protein.csv", 9, 9)]
    assert sum(path.startswith("/idmapping/uniprotkb/results") for path in server.paths()) == 6, "every page was read"
    assert sorted(p.name for p in graph.iterdir()) == [".fetching.lock", "fetched.json", "nodes.csv", "protein.csv"]


def test_fetching_again_asks_only_for_what_lacks(server: Server, graph: Path) -> None:
    service = UniProt(server, GENES)
    run(server, graph)
    server.asked.clear()
    outcome = run(server, graph)
    assert outcome.fetched == {} and outcome.kept == read_record(graph) and server.asked == []
    with (graph / "nodes.csv").open("a") as file:
        file.write("100,11,gene/protein,NEW,NCBI\n")
    GENES_NOW = GENES | {"11": [entry("P00011")], "8": [entry("P00088")]}
    service.known = GENES_NOW
    assert run(server, graph).fetched["protein.csv"].skipped == {reason: 1 for reason in LEFT_OUT} and service.jobs[1:] == [["11"]]
    assert table(graph)["11"]["uniprot_id"] == "P00011" and len(table(graph)) == 5
    outcome = run(server, graph, retry=True)
    assert service.jobs[2:] == [["5", "6", "7", "8"]] and table(graph)["8"]["uniprot_id"] == "P00088"
    assert "gene without a protein in UniProt" not in outcome.fetched["protein.csv"].left_out


def test_a_run_that_was_broken_off_goes_on(server: Server, graph: Path) -> None:
    service = UniProt(server, GENES)
    run_job = service.run

    def break_off(asked: Asked) -> Reply:
        return Reply(status=400) if len(service.jobs) == 2 else run_job(asked)

    server.on("/idmapping/run", break_off)
    with pytest.raises(FetchError, match="refuses"):
        run(server, graph, batch=3)
    assert not (graph / "protein.csv").exists() and service.jobs == [["1", "2", "3"], ["4", "5", "6"]]
    with (graph / "protein.csv.journal").open("a") as file:
        file.write('{"node_id": "7", "row": {"seq')
    server.on("/idmapping/run", run_job)
    run(server, graph, batch=3)
    assert service.jobs[2:] == [["7", "8"]] and set(table(graph)) == {"1", "2", "3", "4"}
    assert read_record(graph)["protein.csv"].left_out == LEFT_OUT and not (graph / "protein.csv.journal").exists()


def test_rows_that_are_there_stay_as_they_are(server: Server, graph: Path) -> None:
    service = UniProt(server, GENES)
    (graph / "protein.csv").write_text("node_id,sequence,mine\n1,MMM,a\n77,MKV,b\n2,,c\n")
    run(server, graph)
    rows = table(graph)
    assert (rows["1"]["sequence"], rows["1"]["mine"], rows["77"]["mine"]) == ("MMM", "a", "b") and rows["2"]["sequence"] == SEQUENCE
    assert service.jobs == [["2", "3", "4", "5", "6", "7", "8"]]


def test_accessions_are_followed_where_they_were_merged(server: Server, tmp_path: Path) -> None:
    known = {
        "P00533": [entry("P00533", "EGFR")],
        "P00006": [inactive("P00006", "MERGED", "P00001")],
        "P00001": [entry("P00001", "A1BG")],
        "P00007": [inactive("P00007", "DEMERGED", "P00008", "P00010")],
        "P00012": [inactive("P00012", "DELETED")],
        "P00013": [inactive("P00013", "MERGED", "P00014")],
    }
    service = UniProt(server, known)
    asked = ["P00533", "p00006", "P00007", "P00012", "P00013", "P99999"]
    outcome = fetch_accessions(asked, tmp_path, base=server.url, http=Http(sleep=lambda _: None))
    rows = table(tmp_path)
    assert {id: (row["uniprot_id"], row["node_name"]) for id, row in rows.items()} == {
        "P00533": ("P00533", "EGFR"),
        "P00006": ("P00001", "A1BG"),
    }
    assert outcome.fetched["protein.csv"].left_out == {
        "entry was split into several": ["P00007"], "entry was deleted": ["P00012"], "entry was merged into another": ["P00013"],
        "accession that UniProt does not know": ["P99999"],
    }  # fmt: skip
    assert service.jobs[1:] == [["P00001", "P00014"]]
    with pytest.raises(InputError, match="'EGFR' is no UniProt accession"):
        fetch_accessions(["EGFR"], tmp_path)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/idmapping/run", {"messages": ["bad"]}, "did not accept"),
        ("/idmapping/run", {"jobId": "../../x"}, "did not accept"),
        ("/idmapping/status/job1", {"jobStatus": "ERROR", "errors": [{"code": 50, "message": "no"}]}, "mapping job failed"),
        ("/idmapping/status/job1", {"jobStatus": "RUNNING"}, "longer than 1 minute"),
    ],
)
def test_jobs_that_fail_are_told(
    server: Server, graph: Path, path: str, body: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uniprot, "POLLS", 20)
    service = UniProt(server, GENES)
    script = Reply(json.dumps(body).encode())
    if path.endswith("run"):
        server.on(path, script)
    else:
        accept = service.run

        def start(asked: Asked) -> Reply:
            reply = accept(asked)
            server.on(path, script)
            return reply

        server.on("/idmapping/run", start)
    with pytest.raises(FetchError, match=words):
        run(server, graph)


def test_a_next_page_elsewhere_is_not_read(server: Server, graph: Path) -> None:
    UniProt(server, GENES)
    accept = server.scripts["/idmapping/run"][0]

    def start(asked: Asked) -> Reply:
        assert callable(accept)
        reply = accept(asked)
        server.on("/idmapping/uniprotkb/results/job1", Reply(b'{"results": []}', headers={"Link": '<http://example.org/x>; rel="next"'}))
        return reply

    server.on("/idmapping/run", start)
    with pytest.raises(FetchError, match="lies elsewhere"):
        run(server, graph)


def test_a_directory_without_a_graph_is_told(tmp_path: Path) -> None:
    with pytest.raises(GraphFormatError, match=r"nodes\.csv"):
        fetch_sequences(tmp_path)
