"""Training the folding head: trunk, structure module and heads on experimental chains.

After Jumper et al. 2021, supplement 1.11, and Lin et al. 2023, A.3: a language model that is not trained (unless asked
for), crops, a random number of recycles of which the last pass has gradients, averaged weights. What decides the
result is in Recipe; every step is a function of it and of the step's number, so a run that was killed goes on
bitwise as if it had not been.

Several processes (torchrun) share each step's crops and average their gradients. Weights are not cut over them: the
head of the released model and its optimiser take 11 GB.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from foldatlas.folding.compare.experimental import Chain
from foldatlas.folding.network.esmfold import ESMFold
from foldatlas.folding.training.average import Average
from foldatlas.folding.training.data.crops import Crop, CropSampler, Phase
from foldatlas.folding.training.forward import forward, make_examples
from foldatlas.folding.training.losses.lddt_loss import alpha_lddt
from foldatlas.folding.training.losses.structure_loss import LossWeights, structure_loss
from foldatlas.folding.training.metrics import Metrics
from foldatlas.folding.training.optimisers import AdamW, Muon, Optimiser, check_norm
from foldatlas.folding.training.precision import type_of_products
from foldatlas.folding.training.processes import Processes
from foldatlas.folding.training.run_folder import RunFolder, Say, latest, say_on_stderr
from foldatlas.folding.training.schedule import Schedule
from foldatlas.folding.training.stopping import Stop
from foldatlas.schemas.errors import TrainingError, UsageError
from foldatlas.schemas.wording import counted

KIND: Final = "folding head"
# Pairs of residues in one pass through the network. What a CPU works on should stay in its caches: two crops of 128
# together took 1.4 times as long as one after the other.
PAIRS_A_PASS: Final = {"cpu": 1 << 14, "cuda": 1 << 30}
MAX_SKIPPED: Final = 10  # updates in a row whose gradients are not finite
CONFIDENCE_HEADS: Final = ("lddt_head.", "ptm_head.")
LANGUAGE_MODEL: Final = "esm."

PARTS: Final = ("folding", "all", "confidence")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the weights that a run ends with, beside its data and the weights it begins with."""

    phases: tuple[Phase, ...]
    loss: LossWeights
    adamw: AdamW
    muon: Muon | None
    warm_up_steps: int
    final_fraction: float = 0.0
    clip_norm: float = 0.1
    average_decay: float = 0.999
    recycles: int = 3  # at most, in training
    parts: str = "folding"  # of PARTS: what changes
    precision: str = "fp32"  # or bf16: the products of the trunk's blocks
    seed: int = 0

    def __post_init__(self) -> None:
        if self.parts not in PARTS:
            raise UsageError(f"{self.parts!r} cannot be trained: give one of {', '.join(PARTS)}")
        type_of_products(self.precision)
        if not 0 <= self.average_decay < 1:
            raise UsageError(f"an average that keeps {self.average_decay} of itself a step: give 0 to below 1")
        if self.recycles < 0:
            raise UsageError(f"recycles={self.recycles} must be 0 or more: it counts the trunk passes after the first")
        check_norm(self.clip_norm)

    @property
    def num_steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


class FoldTrainer:
    """One run in the folder `run`: new, or where it was.

    `network` holds the weights to begin with and is changed. `identity` says what these and the data are: a run that
    goes on must have the same. Raises what RunFolder raises.
    """

    def __init__(
        self,
        network: ESMFold,
        chains: Sequence[Chain],
        recipe: Recipe,
        run: Path,
        identity: dict[str, str],
        here: Processes,
        *,
        valid: Sequence[Chain] = (),
        recompute: bool = False,
        say: Say = say_on_stderr,
    ):
        self.network = network
        self._chains = chains
        self._valid = valid
        self._recipe = recipe
        self._say = say
        self._here = here
        for phase in recipe.phases:
            if phase.batch % self._here.count:
                raise UsageError(
                    f"phase {phase} has {counted(phase.batch, 'crop')} a step, which {self._here.count} processes "
                    f"cannot share evenly: take a multiple of {self._here.count}"
                )
        recycles = range(recipe.recycles + 1)
        self._loss = recipe.loss
        if recipe.parts == "confidence":  # of what folding gives, so with as many passes as folding takes
            self._loss = LossWeights(plddt=recipe.loss.plddt, aligned_error=recipe.loss.aligned_error)
            recycles = range(recipe.recycles, recipe.recycles + 1)
        self._sampler = CropSampler(chains, recipe.phases, seed=recipe.seed, recycles=recycles)
        network.trunk.checkpoint = recompute
        network.trunk.autocast = type_of_products(recipe.precision)
        network.requires_grad_(False)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(_changes(name, recipe.parts))
        self._parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._optimiser = Optimiser(self._parameters.items(), recipe.adamw, recipe.muon, _is_matrix)
        self._average = Average(self._parameters.items(), recipe.average_decay)
        self._schedule = Schedule(recipe.warm_up_steps, recipe.num_steps, recipe.final_fraction)
        self.step = 0  # updates done
        self._saved = 0  # of them, in the newest checkpoint
        self._skipped = 0  # the last of them, in a row, that were not applied
        settings = {"kind": KIND, **_plain(recipe), **identity}
        self._folder = here.open_first(lambda: RunFolder(run, settings, say=say))
        self._restore(run)
        self._metrics = Metrics(run, self.step, say=say) if self._here.is_first else None

    def train(self, stop: Stop, *, save_every: int, log_every: int, valid_every: int) -> bool:
        """Goes on to the last step, or until asked to stop; saves either way. True: the run is done, and the network
        has the averaged weights.

        A line of the log has the means over the steps since the line before it, or since this process began.
        Raises TrainingError for a run that diverged.
        """
        began, since = time.monotonic(), self.step
        sums: dict[str, float] = {}
        while self.step < self._recipe.num_steps:
            losses = self._update()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            shown: dict[str, float] = {}
            if self.step % log_every == 0 or self.step == self._recipe.num_steps:
                steps, seconds = self.step - since, time.monotonic() - began
                shown = {name: value / steps for name, value in sums.items()} | {"steps_per_second": steps / seconds}
                began, since, sums = time.monotonic(), self.step, {}
            if valid_every and self._valid and self.step % valid_every == 0:
                shown["valid_lddt"] = self.validate()
            if shown:
                self._log(shown)
            stopping = self._here.any(bool(stop))
            if stopping or self.step % save_every == 0:
                self.save()
            if stopping:
                return False
        self.save()
        self._put(self._average.values)
        if not all(bool(parameter.isfinite().all()) for parameter in self._parameters.values()):
            raise TrainingError("the weights are no longer finite numbers: begin again with a lower learning rate")
        return True

    def _update(self) -> dict[str, float]:
        """One update; the mean losses of its crops and the norm of the gradient."""
        self.step += 1
        step = self._sampler.step(self.step)
        crops = step.crops[self._here.rank :: self._here.count]
        named: dict[str, Tensor] = {}
        for part in in_passes(crops, PAIRS_A_PASS[self._device.type]):
            losses = self._losses(part, step.recycles)
            (losses["total"].sum() / len(step.crops)).backward()
            for name, loss in losses.items():
                named[name] = named.get(name, 0) + loss.detach().sum() / len(step.crops)
        gradients = []
        for parameter in self._parameters.values():
            if parameter.grad is None:  # of what this step's outputs do not read
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        self._add_up([*named.values(), *gradients])
        norm = self._optimiser.clip(self._recipe.clip_norm)
        if torch.isfinite(norm):
            self._skipped = 0
            self._optimiser.step(self._schedule(self.step))
            self._average.update(self.step)
        else:
            self._skip()
        return {name: loss.item() for name, loss in named.items()} | {"gradient_norm": norm.item()}

    def _skip(self) -> None:
        """Leaves an update out whose gradient is not finite; too many in a row are an error."""
        self._skipped += 1
        for parameter in self._parameters.values():
            parameter.grad = None
        self._say(f"step {self.step:,}: the gradient is not finite, the update is left out")
        if self._skipped >= MAX_SKIPPED:
            raise TrainingError(
                f"{MAX_SKIPPED} updates in a row, up to step {self.step:,}, had gradients that are not finite: begin "
                "again with a lower learning rate"
            )

    def _losses(self, crops: Sequence[Crop], recycles: int) -> dict[str, Tensor]:
        examples = make_examples(self._chains, crops, self._device)
        outputs = forward(self.network, examples, recycles, train_language_model=self._recipe.parts == "all")
        return structure_loss(outputs, examples.targets, self._loss)

    @torch.no_grad()
    def validate(self) -> float:
        """Mean lDDT of C-alphas (0-1) over the validation chains, folded whole with the averaged weights."""
        own = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._put(self._average.values)
        total = 0.0
        for number, chain in enumerate(self._valid):
            if number % self._here.count == self._here.rank:
                examples = make_examples([chain], [Crop(0, 0, len(chain.sequence))], self._device)
                outputs = forward(self.network, examples, self._recipe.recycles, train_language_model=False)
                targets = examples.targets
                lddt_BL, mask_BL = alpha_lddt(outputs.frames[-1].translation, targets.alpha_BL3, targets.alpha_mask_BL)
                total += (lddt_BL * mask_BL).sum().item() / max(1, int(mask_BL.sum()))
        self._put(own)
        return self._here.sum(torch.tensor(total, device=self._device)).item() / len(self._valid)

    def save(self) -> None:
        """Writes a checkpoint, unless the newest is of this step."""
        if self._folder is not None and self.step > self._saved:
            tensors = {
                **{f"parameter/{name}": parameter for name, parameter in self._parameters.items()},
                **{f"average/{name}": value for name, value in self._average.values.items()},
                **{f"optimiser/{key}": value for key, value in self._optimiser.state().items()},
            }
            self._folder.save(self.step, tensors, {"skipped": self._skipped})
            self._saved = self.step

    def close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
        if self._folder is not None:
            self._folder.close()

    @property
    def _device(self) -> torch.device:
        return self.network.embedding.weight.device

    def _restore(self, run: Path) -> None:
        saved = latest(run, self._say)
        if saved is None:
            return
        of = {kind: _under(f"{kind}/", saved.tensors) for kind in ("parameter", "average", "optimiser")}
        self._put(of["parameter"])
        self._average.load(of["average"])
        self._optimiser.load(of["optimiser"])
        self.step, self._skipped = saved.step, saved.state["skipped"]
        self._saved = self.step
        self._say(f"goes on after step {self.step:,} of {self._recipe.num_steps:,}")

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])

    def _add_up(self, tensors: list[Tensor]) -> None:
        """Each tensor becomes its sum over all processes."""
        if self._here.count > 1:
            flat = self._here.sum(torch.cat([tensor.reshape(-1) for tensor in tensors]))
            for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def _log(self, values: dict[str, float]) -> None:
        if self._metrics is None:
            return
        self._metrics.log(self.step, **values)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._say(f"step {self.step:,} of {self._recipe.num_steps:,}  {shown}")


def in_passes(crops: Sequence[Crop], most_pairs: int) -> list[list[Crop]]:
    """Crops in passes of at most so many pairs of residues, padding included, or one crop; in their order."""
    passes: list[list[Crop]] = []
    for crop in crops:
        if passes and max(other.length for other in [*passes[-1], crop]) ** 2 * (len(passes[-1]) + 1) <= most_pairs:
            passes[-1].append(crop)
        else:
            passes.append([crop])
    return passes


def _changes(name: str, parts: str) -> bool:
    """Whether a training of `parts` changes the parameter `name`."""
    if parts == "confidence":
        return name.startswith(CONFIDENCE_HEADS)
    return parts == "all" or not name.startswith(LANGUAGE_MODEL)


def _is_matrix(name: str) -> bool:
    """Whether Muon may take a weight with two axes: not what is looked up, and not heads, whose output is logits."""
    return name.startswith(("trunk.", "esm_s_mlp.")) and "embed" not in name and "recycle_disto" not in name


def _plain(recipe: Recipe) -> dict[str, object]:
    return {**asdict(recipe), "phases": [str(phase) for phase in recipe.phases]}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def digest_of(chains: Sequence[Chain]) -> str:
    """sha256 of all that is learnt from: whether a run goes on with the chains that it began with."""
    total = hashlib.sha256()
    for chain in chains:
        total.update(f"{chain.name}\t{chain.cluster}\t{chain.sequence}\n".encode())
        for atoms in (chain.positions_LA3, chain.observed_LA):
            total.update(np.ascontiguousarray(atoms).data)
    return total.hexdigest()
