"""Headers as the databases write them: what becomes id, description, MGnify number and fragment flag."""

import pytest

from foldatlas.pipeline.sources.headers import read_header

PRODIGAL = "938293.PRJEB85.HG003687_1"


@pytest.mark.parametrize(
    ("header", "name", "mgyp", "is_fragment"),
    [
        # UniProt: https://www.uniprot.org/help/fasta-headers
        ("sp|P69905|HBA_HUMAN Hemoglobin subunit alpha OS=Homo sapiens OX=9606 GN=HBA1 PE=1 SV=2", None, None, None),
        ("tr|A0A1B2|A0A1B2_9BACT ATPase (Fragment) OS=uncultured bacterium OX=77133 PE=4 SV=1", None, None, True),
        ("tr|A0A1B2|A0A1B2_9BACT ATPase (Fragments) OS=uncultured bacterium OX=77133 PE=4 SV=1", None, None, True),
        ("UniRef50_Q9K794 ATPase (Fragment) n=2 Tax=Bacteria TaxID=2 RepID=A_B", None, None, True),
        ("sp|P1|X_Y Protein of (Fragment) binding OS=Homo sapiens OX=9606", None, None, None),
        # NCBI
        ("WP_000000001.1 MULTISPECIES: sigma factor [Enterobacteriaceae]", None, None, None),
        ("MBX123.1 hypothetical protein, partial [Candidatus Omnitrophica bacterium]", None, None, True),
        ("gi|5524211|gb|AAD44166.1| cytochrome b [Elephas maximus]", None, None, None),
        ("ref|NP_414542.1| thr operon leader [E. coli]\x01AAA1.1 leader, partial [E. coli]", None, None, None),
        ("a partial match [of words]", None, None, None),
        # MGnify, older and newer releases
        ("MGYP000848664103 PL=00 UP=0 BIOMES=0000000011000 LEN=297 CR=1", None, 848664103, False),
        ("MGYP001026457211 PL=10 UP=0 BIOMES=0000000011000 LEN=188 CR=0", None, 1026457211, True),
        ("MGYP001028524128 PL=01 UP=1 BIOMES=0000000011000 LEN=26 CR=0", None, 1028524128, True),
        ("MGYP000887593774 FL=1 CR=1", None, 887593774, False),
        ("MGYP000887593774 FL=0 CR=0", None, 887593774, True),
        ("MGYP000887593774", None, 887593774, None),
        ("other FL=0 PL=11", None, None, None),  # of another database, these may mean anything
        ("MGYP12a FL=1", None, None, None),
        # Prodigal
        (f"{PRODIGAL} # 2 # 300 # 1 # ID=1_1;partial=10;start_type=Edge;rbs_motif=None", None, None, True),
        (f"{PRODIGAL} # 2 # 300 # -1 # ID=1_1;partial=00;start_type=ATG", None, None, False),
        (f"{PRODIGAL} # 2 # 300 # -1 # partial=11", None, None, True),
        (f"{PRODIGAL} impartial=11;partial=2", None, None, None),
    ],
)
def test_headers_of_the_databases(header: str, name: str | None, mgyp: int | None, is_fragment: bool | None) -> None:
    found = read_header(header.encode())
    words = header.split(" ", 1)
    assert found.id == (name or words[0])
    assert found.description == (words[1] if len(words) == 2 else "")
    assert (found.mgyp, found.is_fragment, found.is_text) == (mgyp, is_fragment, True)
