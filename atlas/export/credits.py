"""The files LICENCE and CITATION.bib of an export: terms of the data, and the publications behind them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from foldatlas.atlas.sql.text import escape_controls

UNKNOWN: Final = "unknown"

_ENTRIES: Final = {
    "esmfold": """@article{lin2023esmfold,
  author  = {Lin, Zeming and Akin, Halil and Rao, Roshan and Hie, Brian and Zhu, Zhongkai and Lu, Wenting and others},
  title   = {Evolutionary-scale prediction of atomic-level protein structure with a language model},
  journal = {Science}, volume = {379}, number = {6637}, pages = {1123--1130}, year = {2023},
  doi     = {10.1126/science.ade2574}
}""",
    "alphafold": """@article{jumper2021alphafold,
  author  = {Jumper, John and Evans, Richard and Pritzel, Alexander and Green, Tim and Figurnov, Michael and others},
  title   = {Highly accurate protein structure prediction with {AlphaFold}},
  journal = {Nature}, volume = {596}, pages = {583--589}, year = {2021},
  doi     = {10.1038/s41586-021-03819-2}
}""",
    "alphafold_db": """@article{varadi2022alphafold,
  author  = {Varadi, Mihaly and Anyango, Stephen and Deshpande, Mandar and Nair, Sreenath and others},
  title   = {{AlphaFold} {Protein} {Structure} {Database}: massively expanding the structural coverage of
             protein-sequence space with high-accuracy models},
  journal = {Nucleic Acids Research}, volume = {50}, number = {D1}, pages = {D439--D444}, year = {2022},
  doi     = {10.1093/nar/gkab1061}
}""",
    "structures": """@article{zhang2005tmalign,
  author  = {Zhang, Yang and Skolnick, Jeffrey},
  title   = {{TM-align}: a protein structure alignment algorithm based on the {TM-score}},
  journal = {Nucleic Acids Research}, volume = {33}, number = {7}, pages = {2302--2309}, year = {2005},
  doi     = {10.1093/nar/gki524}
}""",
    "3di": """@article{vankempen2024foldseek,
  author  = {van Kempen, Michel and Kim, Stephanie S. and Tumescheit, Charlotte and Mirdita, Milot and others},
  title   = {Fast and accurate protein structure search with {Foldseek}},
  journal = {Nature Biotechnology}, volume = {42}, pages = {243--246}, year = {2024},
  doi     = {10.1038/s41587-023-01773-0}
}""",
    "sequences": """@article{steinegger2017mmseqs2,
  author  = {Steinegger, Martin and S{\\"o}ding, Johannes},
  title   = {{MMseqs2} enables sensitive protein sequence searching for the analysis of massive data sets},
  journal = {Nature Biotechnology}, volume = {35}, pages = {1026--1028}, year = {2017},
  doi     = {10.1038/nbt.3988}
}""",
    "clusters": """@article{steinegger2018linclust,
  author  = {Steinegger, Martin and S{\\"o}ding, Johannes},
  title   = {Clustering huge protein sequence sets in linear time},
  journal = {Nature Communications}, volume = {9}, pages = {2542}, year = {2018},
  doi     = {10.1038/s41467-018-04964-5}
}""",
    "fcz": """@article{kim2023foldcomp,
  author  = {Kim, Hyunbin and Mirdita, Milot and Steinegger, Martin},
  title   = {{Foldcomp}: a library and format for compressing and indexing large protein structure sets},
  journal = {Bioinformatics}, volume = {39}, number = {4}, pages = {btad153}, year = {2023},
  doi     = {10.1093/bioinformatics/btad153}
}""",
}


def reference_licences(cursor: Any) -> list[dict[str, Any]]:
    """Return name, version and licences of the references that columns of `proteins` name, and what was searched."""
    found = cursor.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'novelty_runs'").fetchall()
    if not found[0][0]:
        return []
    rows = cursor.execute(
        "SELECT reference, version, search, licences FROM novelty_runs WHERE is_latest ORDER BY search"
    ).fetchall()
    return [
        {"reference": name, "version": version, "search": search, "licences": list(licences or []) or [UNKNOWN]}
        for name, version, search, licences in rows
    ]


def origins_of(cursor: Any) -> list[dict[str, Any]]:
    """Return the origins of the imported structures in `chosen`, with their licence, and their number of proteins."""
    columns = "origin, model, model_version, licence"
    rows = cursor.execute(f"SELECT {columns}, count(*) FROM chosen GROUP BY ALL ORDER BY ALL").fetchall()
    names = [*columns.split(", "), "proteins"]
    return [dict(zip(names, row, strict=True)) for row in rows]


def licence_text(
    licence: str | None,
    model: str,
    version: str,
    references: list[dict[str, Any]],
    origins: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return LICENCE: the licence of the structures as the user stated it, those that imported structures have each,
    and those of references."""
    lines = _imported_licences(licence, version, origins) if origins else _folded_licence(licence, model, version)
    lines += [
        "program is under the MIT licence,",
        "which does not apply to the data. Terms of the sequences' databases and of the model's weights may apply.",
    ]
    for one in references:
        what = "structures" if one["search"] == "structures" else "sequences"
        lines.append(
            f"Known {what} that are named here are of the reference {escape_controls(one['reference'])}, version "
            f"{one['version']}; licence: {', '.join(map(escape_controls, one['licences']))}"
        )
    return "\n".join(lines) + "\n"


def _folded_licence(licence: str | None, model: str, version: str) -> list[str]:
    stated = UNKNOWN if licence is None else escape_controls(licence)
    return [
        f"Licence of the sequences, structures and scores in this folder: {stated}",
        *(["  (not stated when it was exported: ask its authors before you use or pass on the data)"] if licence is None
          else []),
        f"The structures are predictions of the model {escape_controls(model)}, exported by FoldAtlas {version}. The ",
    ]  # fmt: skip


def _imported_licences(licence: str | None, version: str, origins: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["Licences of the imported structures and their scores, as their files or the import stated them:"]
    for one in origins:
        parts = [one["origin"] or "unknown origin", one["model"] or "unknown model"]
        parts += [f"version {one['model_version']}"] if one["model_version"] else []
        terms = escape_controls(one["licence"] or UNKNOWN)
        lines.append(f"  {terms}: {one['proteins']:,} of {escape_controls(', '.join(parts))}")
    if any(one["licence"] is None for one in origins):
        lines.append("  (unknown: ask the authors before you use or pass on these data)")
    if licence is not None:
        lines.append(f"Licence of this folder as stated when it was exported: {escape_controls(licence)}")
    return [*lines, f"The structures were imported and exported by FoldAtlas {version}. The "]


def _predicted_by(origins: Sequence[Mapping[str, Any]], *names: str) -> bool:
    texts = [f"{one['origin'] or ''} {one['model'] or ''}".lower() for one in origins]
    return any(name in text for text in texts for name in names)


def citation_text(
    format: str,
    model: str,
    references: list[dict[str, Any]],
    origins: Sequence[Mapping[str, Any]] = (),
    *,
    clustered: bool,
) -> str:
    """Return CITATION.bib: the publications of the methods that made these files, as BibTeX.

    `origins` are those of imported structures, of which the folding method of each is cited where it is known.
    """
    used: Mapping[str, bool] = {
        "esmfold": not origins or _predicted_by(origins, "esm"),
        "alphafold": _predicted_by(origins, "alphafold", "colabfold"),
        "alphafold_db": _predicted_by(origins, "alphafold db"),
        "structures": any(one["search"] == "structures" for one in references),
        "3di": format == "3di" or any(one["search"] == "structures" for one in references),
        "sequences": clustered or any(one["search"] == "sequences" for one in references),
        "clusters": clustered,
        "fcz": format == "fcz",
    }
    of_model = "of imported structures" if origins else f"of the model {escape_controls(model)}"
    head = f"% Methods behind these files, {of_model}. Cite the sequences' source too."
    return "\n\n".join([head, *(text for name, text in _ENTRIES.items() if used[name])]) + "\n"
