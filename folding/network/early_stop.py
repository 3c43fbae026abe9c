"""Recycling that stops for each protein when its structure no longer changes.

As ColabFold's `recycle_early_stop_tolerance` (Mirdita et al. 2022): a protein is finished when a trunk pass changed the
distances between its C-alphas by less than a tolerance, so at the earliest after the second pass. Nothing is
superposed. A finished protein leaves the batch, so its result does not depend on how often the others recycle; after
the last pass all are finished.

The host reads one number for each protein and pass, so a GPU is waited for after each pass but the first and the last.

Shapes: B proteins of a batch, L residues.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from foldatlas.folding.network.tokens import Batch, of_proteins
from foldatlas.folding.network.trunk import FoldingTrunk, TrunkOutput
from foldatlas.folding.planning.chunks import slices


@dataclass(frozen=True, slots=True)
class Finished:
    """Proteins of a batch that finished after the same number of trunk passes, by their row in the batch."""

    proteins: list[int]
    passes: int
    batch: Batch
    trunk: TrunkOutput


def finished_groups(
    trunk: FoldingTrunk, initial_single_BLC: Tensor, batch: Batch, *, recycles: int, tolerance: float, rows: int
) -> Iterator[Finished]:
    """Yield the proteins of `batch` as they finish, after 2 to `recycles` + 1 passes of `trunk`.

    `tolerance` is in angstrom; other arguments as for FoldingTrunk. Read a group before asking for the next, whose
    passes may overwrite its tensors.
    """
    proteins = list(range(len(batch.mask_BL)))  # those in the tensors, by their row in the whole batch
    unfinished = list(proteins)
    done, before_BL3 = None, None
    for number in range(1, recycles + 2):
        done = trunk.next_pass(initial_single_BLC, batch.aatype_BL, batch.mask_BL, done, rows, batch.residue_index_BL)
        alpha_BL3 = done.iterations[-1].backbone.translation
        if number == recycles + 1:
            finished = unfinished
        elif before_BL3 is None:
            finished = []
        else:
            change_B = distance_change(before_BL3, alpha_BL3, batch.is_residue_BL, rows).tolist()
            is_finished = {protein for protein, change in zip(proteins, change_B, strict=True) if change < tolerance}
            finished = [protein for protein in unfinished if protein in is_finished]
        before_BL3 = alpha_BL3.clone()  # a CUDA graph writes the next pass's to the same memory
        if not finished:
            continue

        # 1. Give out the finished proteins. Those of a whole batch are not copied.
        at = [proteins.index(protein) for protein in finished]
        is_whole = len(at) == len(proteins)
        group, result = (batch, done) if is_whole else (of_proteins(batch, at), done.of_proteins(at))
        yield Finished(finished, number, group, TrunkOutput.of(result))
        del group, result  # their memory is the pair representation's

        # 2. Keep the others in the batch, and as many finished ones as give it a size that has a CUDA graph.
        unfinished = [protein for protein in unfinished if protein not in finished]
        if not unfinished:
            return
        size = (
            len(unfinished)
            if trunk.graphs is None
            else trunk.graphs.reduced(len(proteins), batch.mask_BL.shape[1], len(unfinished))
        )
        if size < len(proteins):
            fill = [protein for protein in proteins if protein not in unfinished][: size - len(unfinished)]
            at = [proteins.index(protein) for protein in unfinished + fill]
            proteins = unfinished + fill
            done, batch = done.of_proteins(at), of_proteins(batch, at)
            index = torch.tensor(at, device=alpha_BL3.device)
            initial_single_BLC, before_BL3 = initial_single_BLC[index], before_BL3[index]


def distance_change(before_BL3: Tensor, after_BL3: Tensor, mask_BL: Tensor, rows: int) -> Tensor:
    """Return the root mean square change [B] of the distances between points, in their unit.

    The mean is over all pairs where `mask_BL` is True, each residue with itself included, as in ColabFold; it is
    computed `rows` rows at a time.
    """
    sum_B = torch.zeros(len(mask_BL), dtype=torch.float64, device=mask_BL.device)
    for chunk in slices(mask_BL.shape[1], rows):
        before_BRL, after_BRL = (
            torch.cdist(x_BL3[:, chunk], x_BL3, compute_mode="donot_use_mm_for_euclid_dist")
            for x_BL3 in (before_BL3, after_BL3)
        )
        pairs_BRL = mask_BL[:, chunk, None] & mask_BL[:, None]
        squared_BRL = (after_BRL - before_BRL).square_().masked_fill_(~pairs_BRL, 0)
        sum_B += squared_BRL.sum(dim=(1, 2), dtype=torch.float64)
    return (sum_B / mask_BL.sum(dim=1).square()).sqrt_()
