"""Experimental chains: what a file says is what is read, and a file that contradicts itself is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foldatlas.folding.compare.atom_layouts import ATOM37
from foldatlas.folding.compare.experimental import read_chains
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import ATOMS

NAMES = ATOM37
METADATA = {"coordinates": "experimental, 0.001 angstrom", "atom_type": "index into " + " ".join(NAMES)}


def row(name="1abc_A", sequence="GAW", split="train", cluster="c1", skip=(), **changed):
    """A chain whose atoms stand at recognisable places; `skip` are (residue, atom) that were not observed."""
    atoms = [(i, atom) for i, letter in enumerate(sequence) for atom in ATOMS[letter] if (i, atom) not in skip]
    return {
        "chain_id": name,
        "source": "made up",
        "cluster30": cluster,
        "split": split,
        "sequence": sequence,
        "residue_index": list(range(5, 5 + len(sequence))),
        "atom_residue": [i for i, _ in atoms],
        "atom_type": [NAMES.index(atom) for _, atom in atoms],
        "x": [1000 * i + NAMES.index(atom) for i, atom in atoms],
        "y": [-2000 * i for i, _ in atoms],
        "z": [7] * len(atoms),
        **changed,
    }


def schema(**changed):
    integers = pa.list_(pa.int32())
    fields = {
        "chain_id": pa.string(), "source": pa.string(), "cluster30": pa.string(), "split": pa.string(),
        "sequence": pa.string(), "residue_index": integers, "atom_residue": integers,
        "atom_type": pa.list_(pa.uint8()), "x": integers, "y": integers, "z": integers,
    }  # fmt: skip
    return pa.schema({**fields, **changed}, metadata=METADATA)


@pytest.fixture
def write(tmp_path):
    def write(*rows, metadata=METADATA, drop=(), rows_a_group=2, **changed):
        table = pa.Table.from_pylist(list(rows), schema=schema(**changed)).drop_columns(list(drop))
        pq.write_table(
            table.replace_schema_metadata(metadata), tmp_path / "chains.parquet", row_group_size=rows_a_group
        )
        return tmp_path / "chains.parquet"

    return write


def test_atoms_are_where_the_file_says(write):
    path = write(row(skip=[(1, "CB"), (2, "N")]), row(name="two", sequence="FX", cluster="c2"), row(name="three"))
    one, two, three = read_chains(path)
    assert [chain.name for chain in (one, two, three)] == ["1abc_A", "two", "three"]
    assert (one.sequence, one.split, one.cluster) == ("GAW", "train", "c1")
    assert one.residue_index_L.tolist() == [5, 6, 7]
    assert one.positions_LA3.shape == (3, 14, 3) and one.positions_LA3.dtype == np.float32
    for chain, missing in [(one, {(1, "CB"), (2, "N")}), (two, set()), (three, set())]:
        for i, letter in enumerate(chain.sequence):
            for place in range(14):
                atoms = ATOMS[letter]
                there = place < len(atoms) and (i, atoms[place]) not in missing
                assert chain.observed_LA[i, place] == there
                expected = [i + NAMES.index(atoms[place]) / 1000, -2.0 * i, 0.007] if there else [0, 0, 0]
                np.testing.assert_allclose(chain.positions_LA3[i, place], expected, atol=1e-6)


def test_an_atom_that_the_residue_does_not_have_is_left_out(write):
    given = row(sequence="GA")
    given["atom_residue"].append(1)
    given["atom_type"].append(NAMES.index("OXT"))
    for axis in "xyz":
        given[axis].append(1)
    (chain,) = read_chains(write(given))
    assert chain.observed_LA.sum() == 4 + 5


def test_splits_and_lengths_choose(write):
    path = write(row(), row(name="b", split="valid"), row(name="c", sequence="G" * 40), row(name="d", split="broken"))
    assert [chain.name for chain in read_chains(path, splits=["train"])] == ["1abc_A", "c"]
    assert [chain.name for chain in read_chains(path, splits=("train", "valid"), max_length=39)] == ["1abc_A", "b"]
    assert len(read_chains(path)) == 4
    with pytest.raises(UsageError, match=r"no chain of split tain: it has broken \(1\), train \(2\), valid \(1\)"):
        read_chains(path, splits=["tain"])


@pytest.mark.parametrize("column", ["chain_id", "split", "cluster30", "sequence", "residue_index", "atom_type", "z"])
def test_a_missing_column_is_named(write, column):
    with pytest.raises(UsageError, match=f"no column '{column}'"):
        read_chains(write(row(), drop=[column]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"residue_index": [1]}, "chain 1abc_A has different numbers of residue_index"),
        ({"x": [1]}, "different numbers of x and of atom_residue"),
        ({"atom_residue": [0, 3], "atom_type": [0, 1], "x": [1, 1], "y": [1, 1], "z": [1, 1]}, "outside its sequence"),
        ({"atom_residue": [0, -1], "atom_type": [0, 1], "x": [1, 1], "y": [1, 1], "z": [1, 1]}, "outside its sequence"),
        ({"atom_residue": [0], "atom_type": [99], "x": [1], "y": [1], "z": [1]}, "atom_type without a name"),
        ({"atom_residue": [0, 0], "atom_type": [1, 1], "x": [1, 1], "y": [1, 1], "z": [1, 1]}, "an atom twice"),
        ({"sequence": "G*W"}, "has '\\*' in its sequence"),
        ({"sequence": "Gä3"}, "is not a residue code"),
        ({"sequence": ""}, "has no sequence"),
        ({"chain_id": None}, "chain 2 has no chain_id"),
        ({"cluster30": None}, "has no cluster30"),
        ({"residue_index": None}, "different numbers of residue_index"),
        ({"residue_index": [1, None, 3]}, "residue_index that is missing"),
        ({"atom_residue": [None], "atom_type": [1], "x": [1], "y": [1], "z": [1]}, "outside its sequence"),
        ({"atom_residue": [0], "atom_type": [1], "x": [1], "y": [None], "z": [1]}, "whose y is missing"),
        ({"atom_residue": [0], "atom_type": [1], "x": [1], "y": [1], "z": [-10_000_001]}, "whose z is .* 10,000"),
    ],
)
def test_a_chain_that_contradicts_itself_is_refused(write, changed, message):
    with pytest.raises(UsageError, match=message):
        read_chains(write(row(name="good"), {**row(), **changed}))


def test_numbers_that_do_not_fit_are_refused(write):
    wide = pa.list_(pa.int64())
    with pytest.raises(UsageError, match="not a 32-bit integer"):
        read_chains(write(row(residue_index=[1, 1 << 40, 3]), residue_index=wide))
    with pytest.raises(UsageError, match="whose x is"):
        read_chains(write(row(x=[1 << 62, *row()["x"][1:]]), x=wide))
    with pytest.raises(UsageError, match="cannot be read"):
        read_chains(write(row(x=[1 << 63, *[1] * (len(row()["x"]) - 1)]), x=pa.list_(pa.uint64())))


def test_a_file_without_rows_has_no_chain(write):
    assert read_chains(write()) == []
    with pytest.raises(UsageError, match=r"no chain of split train.*no chain$"):
        read_chains(write(), ["train"])


def test_the_metadata_must_say_what_numbers_mean(write):
    with pytest.raises(UsageError, match="does not define `atom_type`"):
        read_chains(write(row(), metadata={"coordinates": METADATA["coordinates"]}))
    with pytest.raises(UsageError, match=r"coordinates in 0\.001 angstrom"):
        read_chains(write(row(), metadata={**METADATA, "coordinates": "nanometre"}))
    with pytest.raises(UsageError, match="not lists of integers"):
        read_chains(write(row(), x=pa.list_(pa.float32())))


def test_invalid_chains_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        read_chains(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        read_chains(tmp_path / "text.parquet")
