"""`foldatlas import` from a folder of a bucket, to an atlas on a store."""

from pathlib import Path
from typing import Any

import made_structures

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.reader import Atlas
from foldatlas.jobs.import_ import import_structures


def test_bucket_is_imported_to_an_atlas_on_a_store(s3: Any, tmp_path: Path) -> None:
    """Two files and an archive in a folder of the bucket; again, nothing is read; staged files are gone."""
    import tarfile

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
    for path in (*paths, tmp_path / "more.tar.gz"):
        client.upload_file(str(path), bucket, f"designs/{path.name}")
    where = f"s3://{bucket}/designs/"
    summary = import_structures([where], f"s3://{bucket}/atlas", experimental=True)
    assert (summary.accounting.folded, summary.accounting.records) == (3, 3)
    again = import_structures([where], f"s3://{bucket}/atlas", experimental=True)
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
