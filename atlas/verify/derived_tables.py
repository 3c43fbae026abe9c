"""Records and sequences of an import, made again from the rest of the atlas, since its sources cannot be read again.

How files were read is not recorded, so that only the same command could repeat it. But the index has every record, and
the structures of a shard have its sequences. A file replaces the committed one only if it has the same sha256.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.published import index_of
from foldatlas.atlas.parquet.files import ParquetFile, is_sound
from foldatlas.atlas.planning.imported_tables import record_files
from foldatlas.atlas.sql.text import first_line, quoted
from foldatlas.atlas.storage.scratch import work_folder
from foldatlas.schemas.errors import DamagedAtlasError, NotAnAtlasError
from foldatlas.schemas.formats import IMPORTED_FORMAT, table_schema
from foldatlas.schemas.manifest import FileEntry, Plan
from foldatlas.schemas.tables import FORMAT_VERSION, SEQUENCES

_OTHER: Final = "what the atlas has gives a file that differs from the committed one"


def derive_tables(folder: AtlasFolder, name: str) -> Mapping[str, str]:
    """Make the damaged files of records and sequences of the plan `name` again. Return those that cannot be made, each
    with the reason."""
    plan = next(plan for plan in folder.plans() if plan.name == name)
    left: dict[str, str] = {}
    with work_folder() as work:
        for number, file in enumerate(plan.sequences):
            if not is_sound(folder.storage, file):
                try:
                    _replace(folder, work, file, _sequences(folder, plan, number, work))
                except (DamagedAtlasError, OSError, pa.ArrowException) as error:
                    left[file.path] = str(error)
        damaged = [file for file in plan.records if not is_sound(folder.storage, file)]
        if damaged:
            try:
                made = _records(folder, plan, work)
            except (DamagedAtlasError, NotAnAtlasError, OSError) as error:
                return left | {file.path: str(error) for file in damaged}
            for file in damaged:
                try:
                    _replace(folder, work, file, made[plan.records.index(file) :][:1])
                except DamagedAtlasError as error:
                    left[file.path] = str(error)
    return left


def _replace(folder: AtlasFolder, work: Path, file: FileEntry, made: list[FileEntry]) -> None:
    """Write the file among `made` that is the committed one. Raise DamagedAtlasError if none is."""
    for again in made:
        if again.sha256 == file.sha256:
            folder.storage.put(work / again.path, file.path)
            return
    raise DamagedAtlasError(_OTHER)


def _sequences(folder: AtlasFolder, plan: Plan, number: int, work: Path) -> list[FileEntry]:
    """Write a file of sequences from the structures of its shards, as this program and earlier ones wrote it."""
    tables = list(_sequences_of_shards(folder, plan, number))
    made = []
    for version in (IMPORTED_FORMAT, FORMAT_VERSION):
        path = f"sequences-{number:04d}-{version}.parquet"
        with ParquetFile(work, path, "sequences", format=version) as file:
            for table in tables:
                file.write(table)
        assert file.entry is not None
        made.append(file.entry)
    return made


def _sequences_of_shards(folder: AtlasFolder, plan: Plan, number: int) -> Iterator[pa.Table]:
    entries = folder.entries()
    for shard in sorted((one for one in plan.shards if one.file == number), key=lambda one: one.row_group):
        entry = entries.get(shard.name)
        if entry is None or entry.folded != shard.proteins:
            raise DamagedAtlasError(f"shard {shard.name} lacks structures, whose sequences are in no other file")
        if not is_sound(folder.storage, entry.files["structures"]):
            raise DamagedAtlasError(f"the structures of shard {shard.name} are damaged too")
        table = folder.read_table(entry.files["structures"].path, ["structure_id", "sequence"])
        lengths = [len(sequence) for sequence in table["sequence"].to_pylist()]
        yield table.append_column("length", pa.array(lengths, pa.int32())).cast(SEQUENCES)


def _records(folder: AtlasFolder, plan: Plan, work: Path) -> list[FileEntry]:
    """Write the records of a plan from the index. Raise DamagedAtlasError if it does not have them."""
    uris = [source.uri for source in plan.sources]
    if any(source.uri in uris for other in folder.plans() if other.name != plan.name for source in other.sources):
        raise DamagedAtlasError("a source of its records is in several plans, which the index does not tell apart")
    columns = ", ".join(f"records.{quoted(name)}" for name in table_schema("records", IMPORTED_FORMAT).names)
    try:
        with index_of(folder).open({"arrow_lossless_conversion": True}) as connection:
            relation = connection.sql(
                f"SELECT {columns} FROM records WHERE source IN (SELECT unnest($uris)) "
                'ORDER BY list_position($uris, source), "offset"',
                params={"uris": uris},
            )
            return list(record_files(work, relation))
    except duckdb.Error as error:
        raise DamagedAtlasError(f"the index cannot be read ({first_line(error)})") from error
