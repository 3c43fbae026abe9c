"""A map as a Parquet file for Embedding Atlas: `embedding-atlas FILE --x x --y y --text identifier`.

One row per protein. Checked with embedding-atlas 0.26.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.storage.commit import replacing


def write_embedding_atlas(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    """Write the points of `points.points` to `path`, and return their number."""
    number = 0
    with replacing(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            number += batch.num_rows
    return number
