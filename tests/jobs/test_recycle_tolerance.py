"""`foldatlas fold --recycle-tolerance`: stored with the settings, counted in the manifest, refused elsewhere."""

import json
from pathlib import Path

import pytest
from commands import in_this_process

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.schemas.manifest import settings_digest

FASTA = """>a
MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ
>b
GSHMRSLEVQAPILSRVGDG
>c
MKV
"""


def test_fold_stores_the_tolerance_and_counts_passes(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(FASTA)
    atlas, log = tmp_path / "atlas", tmp_path / "log"
    command = ["fold", str(tmp_path / "a.fasta"), str(atlas), "--model", "nano"]
    command += ["--recycles", "5", "--device", "cpu"]
    done = in_this_process(*command, "--recycle-tolerance", "2", "--log", log)
    assert done.returncode == 0, done.stderr
    folder = AtlasFolder(atlas)
    settings = folder.header().settings
    assert settings.recycle_tolerance == 2.0 and folder.header().settings_digest == settings_digest(settings)
    passes = {entry.shard: entry.run.trunk_passes for entry in folder.entries().values()}
    assert 6 <= sum(passes.values()) < 18, "3 proteins, each with 2 to 6 passes"
    assert f"recycling stopped after {sum(passes.values()) / 3:.2f} trunk passes on average" in done.stderr
    logged = map(json.loads, log.read_text().splitlines())
    assert {e["shard"]: e["trunk_passes"] for e in logged if e["event"] == "shard_committed"} == passes

    for other, reason in (([], "recycle_tolerance 2.0, this run has none"), (["--recycle-tolerance", "1"], "has 1.0")):
        refused = in_this_process(*command, *other)
        assert refused.returncode == 2 and reason in refused.stderr


@pytest.mark.parametrize("value", ["0", "-1", "inf", "x"])
def test_tolerance_is_a_number_above_0(value: str, tmp_path: Path) -> None:
    done = in_this_process("plan", "a.fasta", tmp_path / "atlas", "--model", "nano", "--recycle-tolerance", value)
    assert done.returncode == 2 and "is not a number above 0" in done.stderr
