"""What an atlas exports is imported again: the same coordinates and scores. With real chains."""

from pathlib import Path

import numpy as np
import pytest
from commands import in_this_process as run
from real_chains import write_real_chains

from foldatlas.atlas.reader import Atlas
from foldatlas.jobs.export import export
from foldatlas.jobs.import_ import import_structures
from foldatlas.schemas.errors import UsageError

pytestmark = pytest.mark.usefixtures("one_reader")

SCORES = (
    "id, structure_id, length, mean_plddt, plddt_std, num_confident, fraction_confident, fraction_very_high, ptm, "
    "num_unknown, radius_of_gyration, helix_fraction, strand_fraction"
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of 12 real chains."""
    root = tmp_path_factory.mktemp("real")
    summary = import_structures([str(write_real_chains(root / "files", 12))], root / "atlas")
    assert summary.accounting.folded == 12
    return root / "atlas"


def proteins(atlas: Path) -> list[tuple]:
    with Atlas.open(atlas) as opened:
        return opened.query(f"select {SCORES} from proteins order by id").rows()


def differences(one: Path, other: Path) -> list[np.ndarray]:
    """Differences of all atoms of each structure of `other`, angstrom [A, 3]; missing atoms must be the same."""
    found = []
    with Atlas.open(one) as left, Atlas.open(other) as right:
        for (identity,) in right.query("select structure_id::varchar from proteins").rows():
            mine, theirs = left.structure(identity).positions, right.structure(identity).positions
            assert np.array_equal(np.isnan(mine), np.isnan(theirs))
            found.append((theirs - mine)[~np.isnan(mine).any(axis=1)])
    return found


@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_export_as_text_is_imported_as_it_was(kind: str, real: Path, tmp_path: Path) -> None:
    export(real, tmp_path / "files", format=kind)
    import_structures([str(tmp_path / "files")], tmp_path / "atlas", id_from="header")
    assert proteins(tmp_path / "atlas") == proteins(real)
    assert max(np.abs(one).max() for one in differences(real, tmp_path / "atlas")) <= 0.01


def test_export_as_foldcomp_is_imported_with_its_error(real: Path, tmp_path: Path) -> None:
    """Foldcomp stores torsion angles, to 0.14 angstrom RMSD of all atoms or so, and pLDDT to a tenth; no pTM."""
    pytest.importorskip("foldcomp")
    assert run("export", real, tmp_path / "files", "--format", "fcz").returncode in (0, 3)
    summary = import_structures([str(tmp_path / "files")], tmp_path / "atlas", plddt_scale=100)
    assert summary.accounting.folded >= 3
    for one in differences(real, tmp_path / "atlas"):
        assert np.sqrt((one**2).sum(axis=1).mean()) < 0.5
    with Atlas.open(real) as left, Atlas.open(tmp_path / "atlas") as right:
        for (identity,) in right.query("select structure_id::varchar from proteins").rows():
            assert np.abs(left.structure(identity).plddt - right.structure(identity).plddt).max() < 0.2


def test_export_as_parquet_is_an_atlas_already(real: Path, tmp_path: Path) -> None:
    export(real, tmp_path / "subset", format="parquet")
    with pytest.raises(UsageError, match="is an atlas"):
        import_structures([str(tmp_path / "subset")], tmp_path / "atlas")
    assert proteins(tmp_path / "subset") == proteins(real)


@pytest.mark.long
def test_300_real_chains_are_imported_and_used(tmp_path: Path) -> None:
    """Import, clusters, novelty, a query, an export, and verify."""
    atlas = tmp_path / "atlas"
    assert run("import", write_real_chains(tmp_path / "files", 300), atlas).returncode == 0
    demo = Path(__file__).parents[2] / "atlas" / "reference" / "demo"
    for words in (("cluster", atlas), ("novelty", atlas, "--reference", demo), ("index", atlas), ("verify", atlas)):
        done = run(*words)
        assert done.returncode == 0, done.stderr
    counted = run("query", atlas, "select count(tm_query), count(cluster30) from proteins", "--format", "csv")
    assert counted.stdout.splitlines()[1] == "300,300"
    export(atlas, tmp_path / "files-again", format="pdb")
    import_structures([str(tmp_path / "files-again")], tmp_path / "again", id_from="header")
    assert proteins(tmp_path / "again") == proteins(atlas)
