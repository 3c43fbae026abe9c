"""What is counted while the records of a source are read."""

import msgspec


class ReadCounts(msgspec.Struct, frozen=True):
    """Counts of a source, or of a range of it; those of ranges are added with `+`.

    records: records read, or genes found in contigs and contigs refused.
    proteins, misread, doubtful: accepted or too long records whose letters are a protein's; records refused as
    nucleotides, or where contigs were expected as not nucleotides; records whose letters may be either
    (nucleotides.Kind).
    contigs, contigs_without_genes: contigs read, and how many of them are good and have no gene.
    """

    records: int = 0
    proteins: int = 0
    misread: int = 0
    doubtful: int = 0
    contigs: int = 0
    contigs_without_genes: int = 0

    def __add__(self, other: "ReadCounts") -> "ReadCounts":
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return ReadCounts(*(a + b for a, b in zip(mine, theirs, strict=True)))
