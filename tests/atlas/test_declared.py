"""What PDB and mmCIF files of known producers declare about themselves."""

import gemmi
import pytest

from foldatlas.atlas.importing.declared import Declared, declared_in_cif, declared_in_pdb
from foldatlas.atlas.importing.record import Provenance

# as in files of the databases, shortened
ALPHAFOLD = """HEADER                                            01-JUN-22
TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR PROBABLE DISEASE RESISTANCE
TITLE    2 PROTEIN AT1G58602 (Q8W3K0)
REMARK   1  TITL   HIGHLY ACCURATE PROTEIN STRUCTURE PREDICTION WITH ALPHAFOLD
REMARK   1 DISCLAIMERS
REMARK   1 ALPHAFOLD DATA, COPYRIGHT (2021) DEEPMIND TECHNOLOGIES LIMITED. THE
REMARK   1 CONSTITUTE MEDICAL OR OTHER PROFESSIONAL ADVICE. IT IS AVAILABLE FOR
REMARK   1 ACADEMIC AND COMMERCIAL PURPOSES, UNDER CC-BY 4.0 LICENCE.
ATOM      1  N   MET A   1      11.000  12.000  13.000  1.00 50.00           N
"""
ESM_ATLAS = """HEADER                                            18-OCT-22
TITLE     ESMFOLD V1 PREDICTION FOR MGYP002537940442
REMARK   1 LICENSE AND DISCLAIMERS
REMARK   1 ESM METAGENOMIC ATLAS DATA IS AVAILABLE UNDER
REMARK   1 A CC-BY-4.0 LICENSE FOR ACADEMIC AND COMMERCIAL USE.
ATOM      1  N   MET A   1      11.000  12.000  13.000  1.00 50.00           N
"""
MODELCIF = """data_AF-Q8W3K0-F1
_entry.id AF-Q8W3K0-F1
loop_
_ma_qa_metric.id
_ma_qa_metric.mode
_ma_qa_metric.name
_ma_qa_metric.software_group_id
_ma_qa_metric.type
1 global pLDDT 1 pLDDT
2 local  pLDDT 1 pLDDT
loop_
_pdbx_audit_revision_history.major_revision
_pdbx_audit_revision_history.ordinal
3 1
4 2
loop_
_pdbx_data_usage.details
_pdbx_data_usage.id
_pdbx_data_usage.name
_pdbx_data_usage.url
"Data in this file is available under a CC-BY-4.0 license." 1 CC-BY-4.0 https://creativecommons.org/licenses/by/4.0/
;ALPHAFOLD DATA, COPYRIGHT (2021) DEEPMIND TECHNOLOGIES LIMITED.
; 2 ? ?
_software.name AlphaFold
_software.version v2.0
_software.description "Structure prediction"
"""


def test_databases_are_recognised_by_their_headers() -> None:
    esm = Provenance("ESMFold v1", "", "CC-BY-4.0", "ESM Atlas")
    alphafold = Provenance("AlphaFold Monomer v2.0", "", "CC-BY-4.0", "AlphaFold DB")
    assert declared_in_pdb(ALPHAFOLD.encode()) == Declared(True, None, None, "Q8W3K0", alphafold)
    assert declared_in_pdb(ESM_ATLAS.encode()) == Declared(True, None, None, "MGYP002537940442", esm)


def test_modelcif_declares_by_its_metrics_and_usage() -> None:
    found = declared_in_cif(gemmi.cif.read_string(MODELCIF).sole_block())
    expected = Provenance("AlphaFold v2.0", "4", "CC-BY-4.0", "AlphaFold DB")
    assert found == Declared(True, None, None, "AF-Q8W3K0-F1", expected)
    without = MODELCIF.replace("2 local  pLDDT 1 pLDDT\n", "")
    assert not declared_in_cif(gemmi.cif.read_string(without).sole_block()).has_plddt


@pytest.mark.parametrize(
    "header",
    [
        "TITLE     CRYSTAL STRUCTURE OF X, SOLVED WITH AN ALPHAFOLD PREDICTION FOR X\n",
        "EXPDTA    X-RAY DIFFRACTION\nTITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR X (P1)\n",
        "REMARK   3 STARTING MODEL: ALPHAFOLD PREDICTION FOR X, PLDDT ABOVE 70\n",
        "TITLE     ALPHAFOLD\n",
    ],
)
def test_mention_of_a_program_declares_nothing(header: str) -> None:
    assert not declared_in_pdb(header.encode()).has_plddt


def test_experimental_method_outweighs_a_metric() -> None:
    content = MODELCIF + '_exptl.method "X-RAY DIFFRACTION"\n'
    assert not declared_in_cif(gemmi.cif.read_string(content).sole_block()).has_plddt


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("UNDER A CC BY-NC-SA 4.0 LICENCE", "CC-BY-NC-SA-4.0"),
        ("CC-BY-SA-4.0", "CC-BY-SA-4.0"),
        ("CC0", "CC0-1.0"),
        ("SEE HTTPS://CREATIVECOMMONS.ORG/LICENSES/BY-SA/4.0/", "CC-BY-SA-4.0"),
        ("NON-COMMERCIAL USE ONLY", ""),
    ],
)
def test_licences_are_named_as_by_spdx(text: str, licence: str) -> None:
    assert declared_in_pdb(f"REMARK   1 {text}\n".encode()).provenance.licence == licence
