"""A few kills and one fault, as the long version does by hand (`python tests/faults/harness.py --kills 50`), and proof
that what it looks for is found."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HERE = Path(__file__).parent
HANGS = 3600  # seconds, after which a run of the harness has come to a stop

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "kills", "faults"), [("folder", 2, "disk_full"), pytest.param("store", 2, "", marks=pytest.mark.long)]
)
def test_killed_runs_lose_duplicate_and_corrupt_nothing(where: str, kills: int, faults: str) -> None:
    if where == "store":
        pytest.importorskip("boto3")
        pytest.importorskip("moto.server")
    command = [sys.executable, str(HERE / "harness.py"), "--kills", str(kills), "--seed", "5", "--where", where]
    done = subprocess.run([*command, "--faults", faults], capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{kills} kills, 0 lost, 0 duplicated, 0 corrupt"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "more"),
    [
        pytest.param(2, ["--phases", "folding,committing", "--faults", ""], marks=pytest.mark.long),
        pytest.param(20, [], marks=pytest.mark.long),
        pytest.param(8, ["--where", "workers", "--faults", "two_drivers"], marks=pytest.mark.long),
    ],
)
def test_killed_searches_come_to_the_clean_atlas(kills: int, more: list[str]) -> None:
    """As for folding; a search begins with an atlas that was folded before."""
    command = [sys.executable, str(HERE / "harness.py"), "--stage", "novelty", "--kills", str(kills), "--seed", "2"]
    done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()[-1]
    assert said.endswith(" kills, 0 lost, 0 duplicated, 0 corrupt") and int(said.split()[0]) >= kills


def test_the_judge_sees_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    from judge import judge, read
    from proteins import proteins, write

    expected = proteins(12, poison=False)
    fasta, clean = write(tmp_path / "in.fasta", expected), tmp_path / "clean"
    command = [sys.executable, str(HERE / "driver.py"), "fold", str(fasta), str(clean), "--model", "nano"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    contents = read(clean)
    assert len(contents.structures) == 12 and not judge(clean, contents, expected)

    def rewritten(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
        def rewrite(atlas: Path) -> None:
            path = min((atlas / "structures").iterdir())
            pq.write_table(change(pq.read_table(path)), path)

        return rewrite

    def moved(table: pa.Table) -> pa.Table:
        """One atom by 0.02 A."""
        [first, *others] = table["x"].to_pylist()
        return table.set_column(
            table.schema.get_field_index("x"), table.schema.field("x"),
            pa.array([[first[0] + 2, *first[1:]], *others], table.schema.field("x").type),
        )  # fmt: skip

    def uncommit(atlas: Path) -> None:
        min((atlas / "manifest").iterdir()).unlink()

    def commit_twice(atlas: Path) -> None:
        path = min((atlas / "manifest").iterdir())
        entry = json.loads(path.read_bytes())
        name = f"{entry['shard']}9"
        path.with_name(f"{name}.0.json").write_text(json.dumps({**entry, "shard": name}))

    def leave(atlas: Path) -> None:
        (atlas / "scores" / ".half.part").write_text("")

    damages: dict[str, tuple[Callable[[Path], None], str]] = {
        "moved": (rewritten(moved), "corrupt"),
        "fewer": (rewritten(lambda table: table.slice(1)), "lost"),
        "doubled": (rewritten(lambda table: pa.concat_tables([table, table])), "duplicated"),
        "uncommitted": (uncommit, "lost"),
        "twice": (commit_twice, "duplicated"),
        "left": (leave, "stray"),
        "no index": (lambda atlas: (atlas / "atlas.duckdb").unlink(), "corrupt"),
    }
    for name, (damage, kind) in damages.items():
        atlas = tmp_path / name
        shutil.copytree(clean, atlas)
        damage(atlas)
        assert getattr(judge(atlas, contents, expected), kind), f"{name} is not seen"
    other = [*expected[:3], *expected[4:], expected[3]]
    assert judge(clean, contents, other).lost
    assert judge(clean, contents, expected[:-1]).corrupt
