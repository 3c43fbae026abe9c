"""`foldatlas import` from a folder of a bucket, to an atlas on a store."""

import json
import tarfile
from pathlib import Path
from typing import Any

import made_structures
import numpy as np

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.reader import Atlas
from foldatlas.jobs.import_ import import_structures


def test_bucket_is_imported_to_an_atlas_on_a_store(s3: Any, tmp_path: Path) -> None:
    """Two files and an archive in a folder of the bucket, with PAE; again, nothing is read; staged files are gone."""
    client, bucket = s3, "models"
    client.create_bucket(Bucket=bucket)
    paths = [
        made_structures.write(
            tmp_path / f"{name}.pdb",
            {"A": (made_structures.random_sequence(35, seed), made_structures.backbone(35, seed))},
        )
        for seed, name in enumerate("abc")
    ]
    with tarfile.open(tmp_path / "more.tar.gz", "w:gz") as archive:
        archive.add(paths.pop(), "c.pdb")
    pae = np.random.default_rng(5).integers(1, 31, (35, 35))
    scores = tmp_path / "b.json"
    scores.write_text(json.dumps({"pae": pae.tolist(), "ptm": 0.5}))
    for path in (*paths, scores, tmp_path / "more.tar.gz"):
        client.upload_file(str(path), bucket, f"designs/{path.name}")
    where = f"s3://{bucket}/designs/"
    summary = import_structures([where], f"s3://{bucket}/atlas", plddt_scale=100)
    assert (summary.accounting.folded, summary.accounting.records) == (3, 4)
    again = import_structures([where], f"s3://{bucket}/atlas", plddt_scale=100)
    assert len(again.report.known) == 2 and again.report.files == 0
    assert not [
        file for file in AtlasFolder(f"s3://{bucket}/atlas").storage.files(hidden=True) if "staging" in file.name
    ]
    with Atlas.open(f"s3://{bucket}/atlas") as atlas:
        assert atlas.query("select id, parse_filename(source) from proteins order by id").rows() == [
            ("a", ""),
            ("b", ""),
            ("c", "more.tar.gz"),
        ]
        [(name, ptm, values)] = atlas.query("select id, ptm, pae from proteins join pae using (structure_id)").rows()
    assert (name, ptm) == ("b", 0.5) and np.array_equal(np.array(values) / 8, pae.ravel())
