"""Runs on a store leave the manifest in one object, for those who watch and for the next."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.status import status
from foldatlas.atlas.storage import packs
from foldatlas.atlas.verify.atlas import verify
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import make_plan
from foldatlas.pipeline.shards import attempt
from foldatlas.pipeline.shards.run import fold_atlas
from foldatlas.pipeline.workers.supervisor import WorkerSpec


@pytest.fixture
def atlas(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: WorkerSpec, costs: CostModel,
    proteins: list[str], write_fasta: Callable[..., str],
) -> AtlasFolder:  # fmt: skip
    monkeypatch.setattr(packs, "MIN_DOCUMENTS", 2)
    s3.create_bucket(Bucket="atlases")
    folder = AtlasFolder(f"s3://atlases/{tmp_path.name}")
    make_plan([write_fasta(proteins[:12])], folder, worker.settings, costs, max_length=1280)
    return folder


def asked_for_entries(atlas: AtlasFolder, flaky: Any) -> int:
    """How many entries a process that has just begun fetches one by one for `status`, which is complete."""
    before = len(flaky.requests)
    assert status(AtlasFolder(atlas.uri)).is_complete
    return sum(method == "GET" and "/manifest/" in key.split("?")[0] for method, key in flaky.requests[before:])


def test_a_run_packs_at_its_end(atlas: AtlasFolder, s3: Any, flaky: Any, worker: WorkerSpec, tmp_path: Path) -> None:
    assert fold_atlas(atlas, worker, show_progress=False).folded == 12
    assert len(atlas.entries()) >= 8 and asked_for_entries(atlas, flaky) == 0
    assert len(atlas.storage.files(packs.FOLDER)) == 1
    build_index(atlas)
    found = verify(atlas)
    assert not found.faults and not any(packs.FOLDER in note for note in found.notes)

    (pack,) = atlas.storage.files(packs.FOLDER)  # changed from outside
    changed = gzip.compress(gzip.decompress(atlas.storage.read(pack.name)).replace(b"cpu", b"gpu", 1))
    false = f"packs/{hashlib.sha256(changed).hexdigest()}.jsonl.gz"
    s3.put_object(Bucket="atlases", Key=f"{tmp_path.name}/{false}", Body=changed)
    (fault,) = verify(atlas).faults
    assert fault.where == false and "delete it" in str(fault)


def test_a_run_packs_on_its_way(atlas: AtlasFolder, worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = AtlasFolder.pack_manifest

    def pack(self: AtlasFolder) -> bool:
        seen.append(len(self.storage.files("manifest")))
        return real(self)

    monkeypatch.setattr(AtlasFolder, "pack_manifest", pack)
    monkeypatch.setattr(attempt, "PACK_EVERY", 4)
    fold_atlas(atlas, worker, show_progress=False)
    numbers = [int(name.rpartition("-")[2]) for name in atlas.entries()]
    # at the start, by the committers of shards 0, 4, 8, ..., and at the end
    assert len(seen) == 2 + sum(number % 4 == 0 for number in numbers)
    assert (seen[0], seen[-1]) == (0, len(numbers)) and all(0 < count <= len(numbers) for count in seen[1:])
