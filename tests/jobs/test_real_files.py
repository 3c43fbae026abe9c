"""Files as people have them, by the commands: pipes, ids of GenBank and of NCBI's nr, ends of sequences, a C locale."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.reader import Atlas

Run = Callable[..., subprocess.CompletedProcess[str]]
PROTEIN = "MKVLAAGIVGLCAAWLLKDE"
GENBANK = """LOCUS       PLASMID1                 171 bp    DNA     circular SYN 01-JAN-2020
DEFINITION  exported construct.
ACCESSION   XX000001
VERSION     XX000001.1
FEATURES             Location/Qualifiers
     CDS             1..63
                     /product="hypothetical protein"
     CDS             complement(join(1..30,40..63))
                     /gene="rev A"
                     /product="hypothetical protein"
                     /translation="MKVLAAGIVG"
     CDS             64..117
                     /old_locus_tag="OLD_1"
                     /gene="x"
                     /product="hypothetical protein"
     CDS             118..171
                     /gene="bla"
                     /label="AmpR"
                     /product="beta-lactamase TEM"
     CDS             118..171
                     /protein_id="WP_1.1"
                     /locus_tag="L_1"
ORIGIN
        1 atgaaagttc tggcggcggg cattgttggc ctgtgcgcgg cgtggctgct gaaagatgaa
       61 taaatgtggt ggaaagttct ggcggcgggc attgttggcc tgtgcgcggc gtggtaaatg
      121 gaagaaaaag ttctggcggc gggcattgtt ggcctgtgcg cggcgtggta a
//
"""


def test_genbank_ids_never_come_from_the_product(tmp_path: Path, run: Run) -> None:
    """Case genbank-product-becomes-id."""
    (tmp_path / "plasmid.gb").write_text(GENBANK)
    done = run("plan", tmp_path / "plasmid.gb", tmp_path / "atlas", "--model", "nano")
    assert done.returncode == 0, done.stderr
    table = pq.read_table(next((tmp_path / "atlas" / "records").iterdir())).sort_by("offset")
    assert [tuple(row.values()) for row in table.select(["id", "description", "outcome"]).to_pylist()] == [
        ("XX000001.1:1-63", "hypothetical protein", "accepted"),
        ("rev_A_XX000001.1:c63-40,c30-1", "hypothetical protein", "accepted"),
        ("OLD_1", "hypothetical protein", "accepted"),
        ("bla_XX000001.1:118-171", "beta-lactamase TEM", "accepted"),
        ("WP_1.1", "", "accepted"),
    ]


def test_every_accession_of_nr_finds_its_protein(tmp_path: Path, run: Run) -> None:
    """Case nr-header-ids."""
    header = b"XP_1.1 kinase [Mus fictus]\x01NP_2.1 kinase-like [Rattus fictus]\x01pdb|1ABC|A Chain A\x01"
    (tmp_path / "nr.faa").write_bytes(b">" + header + b"\n%s\n" % PROTEIN.encode())
    assert run("fold", tmp_path / "nr.faa", tmp_path / "atlas", "--model", "nano").returncode == 0
    for number, name in enumerate(["XP_1.1", "NP_2.1", "pdb|1ABC|A", "nr.faa:NP_2.1"]):
        (tmp_path / "ids").write_text(f"{name}\n")
        out = tmp_path / f"out{number}"
        done = run("export", tmp_path / "atlas", out, "--ids", tmp_path / "ids", "--format", "fasta")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("1 protein in 1 file"), (name, done)
        assert (out / "proteins.fasta").read_bytes().startswith(b">" + header + b"\n")
    with Atlas.open(tmp_path / "atlas") as opened:
        assert opened.structure("NP_2.1").sequence == PROTEIN


def test_stops_full_stop_and_ctrl_z_are_ends(tmp_path: Path, run: Run) -> None:
    """Case two-trailing-stars."""
    ends = [b"**", b".", b"*\r\n\x1a"]
    (tmp_path / "in").write_bytes(b"".join(b">p%d\n%s%s\n" % (n, PROTEIN.encode(), end) for n, end in enumerate(ends)))
    done = run("plan", tmp_path / "in", tmp_path / "atlas", "--model", "nano")
    assert "3 records (3 accepted)" in done.stdout, done
    table = pq.read_table(next((tmp_path / "atlas" / "records").iterdir()))
    assert table["length"].to_pylist() == [len(PROTEIN)] * 3


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-P", "-m", "foldatlas.jobs.cli", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, timeout=120, check=False, **options)  # type: ignore[call-overload]


def test_standard_input_is_read_and_known_again(tmp_path: Path, run: Run) -> None:
    """Case pipe-as-input."""
    atlas, fasta = tmp_path / "atlas", f">a\n{PROTEIN}\n>b\n{PROTEIN}G\n".encode()
    first = command("fold", "-", atlas, "--model", "nano", input=fasta)
    assert first.returncode == 0 and first.stdout.startswith(b"2 records: 2 folded"), first.stderr
    again = run("fold", "-", atlas, "--model", "nano", input=fasta)
    assert (again.returncode, again.stdout) == (0, first.stdout.decode())
    assert "pipe:" in again.stderr and "not read again" in again.stderr
    out = tmp_path / "out.parquet"
    embedded = run("embed", "-", out, "--model", "nano", input=fasta)
    assert embedded.stdout.startswith("2 records: 2 embedded"), embedded.stderr
    empty = run("plan", "-", tmp_path / "none", "--model", "nano", input=b"")
    assert empty.returncode == 2 and "is empty" in empty.stderr and not (tmp_path / "none").exists()


def test_as_names_standard_input(tmp_path: Path, run: Run) -> None:
    """Content that differs under the same name is a new version; the first content again is one that is known."""
    atlas, first = tmp_path / "atlas", f">a\n{PROTEIN}\n>b\n{PROTEIN}G\n".encode()
    plan = ("plan", "-", atlas, "--model", "nano", "--as", "gut, release 1")
    done = run(*plan, input=first)
    assert done.returncode == 0 and "2 records (2 accepted)" in done.stdout, done.stderr
    assert "gut, release 1 is already in the atlas" in run(*plan, input=first).stdout
    done = run(*plan, input=first + f">c\n{PROTEIN}W\n".encode())
    assert done.returncode == 0 and "3 records (3 accepted)" in done.stdout, done.stderr
    plans = AtlasFolder(atlas).plans()
    assert [[source.uri for source in plan.sources] for plan in plans] == [["gut, release 1"]] * 2
    (newer,) = plans[1].sources
    assert [old.plan for old in newer.supersedes or ()] == [plans[0].name]
    done = run("plan", "-", tmp_path / "a.fasta", atlas, "--model", "nano", "--as", "two", input=first)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_pir_after_fasta_is_read_as_fasta(tmp_path: Path, run: Run) -> None:
    """Decision 0026: PIR is recognised by the first header of a file. Records before and after it are not affected."""
    (tmp_path / "mixed").write_text(f">a\n{PROTEIN}\n>P1;CRAB\nALPHA CHAIN 2\nMDIT*\n>b\n{PROTEIN}G\n")
    done = run("plan", tmp_path / "mixed", tmp_path / "atlas", "--model", "nano")
    assert done.returncode == 0 and "3 records (2 accepted, 1 digit)" in done.stdout, done
    (tmp_path / "pir").write_text(f">P1;CRAB\nALPHA CHAIN 2\nMDIT*\n>b\n{PROTEIN}G\n")
    done = run("plan", tmp_path / "pir", tmp_path / "other", "--model", "nano")
    assert done.returncode == 2 and "PIR" in done.stderr and not (tmp_path / "other").exists()


def test_a_letter_in_a_c_locale_needs_no_traceback(tmp_path: Path) -> None:
    """Case ascii-locale-traceback."""
    fasta, atlas = tmp_path / "in.faa", tmp_path / "atlas"
    fasta.write_text(f">протеин é\n{PROTEIN}\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONIOENCODING": ""}
    assert command("fold", fasta, atlas, "--model", "nano", env=environment).returncode == 0
    where = "id like 'п%' and description = 'é'"
    for format in ("table", "csv"):
        sql = f"select id from proteins where {where}"
        done = command("query", atlas, sql, "--format", format, env=environment)
        assert done.returncode == 0 and "протеин".encode() in done.stdout, done.stderr
    done = command("export", atlas, tmp_path / "вон", "--format", "fasta", "--where", where, env=environment)
    assert b"Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 1
    for arguments in (["query", tmp_path / "нет", "select 1"], ["fold", tmp_path / "нет", atlas, "--model", "nano"]):
        done = command(*arguments, env=environment)
        assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1, done.stderr
    bad = command("query", atlas, b"select '\xff'".decode("utf-8", "surrogateescape"), env=environment)
    assert bad.returncode == 2 and b"not UTF-8" in bad.stderr
