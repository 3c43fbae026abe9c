"""Documents: what is written is read back, and what is damaged is refused by name."""

import json

import msgspec
import pytest
from manifest_entries import made_entry

from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import (
    DIGEST_KEY,
    AtlasHeader,
    FileEntry,
    IndexPointer,
    Plan,
    Shard,
    ShardEntry,
    Source,
    decode,
    encode,
    has_digest,
    plan_name,
    settings_digest,
    shard_digest,
)
from foldatlas.schemas.records import Settings

SETTINGS = Settings("nano-untrained", "ab" * 32, 3, "fp32")
ENTRY = made_entry(
    shard="0123456789abcdef-00001",
    plan="0123456789abcdef",
    settings_digest="0" * 64,
    shard_digest="1" * 64,
    folded=2,
    failed=1,
    files={"structures": FileEntry("structures/a.parquet", 2, 99, "2" * 64)},
)


def test_a_document_is_read_back_as_it_was() -> None:
    header = AtlasHeader(1, "2026-01-01", "0.1.0", SETTINGS, settings_digest(SETTINGS))
    assert decode(encode(header), AtlasHeader, "atlas.json") == header
    assert decode(encode(ENTRY), ShardEntry, "x") == ENTRY
    assert encode(ENTRY) == encode(decode(encode(ENTRY), ShardEntry, "x"))


def test_an_entry_of_before_devices_had_names_is_read() -> None:
    raw = json.loads(encode(ENTRY))
    del raw[DIGEST_KEY]  # as then
    raw["run"] = {name: raw["run"][name] for name in ("run_id", "host", "device", "version", "started", "seconds")}
    run = decode(json.dumps(raw).encode(), ShardEntry, "x").run
    assert (run.device_name, run.device_bytes, run.busy_seconds) == ("", 0, 0.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"run": {**json.loads(encode(ENTRY))["run"], "device_name": "H100\33[2J"}}, "not printable"),
        ({"folded": "two"}, "folded"),
        ({"shard": None}, "shard"),
        ({"shard": "../../x-00000"}, "is not a valid name"),
        ({"plan": "/x"}, "is not a valid name"),
        ({"files": {"structures": {"path": "a\0b", "rows": 1, "bytes": 1, "sha256": ""}}}, "leaves"),
        ({"format": 3}, "format 3.*upgrade"),
        ({"files": {"structures": {"path": "../../etc/passwd", "rows": 1, "bytes": 1, "sha256": ""}}}, "leaves"),
        ({"files": {"structures": {"path": "/etc/passwd", "rows": 1, "bytes": 1, "sha256": ""}}}, "leaves"),
        ({"files": {"structures": {"path": "", "rows": 1, "bytes": 1, "sha256": ""}}}, "leaves"),
    ],
)
def test_a_damaged_document_is_refused_by_name(change: dict[str, object], reason: str) -> None:
    text = json.dumps({**json.loads(encode(ENTRY)), **change}).encode()
    with pytest.raises(DamagedAtlasError, match=f"manifest/x.json.*{reason}"):
        decode(text, ShardEntry, "manifest/x.json")


def test_names_that_lead_out_of_the_atlas_are_refused() -> None:
    shard = Shard("p-00000", 0, 0, 1, 1, 1, 1, 1, "")
    plan = Plan(1, "p", "", 1280, (), {}, 1, 1, 1, (), (), (shard,))
    assert decode(encode(plan), Plan, "p.json") == plan
    for name in (b"../p", b"/p", b".", b"..", b".p", b"a/b", b"a\\\\b", b"a\\u0000"):
        for written in (b'"name": "p"', b'"name": "p-00000"'):
            text = encode(plan)
            assert text.count(written) == 1
            with pytest.raises(DamagedAtlasError, match="is not a valid name"):
                decode(text.replace(written, b'"name": "' + name + b'"'), Plan, "p.json")
    pointer = IndexPointer(1, "0" * 64, 1, "", "", 1, 1, 0, 0, 0, {})
    with pytest.raises(DamagedAtlasError, match="is not a sha256"):
        decode(encode(pointer).replace(b"0" * 64, b"../../x"), IndexPointer, "index.json")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_text_that_is_not_a_document_is_refused(text: bytes) -> None:
    with pytest.raises(DamagedAtlasError, match=r"x\.json"):
        decode(text, ShardEntry, "x.json")


def test_settings_that_change_results_change_the_digest() -> None:
    others = [
        Settings("other", "ab" * 32, 3, "fp32"),
        Settings("nano-untrained", "cd" * 32, 3, "fp32"),
        Settings("nano-untrained", "ab" * 32, 4, "fp32"),
        Settings("nano-untrained", "ab" * 32, 3, "bf16"),
        Settings("nano-untrained", "ab" * 32, 3, "fp32", 0.5),
        Settings("nano-untrained", "ab" * 32, 3, "fp32", 1.0),
    ]
    assert len({settings_digest(settings) for settings in (SETTINGS, *others)}) == 7


def test_options_that_are_off_are_in_no_document() -> None:
    """The digest is that of programs without these options; with one, the header has it."""
    settings = Settings("nano", "0" * 64, 3, "fp32")
    digest = settings_digest(settings)
    assert digest == "e00b133b2b250bd402c3cd5e5eec34f1bc801417a0b35eeed18ab960bd6a179c"
    header = AtlasHeader(1, "2026-01-01T00:00:00.000+00:00", "1", settings, digest)
    assert b"88426c1f3cba29cf909d613a09e5036f28fdcfbd58211d7d32447f10add14fa5" in encode(header)
    stopped = Settings("nano", "0" * 64, 3, "fp32", 0.5)
    other = AtlasHeader(1, "2026-01-01T00:00:00.000+00:00", "1", stopped, settings_digest(stopped))
    assert b'"recycle_tolerance": 0.5' in encode(other)
    for one in (header, other):
        assert decode(encode(one), AtlasHeader, "atlas.json") == one


def test_a_plan_is_named_by_content_not_by_time() -> None:
    first = Source("file:///a", 10, 1, "0" * 64, 3)
    touched = Source("file:///a", 10, 2, "0" * 64, 3)
    changed = Source("file:///a", 10, 1, "1" * 64, 3)
    assert plan_name([first], 1280, []) == plan_name([touched], 1280, [])
    assert len({plan_name([first], 1280, []), plan_name([changed], 1280, []), plan_name([first], 600, [])}) == 3


def test_a_shard_digest_depends_on_order() -> None:
    assert shard_digest([b"a" * 16, b"b" * 16]) != shard_digest([b"b" * 16, b"a" * 16])


def test_any_flipped_bit_of_a_document_is_noticed() -> None:
    header = AtlasHeader(1, "2026-11-01T09:00:00.000+00:00", "0.1.0", SETTINGS, settings_digest(SETTINGS))
    text = encode(header)
    assert decode(text, AtlasHeader, "atlas.json") == header and has_digest(text)
    for position in range(len(text)):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[position] ^= 1 << bit
            with pytest.raises(DamagedAtlasError):
                decode(bytes(flipped), AtlasHeader, "atlas.json")


def test_a_document_of_an_earlier_program_has_no_digest() -> None:
    """It is read as before, also where a value is the name of the key; earlier programs ignore the key."""
    header = AtlasHeader(1, f"created by {DIGEST_KEY}", "0.1.0", SETTINGS, settings_digest(SETTINGS))
    plain = msgspec.json.format(msgspec.json.encode(header), indent=1) + b"\n"
    assert decode(plain, AtlasHeader, "atlas.json") == header and not has_digest(plain)
    assert msgspec.json.decode(encode(header), type=AtlasHeader) == header
    moved = msgspec.json.encode({**msgspec.json.decode(encode(header)), "version": "0.1.0"})
    with pytest.raises(DamagedAtlasError, match="is not at its end: it was changed"):
        decode(moved, AtlasHeader, "atlas.json")
