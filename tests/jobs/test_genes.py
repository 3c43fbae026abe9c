"""A raw assembly becomes an atlas, by the command."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.verify.atlas import verify

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_raw_assembly_becomes_an_atlas(tmp_path: Path, run: Run) -> None:
    letters = random.Random(1)
    codons = [first + second + third for first in "ACG" for second in "ACGT" for third in "GC"]
    gene = "ATG" + "".join(letters.choices(codons, k=59)) + "TAA"
    between = "TTAACTAACTAA" * 4
    assembly = tmp_path / "assembly.fna"
    assembly.write_text(f">c1 a\n{between}AGGAGGTAACAT{gene}{between}\n>c2\n{'ACGT' * 10}\n>c3\nMKLEF\n")
    atlas = tmp_path / "atlas"
    done = run("fold", assembly, atlas, "--model", "nano", "--genes")
    assert (done.returncode, done.stdout) == (
        0,
        "2 records: 1 folded, 0 repeated, 1 refused (1 not_nucleotides), 0 failed\n",
    ), done.stderr
    assert "2 records from 3 contigs, 1 without a gene (pyrodigal" in done.stderr
    with Atlas.open(atlas) as opened:
        ((name, description, length, is_fragment),) = opened.query(
            "select id, description, length, is_fragment from proteins"
        ).rows()
    assert (name, length, is_fragment) == ("c1_1", 60, False)
    assert description.startswith("# 61 # 243 # 1 # ID=c1_1;partial=00;start_type=ATG;")
    assert not verify(AtlasFolder(atlas)).faults
    again = run("fold", assembly, atlas, "--model", "nano", "--genes")
    assert again.stdout == done.stdout and "not read again" in again.stderr
