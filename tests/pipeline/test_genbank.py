"""Coding sequences of GenBank files, against Biopython's own reading of the same file, and what is wrong with them."""

import gzip
import io
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqFeature import AfterPosition, BeforePosition, CompoundLocation, ExactPosition, SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.folding.models import settings_of
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import make_plan
from foldatlas.pipeline.sources import genbank
from foldatlas.pipeline.sources.find import find_sources
from foldatlas.pipeline.sources.genbank import CodingSequence, GenBankReader
from foldatlas.pipeline.sources.record_stream import open_records
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import Outcome


def contig(name: str, seed: int) -> SeqRecord:
    """600 nucleotides with five genes, each of another kind."""
    letters = random.Random(seed)
    codons = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in ("TAA", "TAG", "TGA")]
    gene = "GTG" + "".join(letters.choices(codons, k=30)) + "TAA"  # GTG: a start of table 11
    reverse = str(Seq("ATG" + "".join(letters.choices(codons, k=20)) + "TAG").reverse_complement())
    text = "ACGTA" + gene + "CC" + reverse
    text += "".join(letters.choices("ACGT", k=600 - len(text)))
    first = SimpleLocation(5, 5 + len(gene), 1)
    second = SimpleLocation(7 + len(gene), 7 + len(gene) + len(reverse), -1)
    partial = SimpleLocation(BeforePosition(300), ExactPosition(360), 1)
    joined = CompoundLocation([SimpleLocation(400, 430, 1), SimpleLocation(440, AfterPosition(470), 1)])
    made = SeqRecord(Seq(text), id=name, name=name, annotations={"molecule_type": "DNA"})
    tag = f"{name}_"
    made.features = [
        SeqFeature(SimpleLocation(0, 600, 1), "source", qualifiers={"organism": ["uncultured bacterium"]}),
        SeqFeature(first, "gene", qualifiers={"locus_tag": [tag + "1"]}),
        SeqFeature(first, "CDS", qualifiers={"locus_tag": [tag + "1"], "transl_table": ["11"], "product": ["ATPase"]}),
        SeqFeature(
            second, "CDS", qualifiers={"locus_tag": [tag + "2"], "protein_id": [f"WP_{seed}.1"], "transl_table": ["11"]}
        ),
        SeqFeature(
            partial,
            "CDS",
            qualifiers={"locus_tag": [tag + "3"], "translation": ["MKVLAAG" * 20], "product": ["a name " * 20]},
        ),
        SeqFeature(joined, "CDS", qualifiers={"locus_tag": [tag + "4"], "pseudo": [""], "product": ["old"]}),
        SeqFeature(second, "CDS", qualifiers={"locus_tag": [tag + "5"], "transl_table": ["99"]}),
    ]
    return made


def text_of(*records: SeqRecord) -> bytes:
    out = io.StringIO()
    SeqIO.write(records, out, "genbank")
    return out.getvalue().encode()


RECORDS = [contig(f"contig{number}", number) for number in range(5)]
TEXT = text_of(*RECORDS)


def read(data: bytes) -> list[CodingSequence]:
    return list(GenBankReader(io.BytesIO(data)))


def parts(coding: CodingSequence) -> tuple[str, str, str]:
    header, _, protein = coding.record.text.decode().partition("\n")
    name, _, description = header.partition(" ")
    return name, description, protein


@pytest.fixture(params=[1, 7, 100, 1 << 20])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genbank, "BLOCK_BYTES", request.param)


def test_proteins_are_those_that_biopython_translates(block_bytes: None) -> None:
    found = read(TEXT)
    assert len(found) == 25 == len(re.findall(rb"^     CDS ", TEXT, re.MULTILINE))
    for number, record in enumerate(RECORDS):
        genes = [feature for feature in record.features if feature.type == "CDS"]
        forward, backward, given, pseudo, strange = found[5 * number : 5 * number + 5]
        # cds=True demands start and stop, and makes the first residue methionine
        expected = [str(gene.translate(record.seq, cds=True)) for gene in genes[:2]]
        assert parts(forward) == (f"{record.id}_1", "ATPase", expected[0] + "*")
        assert parts(backward) == (f"WP_{number}.1", "", expected[1] + "*")
        assert parts(given) == (f"{record.id}_3", ("a name " * 20).strip(), "MKVLAAG" * 20)
        assert [coding.is_fragment for coding in (forward, backward, given, pseudo)] == [False, False, True, True]
        assert [coding.fault for coding in (forward, backward, given)] == [None] * 3
        assert pseudo.fault is strange.fault is Outcome.NO_TRANSLATION
        assert "pseudogene" in parts(pseudo)[1] and "99" in parts(strange)[1]


def test_offsets_are_the_places_of_the_features(block_bytes: None) -> None:
    places = [match.start() for match in re.finditer(rb"^     CDS ", TEXT, re.MULTILINE)]
    assert [coding.record.offset for coding in read(TEXT)] == places


def test_alternative_start_is_methionine_only_at_the_start() -> None:
    """The start codon of a gene that is cut at its 5' end is translated as it is."""
    record = contig("c", 1)
    record.features[2].location = SimpleLocation(BeforePosition(5), ExactPosition(104), 1)
    record.features[2].qualifiers["codon_start"] = ["1"]
    assert parts(read(text_of(record))[0])[2].startswith("V")


def test_a_reading_frame_is_kept() -> None:
    record = contig("c", 1)
    record.features[2].location = SimpleLocation(BeforePosition(4), ExactPosition(101), 1)
    record.features[2].qualifiers["codon_start"] = ["2"]
    whole = parts(read(text_of(contig("c", 1)))[0])[2]
    assert parts(read(text_of(record))[0])[2] == "V" + whole[1:]


@pytest.mark.parametrize("origin", [b"ORIGIN\n", b"CONTIG      join(CP1.1:1..600)\n"])
def test_an_entry_without_nucleotides_gives_what_it_can(block_bytes: None, origin: bytes) -> None:
    text = re.sub(rb"ORIGIN.*?(?=//)", origin, TEXT, flags=re.DOTALL)
    faults = [coding.fault for coding in read(text)]
    assert faults == [Outcome.NO_TRANSLATION, Outcome.NO_TRANSLATION, None, *[Outcome.NO_TRANSLATION] * 2] * 5


def test_a_damaged_entry_costs_itself(block_bytes: None) -> None:
    text = TEXT.replace(b"LOCUS       contig2", b"LOCUS  ?  x x contig2")
    found = read(text)
    assert [coding.fault for coding in found[:10] + found[15:]] == [coding.fault for coding in read(TEXT)[:20]]
    assert {coding.fault for coding in found[10:15]} == {Outcome.NO_TRANSLATION}
    assert parts(found[11])[0] == "WP_2.1" and "cannot read the entry" in parts(found[11])[1]


def test_an_entry_that_is_cut_is_refused(block_bytes: None) -> None:
    reader = GenBankReader(io.BytesIO(TEXT[:-300]))
    found = list(reader)
    assert reader.error and "no end" in reader.error
    assert [coding.fault for coding in found[:20]] == [coding.fault for coding in read(TEXT)[:20]]
    assert {coding.fault for coding in found[20:]} == {Outcome.TRUNCATED} and len(found) == 25


def test_title_page_and_line_ends_change_nothing(block_bytes: None) -> None:
    """A title page, CRLF and a missing last line break give the same records."""
    page = b"GBBCT1.SEQ          Genetic Sequence Data Bank\n\n     5 loci, from 5 reported sequences\n\n"
    expected = [parts(coding) for coding in read(TEXT)]
    for text in (page + TEXT, TEXT.replace(b"\n", b"\r\n"), TEXT.rstrip(), TEXT + b"\n\n"):
        reader = GenBankReader(io.BytesIO(text))
        assert [parts(coding) for coding in reader] == expected
        assert reader.error is None


def test_an_entry_beyond_all_measure_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genbank, "MAX_ENTRY_BYTES", 100)
    monkeypatch.setattr(genbank, "BLOCK_BYTES", 50)
    with pytest.raises(SourceError, match="longer than"):
        read(TEXT)


@pytest.mark.parametrize("name", ["a.gbk", "a.gbff.gz", "a.txt"])
def test_a_genbank_file_becomes_a_plan(tmp_path: Path, costs: CostModel, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(TEXT) if name.endswith("gz") else TEXT)
    made = make_plan([str(path)], AtlasFolder(tmp_path / "atlas"), settings_of("nano"), costs, max_length=1280).plan
    assert made is not None
    assert made.outcomes == {"accepted": 15, "no_translation": 10}
    assert made.sources[0].records == 25


def test_a_named_genbank_file_may_begin_with_a_title_page(tmp_path: Path) -> None:
    path = tmp_path / "gbbct1.gb"
    path.write_bytes(b"GBBCT1.SEQ   Genetic Sequence Data Bank\n\n" + TEXT)
    (source,) = find_sources([str(path)])
    with open_records(source) as stream:
        assert len(list(stream.records(1280))) == 25


def test_fasta_under_a_genbank_name_is_fasta(tmp_path: Path, write_fasta: Callable[..., str]) -> None:
    (source,) = find_sources([write_fasta(["MKVL"], "in.gb")])
    assert source.format == "fasta"
