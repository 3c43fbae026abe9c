"""The schemas of both formats of an atlas."""

from foldatlas.schemas.formats import PROVENANCE, needed_tables, table_schema, tables_of
from foldatlas.schemas.tables import TABLES


def test_format_1_is_as_it_was() -> None:
    assert tables_of(1) == TABLES and PROVENANCE not in tables_of(1)
    assert needed_tables(1) == ("structures", "scores", "failures")
    assert not any(field.nullable for field in table_schema("scores", 1))
    assert {schema.metadata[b"foldatlas.format"] for schema in TABLES.values()} == {b"1"}


def test_format_2_differs_only_where_it_must() -> None:
    nullable = {field.name for field in table_schema("scores", 2) if field.nullable}
    assert nullable == {
        "mean_plddt", "plddt_std", "num_confident", "fraction_confident", "fraction_very_high", "ptm",
    }  # fmt: skip
    assert table_schema("scores", 2).names == TABLES["scores"].names
    assert table_schema("records", 2).names[:-3] == TABLES["records"].names
    for name in set(TABLES) - {"scores", "records"}:
        assert table_schema(name, 2).equals(TABLES[name], check_metadata=False)
    for name, schema in tables_of(2).items():
        assert schema.metadata[b"foldatlas.format"] == b"2", name
        for field in schema:
            assert not field.nullable or b"NULL" in field.metadata[b"meaning"], f"{name}.{field.name}"
