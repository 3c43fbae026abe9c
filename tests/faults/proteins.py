"""The FASTA that the harness folds, and what must become of each of its records.

Faults follow from the sequence (tests/pipeline/fake_child.py), so that what is expected is known beforehand.
"""

import random
from dataclasses import dataclass
from pathlib import Path

HARMLESS = "ARQEGHILKMPSTWYC"  # of these no word of the fake child can be spelled
PROTEINS = {"fake": 30, "nano": 16}  # that fold, by network; others are repeated, refused or, with the fake one, poison
MEMORY = 400  # residues that the fake device holds

# Word in the sequence -> what its failure says.
POISON = {
    "DEAD": "exit code 3",
    "SEGV": "SIGSEGV",
    "NAN": "not finite",
    "FAIL": "a fault of two lines",
    "": "do not fit",  # too long for the device
}
HANG = "HANG"


@dataclass(frozen=True)
class Expected:
    """What must become of a record: its state, and of a failed one what the reason says."""

    id: str
    sequence: str
    state: str
    reason: str = ""


def proteins(number: int, *, poison: bool, hang: bool = False) -> list[Expected]:
    """`number` proteins that fold, some records that are repeated or refused and, asked for, those that fail."""
    draw = random.Random(11)

    def sequence(length: int) -> str:
        return "M" + "".join(draw.choices(HARMLESS, k=length - 1))

    made = [Expected(f"p{n}", sequence(draw.randint(30, 70)), "folded") for n in range(number)]
    made.append(Expected("p0", made[0].sequence, "repeated"))
    made.append(Expected("again", made[1].sequence, "folded"))
    made.append(Expected("digit", "MK1LL", "refused"))
    made.append(Expected("p2", made[3].sequence, "refused"))
    if poison:
        for word, reason in POISON.items():
            text = sequence(45) + word + sequence(8) if word else sequence(MEMORY + 50)
            made.insert(draw.randrange(len(made) - 4), Expected(f"bad{word}", text, "failed", reason))
    if hang:
        made.append(Expected("hang", sequence(20) + HANG + sequence(9), "failed", "no answer within"))
    return made


def write(path: Path, records: list[Expected]) -> Path:
    path.write_text("".join(f">{record.id} described\n{record.sequence}\n" for record in records))
    return path
