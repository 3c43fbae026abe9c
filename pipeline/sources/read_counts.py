"""What is counted while the records of a source are read."""

import msgspec


class ReadCounts(msgspec.Struct, frozen=True):
    """Counts of a source, or of a range of it; those of ranges are added with `+`.

    records: records read; of contigs, genes found and contigs refused.
    with_letters: records that are accepted or too long, whose letters are a protein's or perhaps nucleotides.
    doubtful: how many of these may be either (nucleotides.Kind).
    misread: records refused as nucleotides, or, where contigs were expected, as not nucleotides.
    contigs: contigs read.
    contigs_without_genes: contigs that are valid and have no gene.
    """

    records: int = 0
    with_letters: int = 0
    doubtful: int = 0
    misread: int = 0
    contigs: int = 0
    contigs_without_genes: int = 0

    def __add__(self, other: "ReadCounts") -> "ReadCounts":
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return ReadCounts(*(a + b for a, b in zip(mine, theirs, strict=True)))

    @property
    def proteins(self) -> int:
        """Records that are proteins by their letters alone."""
        return self.with_letters - self.doubtful
