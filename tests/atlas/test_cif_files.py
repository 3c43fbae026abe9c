"""mmCIF text: read by python-modelcif, and compared with what python-modelcif itself writes of such a model."""

import io
import warnings
from collections.abc import Callable

import gemmi
import ihm
import modelcif
import modelcif.dumper
import modelcif.model
import modelcif.protocol
import modelcif.qa_metric as qa
import modelcif.reader
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.writers.chains import one_line
from foldatlas.atlas.writers.cif_files import chain_name, cif_text, quoted
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES, THREE_LETTER, num_atoms, structure_id
from foldatlas.schemas.version import program_version

Made = Callable[..., StoredStructure]
SEQUENCE, LENGTHS = "MKVLXGA" + "WYF" + "MKVLXGA", [7, 3, 7]


def text_of(structure: StoredStructure, name: str = "protein", model: str = "nano-untrained", **more) -> str:
    return cif_text(structure, name=name, model=model, mean_plddt=61.237, ptm=0.4567, **more)


def read_by_modelcif(text: str) -> modelcif.System:
    (system,) = modelcif.reader.read(io.StringIO(text))
    return system


def unknown_to_modelcif(text: str) -> set[str]:
    """Categories and items that its reader does not know."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        modelcif.reader.read(io.StringIO(text), warn_unknown_category=True, warn_unknown_keyword=True)
    return {str(warning.message).split()[2] for warning in caught}


def test_modelcif_reads_all_that_was_written(made: Made) -> None:
    structure = made(SEQUENCE)
    system = read_by_modelcif(text_of(structure, name="a name", chain_lengths=LENGTHS, iptm=0.25))
    assert system.title == "nano-untrained prediction of a name"
    first, second = system.entities
    assert [comp.id for comp in first.sequence] == [THREE_LETTER[letter] for letter in "MKVLXGA"]
    assert [comp.id for comp in second.sequence] == ["TRP", "TYR", "PHE"]
    assert [(asym.id, asym.entity) for asym in system.asym_units] == [("A", first), ("B", second), ("C", first)]
    assert {entity.description for entity in system.entities} == {"a name"}
    ((group,), (protocol,)) = system.model_groups, system.protocols
    (model,) = group
    assert model.name == "nano-untrained" and isinstance(model, modelcif.model.AbInitioModel)
    (step,) = protocol.steps
    assert isinstance(step, modelcif.protocol.ModelingStep) and list(step.output_data) == [model]
    assert list(step.input_data) == [first, second]
    (software,) = step.software
    assert (software.name, software.version) == ("FoldAtlas", program_version())
    assert software.classification == "model building" and "nano-untrained" in software.description
    atoms = list(model.get_atoms())
    np.testing.assert_allclose([(a.x, a.y, a.z) for a in atoms], structure.positions, atol=0.0006)
    plddt = np.repeat(structure.plddt, [num_atoms(letter) for letter in SEQUENCE])
    np.testing.assert_allclose([a.biso for a in atoms], plddt, atol=0.0051)
    assert [a.atom_id for a in atoms] == [atom for letter in SEQUENCE for atom in ATOMS[letter]]
    numbers = [(c, n) for c, length in zip("ABC", LENGTHS, strict=True) for n in range(1, length + 1)]
    residues = np.repeat(np.arange(17), [num_atoms(letter) for letter in SEQUENCE])
    assert [(a.asym_unit.id, a.seq_id) for a in atoms] == [numbers[residue] for residue in residues]
    whole = [metric for metric in model.qa_metrics if isinstance(metric, qa.Global)]
    assert [(metric.name, metric.value) for metric in whole] == [("pLDDT", 61.24), ("pTM", 0.457), ("ipTM", 0.25)]
    assert [isinstance(m, kind) for m, kind in zip(whole, (qa.PLDDT, qa.PTM, qa.IpTM), strict=True)] == [True] * 3
    local = [metric for metric in model.qa_metrics if isinstance(metric, qa.Local)]
    assert [(metric.residue.asym.id, metric.residue.seq_id) for metric in local] == numbers
    assert all(isinstance(metric, qa.PLDDT) for metric in local) and len(model.qa_metrics) == 3 + 17
    np.testing.assert_allclose([metric.value for metric in local], structure.plddt, atol=0.0051)


class MeanPLDDT(qa.Global, qa.PLDDT):
    name, description, software = "pLDDT", "mean of the residues' pLDDT, 0 to 100, higher is better", None


class PTM(qa.Global, qa.PTM):
    name, description, software = "pTM", "predicted TM-score, 0 to 1, higher is better", None


class InterfacePTM(qa.Global, qa.IpTM):
    name, description, software = "ipTM", "predicted TM-score between chains, 0 to 1, higher is better", None


class PLDDT(qa.Local, qa.PLDDT):
    name = "pLDDT"
    description, software = "predicted lDDT of the residue's C-alpha, 0 to 100, higher is better", None


def by_modelcif(structure: StoredStructure, lengths: list[int]) -> str:
    """The same model as python-modelcif writes it."""
    alphabet = {letter: ihm.LPeptideAlphabet()[letter] for letter in STANDARD_RESIDUES}
    alphabet["X"] = ihm.LPeptideAlphabet()["UNK"]
    entities: dict[str, modelcif.Entity] = {}
    asyms, begin = [], 0
    for length in lengths:
        sequence = structure.sequence[begin : begin + length]
        begin += length
        if sequence not in entities:
            entities[sequence] = modelcif.Entity([alphabet[c] for c in sequence], description="protein")
            entities[sequence].name = "protein"
        asyms.append(modelcif.AsymUnit(entities[sequence]))
    software = modelcif.Software(
        "FoldAtlas", "model building", "predicted by the model nano-untrained", None, "package", program_version()
    )
    for metric in (MeanPLDDT, PTM, InterfacePTM, PLDDT):
        metric.software = software

    class Model(modelcif.model.AbInitioModel):
        def get_atoms(self):
            atom = 0
            for asym, length in zip(asyms, lengths, strict=True):
                for number in range(1, length + 1):
                    residue = asym.entity.sequence[number - 1]
                    letter = next(letter for letter, comp in alphabet.items() if comp is residue)
                    for name in ATOMS[letter]:
                        x, y, z = structure.positions[atom].tolist()
                        biso = float(structure.plddt[residues[atom]])
                        atom += 1
                        yield modelcif.model.Atom(asym, number, name, name[0], x, y, z, biso=biso, occupancy=1)

    residues = np.repeat(np.arange(len(structure.sequence)), [num_atoms(letter) for letter in structure.sequence])
    model = Model(assembly=modelcif.Assembly(asyms), name="nano-untrained")
    places = [asym.residue(n) for asym, length in zip(asyms, lengths, strict=True) for n in range(1, length + 1)]
    model.qa_metrics = [MeanPLDDT(61.237), PTM(0.4567), InterfacePTM(0.25)]
    model.qa_metrics += [PLDDT(place, float(v)) for place, v in zip(places, structure.plddt, strict=True)]
    system = modelcif.System(title="nano-untrained prediction of protein", id="x")
    system.model_groups.append(modelcif.model.ModelGroup([model], name="nano-untrained"))
    protocol = modelcif.protocol.Protocol()
    inputs = modelcif.data.DataGroup(entities.values())
    protocol.steps.append(
        modelcif.protocol.ModelingStep(input_data=inputs, output_data=model, software=software, name="fold")
    )
    system.protocols.append(protocol)
    file = io.StringIO()
    modelcif.dumper.write(file, [system])
    return file.getvalue()


def values_of(text: str) -> dict[str, list[str | float]]:
    """Every item with its values; numbers as numbers, and nothing for an item without any value."""

    def value(raw: str) -> str | float:
        string = gemmi.cif.as_string(raw).replace("\n", "")
        try:
            return float(string)
        except ValueError:
            return string

    found: dict[str, list[str | float]] = {}
    for item in gemmi.cif.read_string(text).sole_block():
        if item.pair is not None:
            found[item.pair[0]] = [value(item.pair[1])]
        elif item.loop is not None:
            for number, tag in enumerate(item.loop.tags):
                found[tag] = [value(raw) for raw in item.loop.values[number :: item.loop.width()]]
    return {tag: values for tag, values in found.items() if any(v not in ("", ".", "?") for v in values)}


# What modelcif writes and we do not, both optional: they follow from the chemical component's name.
NOT_OURS = {"_chem_comp.formula", "_chem_comp.formula_weight", "_entity.formula_weight"}


def test_every_item_that_modelcif_writes_is_there_with_its_value(made: Made) -> None:
    structure = made(SEQUENCE)
    texts = by_modelcif(structure, LENGTHS), text_of(structure, chain_lengths=LENGTHS, iptm=0.25)
    theirs, ours = map(values_of, texts)
    assert unknown_to_modelcif(texts[1]) <= unknown_to_modelcif(texts[0])
    assert "_ma_model_list.model_nam" in unknown_to_modelcif(texts[1].replace("model_name", "model_nam"))
    assert len(theirs) > 90
    assert set(theirs) - set(ours) == NOT_OURS
    assert {item.partition(".")[0] for item in ours} == {item.partition(".")[0] for item in theirs}
    # a data id, and the order of metrics, are only names within a file
    for item in sorted(set(theirs) - NOT_OURS - {"_entry.id", "_struct.entry_id"}):
        expected, found = theirs[item], ours[item]
        if all(isinstance(value, float) for value in (*expected, *found)):
            np.testing.assert_allclose(found, expected, atol=0.006, rtol=0, err_msg=item)
        else:
            assert found == expected, item
    assert ours["_entry.id"] == ours["_struct.entry_id"]


def test_chains_are_named_as_the_pdb_names_them() -> None:
    names = [chain_name(number) for number in range(26 + 26 * 26 + 1)]
    assert len(set(names)) == len(names) and names[:2] == ["A", "B"] and names[25:29] == ["Z", "AA", "BA", "CA"]
    assert names[-3:] == ["YZ", "ZZ", "AAA"]


def test_a_multimer_has_the_identity_of_its_chains(made: Made) -> None:
    structure = made("GAVGAV")
    texts = {lengths: text_of(structure, chain_lengths=lengths) for lengths in ((6,), (3, 3), (2, 4))}
    blocks = {lengths: gemmi.cif.read_string(text).sole_block() for lengths, text in texts.items()}
    assert len({block.name for block in blocks.values()}) == 3
    assert blocks[6,].name.replace("-", "") == structure_id("GAVGAV").hex()
    assert blocks[3, 3].name.replace("-", "") == structure_id("GAV:GAV").hex()
    assert [len(block.find_loop("_entity.id")) for block in blocks.values()] == [1, 1, 2]


GA = StoredStructure(
    structure_id("GA"), "GA", np.arange(27, dtype=np.float32).reshape(9, 3), np.array([50, 60], np.float32)
)
HOSTILE = [
    "\n;\nloop_\n_atom_site.id 1", ";x", "_atom_site.id", "#", "data_x", "save_", "loop_", "it's", "a' b", 'a" b',
    "a' b\" c", "' \"", "'", '"', "", " ", "?", ".", "$x", "[x]", "a\\", "\x00\x1b[31m", "\u2028\xfc", "\ud800",
    "x" * 3000,
]  # fmt: skip


@given(st.text(max_size=700), st.text(max_size=200))
@example("\n;\n_a.b", "' \"\n;")
def test_no_name_can_break_the_file(name: str, model: str) -> None:
    text = text_of(GA, name=name, model=model)
    assert text.isascii() and "\r" not in text and max(map(len, text.split("\n"))) <= 2048
    block = gemmi.cif.read_string(text).sole_block()
    assert [item.loop.tags if item.loop else [item.pair[0]] for item in block] == [
        item.loop.tags if item.loop else [item.pair[0]] for item in gemmi.cif.read_string(text_of(GA)).sole_block()
    ]
    assert gemmi.cif.as_string(block.find_value("_entity.pdbx_description")) == one_line(name)
    assert gemmi.cif.as_string(block.find_value("_ma_model_list.model_name")) == one_line(model)
    assert gemmi.make_structure_from_block(block)[0].count_atom_sites() == num_atoms("GA")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_come_back_through_modelcif(name: str) -> None:
    system = read_by_modelcif(text_of(GA, name=name, model=f"m{name}"))
    (entity,) = system.entities
    assert (entity.description or "") == one_line(name).rstrip(" ") or entity.description == one_line(name)
    assert system.model_groups[0][0].name == one_line(f"m{name}")
    assert len(list(system.model_groups[0][0].get_atoms())) == num_atoms("GA")


def test_names_are_escaped_and_cut() -> None:
    assert one_line("a\nb\té\x1b\u2028") == "a\\nb\\t\\xe9\\x1b\\u2028"
    assert one_line("x" * 20, 10) == "xxxxxxx..."
    assert [quoted(text) for text in ("a", "it's", "'\"")] == ["'a'", '"it\'s"', "\n;'\"\n;\n"]
