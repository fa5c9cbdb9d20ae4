"""PrimeKG from a replayed Dataverse record: which files, how they are checked, what is filtered, what a second run does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from biobridge_rag.errors import FetchError, GraphFormatError, HomeLockedError, InputError
from biobridge_rag.fetching import Outcome, fetch_primekg
from biobridge_rag.fetching.http import Http
from biobridge_rag.fetching.licences import RELATIONS, SOURCES
from biobridge_rag.fetching.records import fetching_into, read_record
from tests.fetching.conftest import Asked, Reply, Server, ranged

KG = b"""relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source
protein_protein,ppi,0,9796,gene/protein,PHYHIP,NCBI,1,56992,gene/protein,KIF15,NCBI
drug_protein,carrier,2,DB09130,drug,Copper,DrugBank,3,2157,gene/protein,F8,NCBI
indication,indication,2,DB09130,drug,Copper,DrugBank,4,13924_12592,disease,"osteogenesis, imperfecta",MONDO_grouped
disease_protein,associated with,3,2157,gene/protein,F8,NCBI,4,13924_12592,disease,"osteogenesis, imperfecta",MONDO_grouped
molfunc_protein,interacts with,3,2157,gene/protein,F8,NCBI,5,5507,molecular_function,copper ion binding,GO
exposure_protein,interacts with,6,D003300,exposure,Copper,CTD,3,2157,gene/protein,F8,NCBI
"""
NODES = b"""node_index,node_id,node_type,node_name,node_source
0,9796,gene/protein,PHYHIP,NCBI
1,56992,gene/protein,KIF15,NCBI
2,DB09130,drug,Copper,DrugBank
3,2157,gene/protein,F8,NCBI
4,13924_12592,disease,"osteogenesis, imperfecta",MONDO_grouped
5,5507,molecular_function,copper ion binding,GO
6,D003300,exposure,Copper,CTD
"""
DRUGS = b"""node_index,description,half_life,state,tpsa,clogp
2,"Copper is a transition metal, and more.",,Copper is a solid.,,
"""
DISEASES = b"""node_index,mondo_id,mondo_name,group_id_bert,mondo_definition,umls_description,orphanet_definition,mayo_symptoms
4,13924,osteogenesis imperfecta type 13,13924_12592,,A UMLS text.,An Orphanet text.,See a doctor.
4,13924,osteogenesis imperfecta type 13,13924_12592,,A UMLS text.,An Orphanet text.,Or another.
4,12592,osteogenesis imperfecta type 15,13924_12592,A MONDO text.,A UMLS text.,,
"""
FILES = {
    6180620: ("kg.csv", KG),
    6180617: ("nodes.tab", NODES),
    6180619: ("drug_features.tab", DRUGS),
    6180618: ("disease_features.tab", DISEASES),
}


def record(**changes: Any) -> dict[str, Any]:
    """A dataset as the native API gives it; tabular files with the md5 of their archival form."""
    files = []
    for id, (name, data) in FILES.items():
        tabular = name.endswith(".tab")
        archival = data.replace(b",", b"\t")
        md5 = hashlib.md5(archival if tabular else data).hexdigest()
        file: dict[str, Any] = {
            "id": id, "persistentId": f"doi:10.7910/DVN/IXA7BM/{id}", "filename": name, "filesize": len(data) + (100 if tabular else 0),
            "contentType": "text/tab-separated-values" if tabular else "text/csv", "storageIdentifier": f"s3://dvn-cloud:{id}",
            "md5": md5, "checksum": {"type": "MD5", "value": md5}, "tabularData": tabular,
        }  # fmt: skip
        if tabular:
            file |= {"originalFileFormat": "text/csv", "originalFormatLabel": "Comma Separated Values", "originalFileSize": len(data)}
            file |= {"originalFileName": name.replace(".tab", ".csv")}
        files.append({"label": name, "restricted": False, "version": 1, "datasetVersionId": 275372, "dataFile": file})
    files.append(
        {"label": "kg_giant.csv", "restricted": True, "dataFile": {"id": 1, "filename": "kg_giant.csv", "filesize": 1, "md5": "0"}}
    )
    version = {
        "id": 275372, "versionNumber": 2, "versionMinorNumber": 1, "versionState": "RELEASED", "files": files,
        "license": {"name": "CC0 1.0", "uri": "http://creativecommons.org/publicdomain/zero/1.0"},
    }  # fmt: skip
    return {"status": "OK", "data": {"id": 6174650, "identifier": "DVN/IXA7BM", "latestVersion": version | changes}}


@pytest.fixture
def dataverse(server: Server) -> Server:
    def file(data: bytes, tabular: bool) -> Any:
        def script(asked: Asked) -> Reply:
            original = asked.query.get("format") == "original" or not tabular
            return ranged(data)(asked) if original else Reply(data.replace(b",", b"\t"))

        return script

    server.on("/api/datasets/:persistentId/", Reply(json.dumps(record()).encode()))
    for id, (name, data) in FILES.items():
        server.on(f"/api/access/datafile/{id}", file(data, name.endswith(".tab")))
    return server


def run(server: Server, folder: Path, **given: Any) -> Outcome:
    return fetch_primekg(folder, base=server.url, http=Http(sleep=lambda _: None), **given)


def test_the_graph_and_its_features_are_fetched(dataverse: Server, tmp_path: Path) -> None:
    outcome = run(dataverse, tmp_path / "g")
    folder = tmp_path / "g"
    for name, data in FILES.values():
        assert (folder / name.replace(".tab", ".csv")).read_bytes() == data
    assert (folder / "disease.csv").read_text() == (
        "node_index,mondo_id,mondo_name,definition\n"
        "4,13924,osteogenesis imperfecta type 13,A UMLS text.\n4,12592,osteogenesis imperfecta type 15,A MONDO text.\n"
    )
    entries = read_record(folder)
    assert entries == outcome.fetched and outcome.kept == {}
    assert entries["kg.csv"].checksum == "md5:" + hashlib.md5(KG).hexdigest() and entries["kg.csv"].licence.name.startswith("CC0 1.0")
    assert "md5 of the record is of the archival form" in entries["nodes.csv"].note and entries["nodes.csv"].checksum.startswith("sha256:")
    assert entries["nodes.csv"].url.endswith("/api/access/datafile/6180617?format=original")
    assert dataverse.asked[0].query == {"persistentId": "doi:10.7910/DVN/IXA7BM"}


def test_fetching_again_does_nothing_and_a_damaged_file_is_mended(dataverse: Server, tmp_path: Path) -> None:
    run(dataverse, tmp_path)
    dataverse.asked.clear()
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.name != ".fetching.lock"}
    outcome = run(dataverse, tmp_path)
    assert outcome.fetched == {} and set(outcome.kept) == set(read_record(tmp_path)) and dataverse.asked == []
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.name != ".fetching.lock"} == before
    (tmp_path / "kg.csv").write_bytes(KG.replace(b"F8", b"F9"))
    outcome = run(dataverse, tmp_path)
    assert set(outcome.fetched) == {"kg.csv"} and len(outcome.kept) == 4 and (tmp_path / "kg.csv").read_bytes() == KG


def test_commercial_only_leaves_out_what_is_forbidden(dataverse: Server, tmp_path: Path) -> None:
    outcome = run(dataverse, tmp_path, commercial_only=True)
    lines = (tmp_path / "kg.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "relation",
        "indication",
        "molfunc_protein",
    ] and '"osteogenesis, imperfecta"' in lines[1]
    assert outcome.fetched["kg.csv"].skipped == {
        "edge of CTD": 1, "edge of DisGeNET": 1, "edge of DrugBank": 1, "edge of Menche et al. 2015": 1,
    }  # fmt: skip
    assert outcome.fetched["nodes.csv"].skipped == {"node of CTD": 1}
    assert (tmp_path / "drug_features.csv").read_text() == "node_index,tpsa,clogp\n2,,\n"
    features = (tmp_path / "disease_features.csv").read_text()
    assert "doctor" not in features and "UMLS" not in features and "Orphanet" in features
    assert "UMLS" not in (tmp_path / "disease.csv").read_text() and "An Orphanet text." in (tmp_path / "disease.csv").read_text()
    assert "sha256 of the whole file" in outcome.fetched["kg.csv"].note and not (tmp_path / ".fetching").exists()
    dataverse.asked.clear()
    assert run(dataverse, tmp_path, commercial_only=True).fetched == {} and dataverse.asked == []
    run(dataverse, tmp_path, commercial_only=True, licensed=["DrugBank", "CTD"])
    assert "drug_protein" in (tmp_path / "kg.csv").read_text() and "exposure_protein" in (tmp_path / "kg.csv").read_text()
    assert set(run(dataverse, tmp_path).fetched) == {"kg.csv", "nodes.csv", "drug_features.csv", "disease_features.csv", "disease.csv"}
    assert (tmp_path / "kg.csv").read_bytes() == KG
    with pytest.raises(InputError, match="no source 'Drugbank'"):
        run(dataverse, tmp_path, commercial_only=True, licensed=["Drugbank"])


def test_a_run_that_broke_off_goes_on(dataverse: Server, tmp_path: Path) -> None:
    dataverse.on("/api/access/datafile/6180620", ranged(KG, cut=200), Reply(status=404))
    with pytest.raises(FetchError, match="6180620 has gone"):
        run(dataverse, tmp_path)
    assert set(read_record(tmp_path)) == {"nodes.csv"} and not (tmp_path / "kg.csv").exists()
    dataverse.on("/api/access/datafile/6180620", ranged(KG))
    dataverse.asked.clear()
    outcome = run(dataverse, tmp_path)
    assert set(outcome.kept) == {"nodes.csv"} and (tmp_path / "kg.csv").read_bytes() == KG
    assert [a.headers.get("range") for a in dataverse.asked if a.path.endswith("6180620")] == ["bytes=200-"]


def test_a_graph_with_another_md5_is_refused(dataverse: Server, tmp_path: Path) -> None:
    dataverse.on("/api/access/datafile/6180620", ranged(KG.replace(b"F8", b"F9")))
    with pytest.raises(FetchError, match="its md5 is"):
        run(dataverse, tmp_path)
    assert dataverse.paths().count("/api/access/datafile/6180620") == 2 and not (tmp_path / "kg.csv").exists()


def test_records_that_do_not_fit_are_told(dataverse: Server, tmp_path: Path) -> None:
    version = record()["data"]["latestVersion"]
    for changed, words in [
        (record(files=version["files"][1:]), r"holds no kg\.csv"),
        ({"status": "OK", "data": {}}, "another form"),
        (record(files=[{"dataFile": {"filename": "kg.csv"}}]), "another form"),
    ]:
        dataverse.on("/api/datasets/:persistentId/", Reply(json.dumps(changed).encode()))
        with pytest.raises(FetchError, match=words):
            run(dataverse, tmp_path / words[:5])
    dataverse.on("/api/datasets/:persistentId/", Reply(json.dumps(record()).encode()))
    with fetching_into(tmp_path / "busy"), pytest.raises(HomeLockedError, match="Another process is fetching"):
        run(dataverse, tmp_path / "busy")
    page = b"<html>" + b" " * (len(NODES) - 6)
    dataverse.on("/api/access/datafile/6180617", Reply(page))
    with pytest.raises(GraphFormatError, match=r"nodes\.csv .*no column node_index"):
        run(dataverse, tmp_path / "page")
    assert not (tmp_path / "page" / "nodes.csv").exists()


def test_a_graph_of_someone_else_is_not_overwritten(dataverse: Server, tmp_path: Path) -> None:
    (tmp_path / "kg.csv").write_text("mine")
    with pytest.raises(InputError, match=r"kg\.csv is there, and was not fetched"):
        run(dataverse, tmp_path)
    assert (tmp_path / "kg.csv").read_text() == "mine" and dataverse.asked == []
    run(dataverse, tmp_path, overwrite=True)
    assert (tmp_path / "kg.csv").read_bytes() == KG


def test_the_table_of_sources_is_whole() -> None:
    assert {source for sources in RELATIONS.values() for source in sources} <= set(SOURCES) and len(RELATIONS) == 30
    assert all(source.licence.url.startswith("http") and source.licence.name for source in SOURCES.values())
