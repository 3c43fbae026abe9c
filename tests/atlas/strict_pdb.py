"""A reader of PDB files by the columns of format 3.3 alone, as US-align reads them, that forgives nothing."""

from typing import NamedTuple


class Atom(NamedTuple):
    chain: str
    number: int
    residue: str
    name: str
    x: float
    y: float
    z: float
    b_factor: float
    element: str


def read_strictly(text: str) -> list[Atom]:
    """Every ATOM record. Raises ValueError for a line whose columns are not those of the format, a serial number that
    is not the next, a chain without TER, and a TER that does not name the last residue before it."""
    atoms: list[Atom] = []
    serial, open_chain, ended = 0, False, False
    for line in text.splitlines():
        if ended:
            raise ValueError(f"a line after END: {line!r}")
        if line.startswith("ATOM"):
            atom = _atom(line)
            if open_chain and atom.chain != atoms[-1].chain:
                raise ValueError(f"chain {atoms[-1].chain} has no TER")
            atoms.append(atom)
            open_chain = True
        elif line.startswith("TER"):
            last = atoms[-1]
            if line[17:26] != f"{last.residue} {last.chain}{last.number:4d}":
                raise ValueError(f"TER names {line[17:26]!r}, the last residue is {last.residue} {last.number}")
            open_chain = False
        else:
            ended = line.rstrip() == "END"
            continue
        serial += 1
        if int(line[6:11]) != serial:
            raise ValueError(f"serial number {line[6:11]} where {serial} is next")
    if open_chain or not ended:
        raise ValueError("the last chain has no TER, or the file no END")
    return atoms


def _atom(line: str) -> Atom:
    blank = [line[begin:end] for begin, end in ((11, 12), (16, 17), (20, 21), (26, 30), (66, 76), (78, 80))]
    if len(line) != 80 or line[:6] != "ATOM  " or "".join(blank).strip():
        raise ValueError(f"the columns are not those of an ATOM record: {line!r}")
    name, element = line[12:16], line[76:78].strip()
    if name[0] != " " or name[1] != element or name.strip() not in name[1:].split():
        raise ValueError(f"atom name {name!r}: an element of one letter, {element}, begins in column 14")
    if any(line[dot] != "." for dot in (34, 42, 50, 57, 63)):
        raise ValueError(f"a decimal point is out of its column: {line!r}")
    return Atom(
        line[21], int(line[22:26]), line[17:20], name.strip(), float(line[30:38]), float(line[38:46]),
        float(line[46:54]), float(line[60:66]), element
    )  # fmt: skip


def residues_seen_by_us_align(text: str) -> int:
    """US-align counts a residue for each ATOM record whose columns 13 to 16 are ` CA `."""
    return sum(line.startswith("ATOM  ") and line[12:16] == " CA " for line in text.splitlines())
