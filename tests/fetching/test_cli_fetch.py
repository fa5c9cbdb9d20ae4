"""The commands `fetch …`, and that what they fetch is a graph that can be built."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from biobridge_rag.cli_fetch import fetch
from biobridge_rag.errors import InputError
from biobridge_rag.fetching import go, primekg, pubchem, uniprot
from biobridge_rag.fetching.http import Http
from biobridge_rag.graph.primekg import load_graph
from tests.fetching.conftest import Reply, Server, ranged
from tests.fetching.test_go import OBO
from tests.fetching.test_primekg import DISEASES, DRUGS, KG, NODES, record
from tests.fetching.test_pubchem import found, path
from tests.fetching.test_uniprot import UniProt, entry

RUN = CliRunner()


@pytest.fixture
def services(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """All services on one server, and the commands sent there."""
    server.on("/api/datasets/:persistentId/", Reply(json.dumps(record()).encode()))
    for id, data in {6180620: KG, 6180617: NODES, 6180619: DRUGS, 6180618: DISEASES}.items():
        server.on(f"/api/access/datafile/{id}", ranged(data))
    UniProt(server, {"9796": [entry("Q92561", "PHYHIP")], "2157": [entry("P00451", "F8")]})
    server.on(path("DB09130"), found({"CID": 23978, "SMILES": "[Cu]", "Title": "Copper"}))
    server.on("/go-basic.obo", ranged(OBO.encode()))
    for module, name in [(primekg, "fetch_primekg"), (uniprot, "fetch_sequences"), (pubchem, "fetch_structures")]:
        monkeypatch.setattr(module, name, partial(getattr(module, name), base=server.url, http=Http(sleep=lambda _: None)))
    monkeypatch.setattr(go, "fetch_go", partial(go.fetch_go, url=server.url + "/go-basic.obo", http=Http(sleep=lambda _: None)))
    return server


def test_what_is_fetched_is_a_graph(services: Server, tmp_path: Path) -> None:
    folder = tmp_path / "primekg"
    result = RUN.invoke(fetch, ["primekg", "--out", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0 and result.stdout == ""
    assert f"fetched: {folder / 'kg.csv'} ({len(KG):,} bytes), PrimeKG, doi:10.7910/DVN/IXA7BM" in result.stderr
    assert "licence: CC0 1.0 for the record; its sources have their own https://creativecommons.org" in result.stderr
    for command in ("uniprot", "pubchem", "go"):
        result = RUN.invoke(fetch, [command, "--graph", str(folder)], catch_exceptions=False)
        assert result.exit_code == 0 and "licence: " in result.stderr
        if command == "uniprot":
            assert "left out: 1 x gene without a protein in UniProt (protein.csv)" in result.stderr
    graph = load_graph(folder)
    assert {(n.id, n.name) for n in graph.nodes} == {
        ("9796", "PHYHIP"), ("2157", "F8"),
        ("DB09130", "Copper"), ("13924_12592", "osteogenesis, imperfecta"), ("5507", "copper ion binding"),
    }  # fmt: skip
    assert graph.n_edges == 8 and {r.name for r in graph.relations} == {"carrier", "indication", "associated with", "interacts with"}
    values = {n.id: n.values for n in graph.nodes}
    assert "Binding to a copper" in values["5507"][0] and "A MONDO text." in " ".join(values["13924_12592"])


def test_a_second_run_says_that_all_is_there(services: Server, tmp_path: Path) -> None:
    arguments = ["primekg", "--out", str(tmp_path), "--commercial-only", "--licensed", "CTD", "--json"]
    first = json.loads(RUN.invoke(fetch, arguments, catch_exceptions=False).stdout)
    assert set(first["fetched"]) == {"kg.csv", "nodes.csv", "drug_features.csv", "disease_features.csv", "disease.csv"}
    assert first["fetched"]["kg.csv"]["skipped"] == {"edge of DisGeNET": 1, "edge of DrugBank": 1, "edge of Menche et al. 2015": 1}

    class Closed(Http):
        def get_json(self, *_: object, **__: object) -> None:  # type: ignore[override]
            pytest.fail("asked again")

    primekg.fetch_primekg.keywords["http"] = Closed()  # type: ignore[attr-defined]
    second = RUN.invoke(fetch, arguments, catch_exceptions=False)
    assert json.loads(second.stdout)["fetched"] == {} and json.loads(second.stdout)["kept"] == first["fetched"]
    assert "everything was there already; nothing was fetched" in second.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["uniprot"],
        ["uniprot", "--accession", "P00533"],
        ["uniprot", "--graph", "x", "--accession", "P00533", "--out", "y"],
        ["primekg", "--out", "x", "--licensed", "CTD"],
        ["weights", "nothing"],
    ],
)
def test_options_that_do_not_fit_are_told(arguments: list[str]) -> None:
    with pytest.raises(InputError):
        RUN.invoke(fetch, arguments, catch_exceptions=False)
