"""mmCIF text of a predicted structure: ModelCIF 1.4.9, with pLDDT and pTM as quality metrics.

Chains are A, B, C ..., with one entity for each distinct sequence, residues from 1 in each chain and no hydrogens. A
residue that is not a standard one is UNK with its backbone. pLDDT, 0 to 100, higher is better, is in
`_ma_qa_metric_local` and in each atom's B_iso_or_equiv; its mean and pTM, 0 to 1, are in `_ma_qa_metric_global`.
Categories and items are those of https://github.com/ihmwg/ModelCIF that python-modelcif writes for such a model;
tests/atlas/test_cif_files.py compares them.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from foldatlas.atlas.writers import number_columns
from foldatlas.atlas.writers.chains import ATOM_ROWS, Chains, Structure, chains_of, one_line
from foldatlas.atlas.writers.number_columns import MAX_COORDINATE, MIN_COORDINATE, Text, as_columns, joined
from foldatlas.schemas.records import STANDARD_RESIDUES, THREE_LETTER
from foldatlas.schemas.version import program_version

UNKNOWN: Final = "?"  # a CIF value that is not known
_RESIDUES_PER_LINE: Final = 70
_DICTIONARY: Final = "https://raw.githubusercontent.com/ihmwg/ModelCIF/fece26d/dist/mmcif_ma.dic"
_DICTIONARY_VERSION: Final = "1.4.9"
_FULL_NAMES: Final = dict(
    zip(
        (THREE_LETTER[letter] for letter in STANDARD_RESIDUES + "X"),
        "ALANINE,ARGININE,ASPARAGINE,ASPARTIC ACID,CYSTEINE,GLUTAMINE,GLUTAMIC ACID,GLYCINE,HISTIDINE,ISOLEUCINE,"
        "LEUCINE,LYSINE,METHIONINE,PHENYLALANINE,PROLINE,SERINE,THREONINE,TRYPTOPHAN,TYROSINE,VALINE,UNKNOWN".split(
            ","
        ),
        strict=True,
    )
)
_ATOM_COLUMN: Final = as_columns([f" {atom[0]} {atom:<3} . {THREE_LETTER[letter]} " for letter, atom in ATOM_ROWS])


class _Metric(NamedTuple):
    """A quality metric, with the text of its value if it is a global one."""

    name: str
    mode: str
    description: str
    value: str = ""


def cif_text(
    structure: Structure,
    *,
    name: str,
    model: str | None,
    mean_plddt: float | None,
    ptm: float | None,
    iptm: float | None = None,
    chain_lengths: Sequence[int] | None = None,
) -> str:
    """Return the mmCIF file of `structure`. `name` is the record's id, `model` the model that predicted it
    (None: unknown, so that the file does not state that it is a prediction).

    `mean_plddt` is 0 to 100; `ptm` and `iptm` are 0 to 1; each is None where there is none. `chain_lengths` are the
    residues of each chain (None: one chain). Atoms without coordinates are left out; a residue without pLDDT has no
    local metric and a B-factor of 0. The numbers of residues, atoms and chains and the size of coordinates are not
    limited. Raise UsageError for an invalid structure (`chains.chains_of`).
    """
    chains = chains_of(structure, chain_lengths)
    names = [chain_name(number) for number in range(len(chains.lengths))]
    entities = list(dict.fromkeys(chains.sequences))  # chains of one sequence are one entity
    entity_of = [entities.index(sequence) + 1 for sequence in chains.sequences]
    metrics = []
    if mean_plddt is not None:
        explained = "mean of the residues' pLDDT, 0 to 100, higher is better"
        metrics.append(_Metric("pLDDT", "global", explained, f"{mean_plddt:.2f}"))
    if ptm is not None:
        explained = "predicted TM-score, 0 to 1, higher is better"
        metrics.append(_Metric("pTM", "global", explained, f"{ptm:.3f}"))
    if iptm is not None:
        explained = "predicted TM-score between chains, 0 to 1, higher is better"
        metrics.append(_Metric("ipTM", "global", explained, f"{iptm:.3f}"))
    if chains.has_plddt.any():
        metrics.append(_Metric("pLDDT", "local", "predicted lDDT of the residue's C-alpha, 0 to 100, higher is better"))
    shown = None if model is None else one_line(model)
    sections = [
        f"data_{chains.identity}\n",
        *_description(chains, one_line(name), shown),
        *_molecules(chains, names, entities, entity_of, one_line(name)),
        *(_modelling(len(entities), one_line(name), shown) if metrics or shown is not None else []),
        _loop(
            "ma_qa_metric",
            "id name mode type description software_group_id",
            ([n, m.name, m.mode, m.name, quoted(m.description), 1] for n, m in enumerate(metrics, 1)),
        ),
        _loop(
            "ma_qa_metric_global",
            "ordinal_id model_id metric_id metric_value",
            ([n, 1, n, m.value] for n, m in enumerate(metrics, 1) if m.mode == "global"),
        ),
        *_per_residue(chains, names, entities, entity_of, len(metrics)),
        _atoms(chains, names, entity_of),
    ]
    return "#\n".join(section for section in sections if section)


def quoted(text: str) -> str:
    """Return a line of text as a quoted CIF value, so that it cannot be read as a name, a comment or a keyword."""
    for mark in "'\"":
        if mark not in text:
            return mark + text + mark
    return f"\n;{text}\n;\n"  # python-modelcif ignores text after the last semicolon


def chain_name(number: int) -> str:
    """Return the name of chain `number`, from 0, as in the PDB: A ... Z, AA, BA ... ZZ, AAA ..."""
    name = ""
    while number >= 0:
        name += chr(ord("A") + number % 26)
        number = number // 26 - 1
    return name


@lru_cache(maxsize=64)
def _head(category: str, items: str) -> str:
    return "loop_\n" + "".join(f"_{category}.{item}\n" for item in items.split())


def _loop(category: str, items: str, rows: Iterable[Iterable[object]]) -> str:
    """Return a loop of values that are already quoted, or an empty text if there are no rows."""
    lines = [" ".join(map(str, row)) + "\n" for row in rows]
    return _head(category, items) + "".join(lines) if lines else ""


def _description(chains: Chains, name: str, model: str | None) -> list[str]:
    used = np.flatnonzero(np.bincount(chains.rows)).tolist()
    short = one_line(name, 60)
    title, methodology, about = f"imported structure of {short}", UNKNOWN, "converted from an imported structure"
    if model is not None:
        title, methodology = f"{one_line(model, 60)} prediction of {short}", "computational"
        about = f"predicted by the model {model}"
    return [
        f"_entry.id {chains.identity}\n",
        f"_struct.entry_id {chains.identity}\n_struct.title {quoted(title)}\n"
        f"_struct.pdbx_structure_determination_methodology {methodology}\n",
        f"_audit_conform.dict_name mmcif_ma.dic\n_audit_conform.dict_version {_DICTIONARY_VERSION}\n"
        f"_audit_conform.dict_location {_DICTIONARY}\n",
        _loop(
            "software",
            "pdbx_ordinal name classification description version type",
            [[1, "FoldAtlas", "'model building'", quoted(about), quoted(program_version()),
              "package"]],
        ),
        _loop("ma_software_group", "ordinal_id group_id software_id", [[1, 1, 1]]),
        _loop(
            "chem_comp",
            "id type name ma_provenance",
            (
                [code, quoted("peptide linking" if code == "GLY" else "L-peptide linking"), quoted(_FULL_NAMES[code]),
                 "'CCD Core'"]
                for code in sorted({THREE_LETTER[letter] for letter in chains.sequence})
            ),
        ),
        _loop("atom_type", "symbol", ([symbol] for symbol in sorted({ATOM_ROWS[row][1][0] for row in used}))),
    ]  # fmt: skip


def _molecules(
    chains: Chains, names: Sequence[str], entities: Sequence[str], entity_of: Sequence[int], name: str
) -> list[str]:
    def letters(sequence: str, unknown: str) -> str:
        codes = [letter if letter in STANDARD_RESIDUES else unknown for letter in sequence]
        lines = ["".join(codes[i : i + _RESIDUES_PER_LINE]) for i in range(0, len(codes), _RESIDUES_PER_LINE)]
        return "\n;" + "\n".join(lines) + "\n;\n"

    strands = {
        number: ",".join(chain for chain, entity in zip(names, entity_of, strict=True) if entity == number)
        for number in range(1, len(entities) + 1)
    }
    return [
        _loop(
            "entity",
            "id type src_method pdbx_description pdbx_number_of_molecules",
            ([n, "polymer", "man", quoted(name), entity_of.count(n)] for n in strands),
        ),
        _loop(
            "entity_poly",
            "entity_id type nstd_linkage nstd_monomer pdbx_strand_id pdbx_seq_one_letter_code "
            "pdbx_seq_one_letter_code_can",
            (
                [n, "polypeptide(L)", "no", "no", strands[n], letters(sequence, "(UNK)"), letters(sequence, "X")]
                for n, sequence in enumerate(entities, 1)
            ),
        ),
        _loop("struct_asym", "id entity_id", zip(names, entity_of, strict=True)),
        _loop("ma_target_entity", "entity_id data_id origin", ([n, n, "designed"] for n in strands)),
        _loop("ma_target_entity_instance", "asym_id entity_id", zip(names, entity_of, strict=True)),
    ]


def _modelling(num_entities: int, name: str, model: str | None) -> list[str]:
    """Return the categories about inputs and results: data 1, 2 ... are the entities, the next one is the model."""
    called = UNKNOWN if model is None else quoted(model)
    coordinates = num_entities + 1
    targets = range(1, coordinates)
    return [
        _loop(
            "ma_data",
            "id name content_type",
            [*([n, quoted(name), "target"] for n in targets), [coordinates, called, "'model coordinates'"]],
        ),
        _loop(
            "ma_data_group",
            "ordinal_id group_id data_id",
            [*([n, 1, n] for n in targets), [coordinates, 2, coordinates]],
        ),
        _loop(
            "ma_protocol_step",
            "ordinal_id protocol_id step_id method_type step_name software_group_id input_data_group_id "
            "output_data_group_id",
            [[1, 1, 1, "modeling", "fold", 1, 1, 2]],
        ),
        _loop(
            "ma_model_list",
            "ordinal_id model_name data_id model_type",
            [[1, called, coordinates, "'Ab initio model'"]],
        ),
        _loop("ma_model_group", "id name", [[1, called]]),
        _loop("ma_model_group_link", "group_id model_id", [[1, 1]]),
    ]


def _per_residue(
    chains: Chains, names: Sequence[str], entities: Sequence[str], entity_of: Sequence[int], local_metric: int
) -> list[str]:
    """Return the residues of entities and of chains, and their pLDDT."""
    width = len(str(max(chains.lengths)))
    poly_seq = []
    for number, sequence in enumerate(entities, 1):
        numbers = number_columns.integers(np.arange(1, len(sequence) + 1), width)
        poly_seq.append(joined(f"{number} ", numbers, " ", _codes(sequence), " n\n"))
    codes = _codes(chains.sequence)
    numbers = number_columns.integers(chains.numbers, width)
    asym, entity = (np.repeat(column, chains.lengths) for column in _chain_columns(names, entity_of))
    scheme: list[Text | str] = [
        asym,
        " ",
        entity,
        " ",
        numbers,
        " ",
        codes,
        " ",
        numbers,
        " ",
        numbers,
        " ",
        codes,
        " ",
        codes,
        " ",
        asym,
    ]
    kept = chains.has_plddt
    local = ""
    if num_kept := int(kept.sum()):
        ordinals = number_columns.integers(np.arange(1, num_kept + 1), len(str(num_kept)))
        plddt = number_columns.plddts(chains.plddt[kept])
        local = _head(
            "ma_qa_metric_local",
            "ordinal_id model_id label_asym_id label_seq_id label_comp_id metric_id metric_value",
        ) + joined(ordinals, " 1 ", asym[kept], " ", numbers[kept], " ", codes[kept], f" {local_metric} ", plddt, "\n")
    return [
        _head("entity_poly_seq", "entity_id num mon_id hetero") + "".join(poly_seq),
        _head(
            "pdbx_poly_seq_scheme",
            "asym_id entity_id seq_id mon_id pdb_seq_num auth_seq_num pdb_mon_id auth_mon_id pdb_strand_id",
        )
        + joined(*scheme, "\n"),
        local,
    ]


def _atoms(chains: Chains, names: Sequence[str], entity_of: Sequence[int]) -> str:
    if not len(chains.rows):
        return ""
    head = _head(
        "atom_site",
        "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id "
        "pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_comp_id auth_asym_id "
        "pdbx_PDB_model_num",
    )
    asym, entity = (np.repeat(column, chains.lengths) for column in _chain_columns(names, entity_of))
    numbers = number_columns.integers(chains.numbers, len(str(max(chains.lengths))))
    # atoms of a residue share the text before and after the coordinates
    before = _residue_text(asym, " ", entity, " ", numbers, " ? ")
    plddt = number_columns.plddts(chains.plddt)
    after = _residue_text(" 1.00 ", plddt, " ", numbers, " ", _codes(chains.sequence), " ", asym, " 1\n")
    positions = chains.positions
    fits = positions.min() >= MIN_COORDINATE and positions.max() <= MAX_COORDINATE
    text = number_columns.coordinates(positions) if fits else number_columns.wide_coordinates(positions)
    serials = number_columns.integers(np.arange(1, len(chains.rows) + 1), len(str(len(chains.rows))))
    columns: list[Text | str] = [
        _ATOM_COLUMN[chains.rows],
        before[chains.residues],
        text[:, 0],
        " ",
        text[:, 1],
        " ",
        text[:, 2],
    ]
    return head + joined("ATOM ", serials, *columns, after[chains.residues])


def _residue_text(*columns: Text | str) -> Text:
    text = joined(*columns).encode("ascii")
    (num_rows,) = {len(column) for column in columns if not isinstance(column, str)}
    return np.frombuffer(text, f"S{len(text) // num_rows}")


def _codes(sequence: str) -> Text:
    return _CODES[np.frombuffer(sequence.encode("ascii"), np.uint8)]


_CODES: Final = np.array([THREE_LETTER.get(chr(code), "   ").encode() for code in range(128)], "S3")


def _chain_columns(names: Sequence[str], entity_of: Sequence[int]) -> tuple[Text, Text]:
    return as_columns(names), as_columns([str(entity) for entity in entity_of])
