"""Which of PrimeKG's sources an edge comes from, and what that source's terms say of commercial use; leaves out what they forbid.

Knows: PrimeKG's relations (from its build_graph notebook, https://github.com/mims-harvard/PrimeKG) and the published terms of its
sources. Does not know: networks, how graphs are read.

This is a reading of published terms, not legal advice: terms change, and the addresses below have the last word. kg.csv names no source
for an edge, so its relation tells it; a relation that several sources feed is forbidden where any of them is. What is not listed
counts as forbidden. Terms that ask for attribution or for the same licence (CC BY, CC BY-SA) permit commercial use and still bind.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biobridge_rag.errors import GraphFormatError, InputError
from biobridge_rag.fetching.records import Licence, replacing
from biobridge_rag.graph.tables import Files

UNKNOWN = "unknown source"
_MEND = "Fetch it again."
_MAX_FIELD = 1 << 24


@dataclass(frozen=True)
class Source:
    licence: Licence
    commercial: bool


def _source(commercial: bool, name: str, url: str) -> Source:
    return Source(Licence(name, url), commercial)


SOURCES = {
    "Bgee": _source(True, "CC0 1.0", "https://www.bgee.org/about/"),
    "BioGRID": _source(True, "MIT", "https://wiki.thebiogrid.org/doku.php/terms_and_conditions"),
    "CTD": _source(False, "commercial use by permission only", "https://ctdbase.org/about/legal.jsp"),
    "Disease Ontology": _source(True, "CC0 1.0", "https://disease-ontology.org/resources/citing-disease-ontology"),
    "DisGeNET": _source(False, "CC BY-NC-SA 4.0", "https://www.disgenet.org/legal"),
    "DrugBank": _source(False, "CC BY-NC 4.0", "https://go.drugbank.com/legal/terms_of_use"),
    # Names and ids of drugs only, which DrugBank gives freely.
    "DrugBank vocabulary": _source(True, "CC0 1.0", "https://go.drugbank.com/releases/latest#open-data"),
    "DrugCentral": _source(True, "CC BY-SA 4.0", "https://drugcentral.org/privacy"),
    "Gene Ontology": _source(True, "CC BY 4.0", "https://geneontology.org/docs/go-citation-policy/"),
    "HPO": _source(True, "its own, which permits use with attribution", "https://hpo.jax.org/license"),
    "HuRI": _source(True, "CC BY 4.0", "http://www.interactome-atlas.org/download"),
    # A supplement without terms, in part from databases that forbid commercial use.
    "Menche et al. 2015": _source(False, "none stated", "https://doi.org/10.1126/science.1257601"),
    "Mayo Clinic": _source(False, "all rights reserved", "https://www.mayoclinic.org/about-this-site/terms-conditions-use-policy"),
    "MONDO": _source(True, "CC BY 4.0", "https://mondo.monarchinitiative.org/pages/download/"),
    "NCBI Gene": _source(True, "public domain", "https://www.ncbi.nlm.nih.gov/home/about/policies/"),
    "Orphanet": _source(True, "CC BY 4.0", "https://www.orphadata.com/legal-notice/"),
    "Reactome": _source(True, "CC0 1.0", "https://reactome.org/license"),
    "SIDER": _source(False, "CC BY-NC-SA 4.0", "http://sideeffects.embl.de/about/"),
    "STRING": _source(True, "CC BY 4.0", "https://string-db.org/cgi/access?footer_active_subpage=licensing"),
    "UBERON": _source(True, "CC BY 3.0", "https://github.com/obophenotype/uberon/blob/master/LICENSE"),
    "UMLS": _source(False, "UMLS Metathesaurus licence", "https://www.nlm.nih.gov/research/umls/knowledge_sources/metathesaurus/release/license_agreement.html"),
}  # fmt: skip

_GO = ("NCBI Gene", "Gene Ontology")
RELATIONS: dict[str, tuple[str, ...]] = {
    "anatomy_anatomy": ("UBERON",),
    "anatomy_protein_absent": ("Bgee",),
    "anatomy_protein_present": ("Bgee",),
    "bioprocess_bioprocess": ("Gene Ontology",),
    "bioprocess_protein": _GO,
    "cellcomp_cellcomp": ("Gene Ontology",),
    "cellcomp_protein": _GO,
    "contraindication": ("DrugCentral",),
    "disease_disease": ("MONDO",),
    "disease_phenotype_negative": ("HPO",),
    "disease_phenotype_positive": ("HPO",),
    "disease_protein": ("DisGeNET",),
    "drug_drug": ("DrugBank",),
    "drug_effect": ("SIDER",),
    "drug_protein": ("DrugBank",),
    "exposure_bioprocess": ("CTD",),
    "exposure_cellcomp": ("CTD",),
    "exposure_disease": ("CTD",),
    "exposure_exposure": ("CTD",),
    "exposure_molfunc": ("CTD",),
    "exposure_protein": ("CTD",),
    "indication": ("DrugCentral",),
    "molfunc_molfunc": ("Gene Ontology",),
    "molfunc_protein": _GO,
    "off-label use": ("DrugCentral",),
    "pathway_pathway": ("Reactome",),
    "pathway_protein": ("Reactome",),
    "phenotype_phenotype": ("HPO",),
    "phenotype_protein": ("DisGeNET",),
    "protein_protein": ("BioGRID", "STRING", "HuRI", "Menche et al. 2015"),
}
# What the columns node_source, x_source and y_source say: where a node's id and name are from.
NODES = {
    "CTD": "CTD",
    "DO": "Disease Ontology",
    "DrugBank": "DrugBank vocabulary",
    "GO": "Gene Ontology",
    "HPO": "HPO",
    "MONDO": "MONDO",
    "MONDO_grouped": "MONDO",
    "NCBI": "NCBI Gene",
    "REACTOME": "Reactome",
    "UBERON": "UBERON",
}
# Columns of the feature tables whose texts are not forbidden; all others are left out.
FEATURES = {
    "drug_features": ("node_index", "molecular_weight", "tpsa", "clogp"),  # DrugCentral
    "disease_features": (
        "node_index", "mondo_id", "mondo_name", "group_id_bert", "group_name_bert", "mondo_definition", "orphanet_definition",
        "orphanet_prevalence", "orphanet_epidemiology", "orphanet_clinical_description", "orphanet_management_and_treatment",
    ),
    "drug": ("node_index", "node_id", "drugbank_id", "node_name", "smiles"),  # structures are open data of DrugBank, as of PubChem
}  # fmt: skip
_LAID_OUT = ("relation", "x_source", "y_source")


def forbidden(sources: Sequence[str], licensed: Collection[str] = ()) -> str | None:
    """The first of these sources whose terms forbid commercial use, but for those that the user holds a licence of; None for none."""
    return next((s for s in sources if s not in licensed and (s not in SOURCES or not SOURCES[s].commercial)), None)


def check_licensed(licensed: Collection[str]) -> None:
    if unknown := sorted(set(licensed) - set(SOURCES)):
        raise InputError(f"There is no source {unknown[0]!r}.", f"Sources: {', '.join(SOURCES)}.")


def keep_commercial_edges(source: Path, target: Path, licensed: Collection[str] = ()) -> dict[str, int]:
    """Copies kg.csv (or .csv.gz) row by row without edges of sources that forbid commercial use; counts what was left out by source.

    Raises GraphFormatError for a file without the columns relation, x_source and y_source."""

    def why_not(row: Mapping[str, str]) -> str | None:
        of_edge = RELATIONS.get(row["relation"], (f"{UNKNOWN} of relation {row['relation'] or '(none)'}",))
        return forbidden((*of_edge, *(_of_node(row[c]) for c in ("x_source", "y_source"))), licensed)

    return _filter(source, target, _LAID_OUT, why_not, None)


def keep_commercial_nodes(source: Path, target: Path, licensed: Collection[str] = ()) -> dict[str, int]:
    """Copies nodes.csv likewise, without nodes whose names are of such a source."""
    return _filter(source, target, ("node_source",), lambda row: forbidden((_of_node(row["node_source"]),), licensed), None)


def keep_commercial_features(source: Path, target: Path) -> list[str]:
    """Copies a feature table (drug_features, disease_features, drug) without the columns whose texts are of such a source, and
    gives their names."""
    keep = FEATURES[source.name.partition(".")[0]]
    header, _ = Files(source.parent).header(source)
    _filter(source, target, (), lambda row: None, [c for c in header if c in keep])
    return [c for c in header if c not in keep]


def _of_node(stated: str) -> str:
    return NODES.get(stated, f"{UNKNOWN} {stated}".rstrip())


def _filter(
    source: Path, target: Path, needed: tuple[str, ...], why_not: Callable[[Mapping[str, str]], str | None], columns: list[str] | None
) -> dict[str, int]:
    left_out: Counter[str] = Counter()
    Files(source.parent).columns(source, needed)
    with _reading(source) as (header, rows), replacing(target) as out:
        kept = [header.index(c) for c in columns] if columns is not None else list(range(len(header)))
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([header[i] for i in kept])
        where = {c: header.index(c) for c in needed}
        for row in rows:
            if (why := why_not({c: row[i].strip() for c, i in where.items()})) is not None:
                left_out[why] += 1
            else:
                writer.writerow(row if columns is None else [row[i] for i in kept])
    return dict(sorted(left_out.items()))


@contextmanager
def _reading(path: Path) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
    """The header, and the rows, each as long as it."""
    csv.field_size_limit(_MAX_FIELD)
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        reader = csv.reader(text)
        header = [c.strip() for c in next(reader)]
        yield header, _rows(path, reader, len(header))


def _rows(path: Path, reader: Any, width: int) -> Iterator[list[str]]:
    try:
        for row in reader:
            if row and len(row) != width:
                raise GraphFormatError(f"{path}, line {reader.line_num}: {len(row)} values for {width} columns.", _MEND)
            if row:
                yield row
    except (csv.Error, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise GraphFormatError(f"{path} cannot be read as CSV: {error}.", _MEND) from error
