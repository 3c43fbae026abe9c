"""The files LICENCE and CITATION.bib of an export: terms of the data, and the publications behind them."""

from collections.abc import Mapping
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


def licence_text(licence: str | None, model: str, version: str, references: list[dict[str, Any]]) -> str:
    """Return LICENCE: the licence of the structures as the user stated it, and those of references."""
    stated = UNKNOWN if licence is None else escape_controls(licence)
    lines = [
        f"Licence of the sequences, structures and scores in this folder: {stated}",
        *(["  (not stated when it was exported: ask its authors before you use or pass on the data)"] if licence is None
          else []),
        f"The structures are predictions of the model {escape_controls(model)}, exported by FoldAtlas {version}. The "
        "program is under the MIT licence,",
        "which does not apply to the data. Terms of the sequences' databases and of the model's weights may apply.",
    ]  # fmt: skip
    for one in references:
        what = "structures" if one["search"] == "structures" else "sequences"
        lines.append(
            f"Known {what} that are named here are of the reference {escape_controls(one['reference'])}, version "
            f"{one['version']}; licence: {', '.join(map(escape_controls, one['licences']))}"
        )
    return "\n".join(lines) + "\n"


def citation_text(format: str, model: str, references: list[dict[str, Any]], *, clustered: bool) -> str:
    """Return CITATION.bib: the publications of the methods that made these files, as BibTeX."""
    used: Mapping[str, bool] = {
        "esmfold": True,
        "structures": any(one["search"] == "structures" for one in references),
        "3di": format == "3di" or any(one["search"] == "structures" for one in references),
        "sequences": clustered or any(one["search"] == "sequences" for one in references),
        "clusters": clustered,
        "fcz": format == "fcz",
    }
    head = f"% Methods behind these files, of the model {escape_controls(model)}. Cite the sequences' source too."
    return "\n\n".join([head, *(text for name, text in _ENTRIES.items() if used[name])]) + "\n"
