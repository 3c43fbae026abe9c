"""Training the folding head: trunk, structure module and heads on experimental chains.

Jumper et al. 2021, supplement 1.11, and Lin et al. 2023, A.3: a frozen language model (unless all parts are trained),
cropped chains, a random number of recycles with gradients through the last pass only, and averaged weights. Recipe
holds everything that determines the result. Each step is a function of the recipe and the step number, so a run
resumed after a kill gives bitwise the same weights as an uninterrupted one.

Several processes (torchrun) share the crops of each step and sum their gradients. Weights are replicated, not sharded:
the published model's head and its optimiser state take 11 GB.
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
from foldatlas.folding.training.precision import autocast_dtype
from foldatlas.folding.training.processes import Processes
from foldatlas.folding.training.run_folder import Log, RunFolder, latest, log_to_stderr
from foldatlas.folding.training.schedule import Schedule
from foldatlas.folding.training.stopping import Stop
from foldatlas.schemas.errors import TrainingError, UsageError
from foldatlas.schemas.wording import counted

KIND: Final = "folding head"
# Residue pairs per forward pass. On a CPU the working set should fit the caches: a batch of two crops of 128 took 1.4
# times as long as the two crops in turn.
PAIRS_PER_PASS: Final = {"cpu": 1 << 14, "cuda": 1 << 30}
MAX_SKIPPED: Final = 10  # consecutive updates with non-finite gradients
CONFIDENCE_HEADS: Final = ("lddt_head.", "ptm_head.")
LANGUAGE_MODEL: Final = "esm."

PARTS: Final = ("folding", "all", "confidence")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines the final weights, apart from the data and the initial weights."""

    phases: tuple[Phase, ...]
    loss: LossWeights
    adamw: AdamW
    muon: Muon | None
    warm_up_steps: int
    final_fraction: float = 0.0
    clip_norm: float = 0.1
    average_decay: float = 0.999
    recycles: int = 3  # maximum; drawn anew for each step
    parts: str = "folding"  # which parameters are trained: one of PARTS
    precision: str = "fp32"  # or bf16: matrix products in the trunk's blocks
    seed: int = 0

    def __post_init__(self) -> None:
        if self.parts not in PARTS:
            raise UsageError(f"{self.parts!r} cannot be trained: give one of {', '.join(PARTS)}")
        autocast_dtype(self.precision)
        if not 0 <= self.average_decay < 1:
            raise UsageError(f"the average decay {self.average_decay} is out of range: give 0 or more, and less than 1")
        if self.recycles < 0:
            raise UsageError(f"recycles={self.recycles} must be 0 or more: it counts the trunk passes after the first")
        check_norm(self.clip_norm)

    @property
    def num_steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run is carried out; nothing here changes its result.

    `recompute` stores no activations and computes them again for the gradients: slower, with far less memory. The
    intervals count updates; `valid_every` 0 turns validation off.
    """

    recompute: bool = False
    log_every: int = 50
    valid_every: int = 500
    save_every: int = 500


DEFAULT_SETTINGS: Final = RunSettings()


class FoldTrainer:
    """A training run in the folder `run`: a new one, or one that resumes from its latest checkpoint.

    `network` holds the initial weights and is modified. `identity` describes the initial weights and the data; a
    resumed run must have the same. `valid` are the validation chains. Raises what RunFolder raises.
    """

    def __init__(
        self,
        network: ESMFold,
        chains: Sequence[Chain],
        recipe: Recipe,
        run: Path,
        identity: dict[str, str],
        processes: Processes,
        *,
        settings: RunSettings = DEFAULT_SETTINGS,
        valid: Sequence[Chain] = (),
        log: Log = log_to_stderr,
    ):
        self.network = network
        self._chains = chains
        self._valid = valid
        self._recipe = recipe
        self._settings = settings
        self._log = log
        self._processes = processes
        for phase in recipe.phases:
            if phase.batch % processes.count:
                raise UsageError(
                    f"phase {phase} has {counted(phase.batch, 'crop')} per step, which {processes.count} processes "
                    f"cannot share evenly: take a multiple of {processes.count}"
                )
        recycles = range(recipe.recycles + 1)
        self._loss = recipe.loss
        if recipe.parts == "confidence":  # heads score what folding gives, so with the same number of passes
            self._loss = LossWeights(plddt=recipe.loss.plddt, aligned_error=recipe.loss.aligned_error)
            recycles = range(recipe.recycles, recipe.recycles + 1)
        self._sampler = CropSampler(chains, recipe.phases, seed=recipe.seed, recycles=recycles)
        network.trunk.checkpoint = settings.recompute
        network.trunk.autocast = autocast_dtype(recipe.precision)
        network.requires_grad_(False)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(_is_trained(name, recipe.parts))
        self._parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._optimiser = Optimiser(self._parameters.items(), recipe.adamw, recipe.muon, _is_matrix)
        self._average = Average(self._parameters.items(), recipe.average_decay)
        self._schedule = Schedule(recipe.warm_up_steps, recipe.num_steps, recipe.final_fraction)
        self.step = 0  # updates done
        self._saved = 0  # step of the newest checkpoint
        self._skipped = 0  # consecutive updates, up to this one, that were skipped
        recorded = {"kind": KIND, **_recipe_settings(recipe), **identity}
        self._folder = processes.run_on_first(lambda: RunFolder(run, recorded, log=log))
        self._restore(run)
        self._metrics = Metrics(run, self.step, log=log) if processes.is_first else None

    def train(self, stop: Stop) -> bool:
        """Train to the last step or until `stop` is set, and save a checkpoint in either case.

        Return True if the run is complete; the network then has the averaged weights. Each logged line has the means
        over the steps since the previous line, or since this process started. Raise TrainingError if the run diverges.
        """
        log_every, valid_every, save_every = (
            self._settings.log_every,
            self._settings.valid_every,
            self._settings.save_every,
        )
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
                self._log_metrics(shown)
            stopping = self._processes.any(bool(stop))
            if stopping or self.step % save_every == 0:
                self.save()
            if stopping:
                return False
        self.save()
        self._assign(self._average.values)
        if not all(bool(parameter.isfinite().all()) for parameter in self._parameters.values()):
            raise TrainingError("the weights are no longer finite: start again with a lower learning rate")
        return True

    def _update(self) -> dict[str, float]:
        """Make one update; return the mean losses over its crops and the gradient norm."""
        self.step += 1
        step = self._sampler.step(self.step)
        crops = step.crops[self._processes.rank :: self._processes.count]
        named: dict[str, Tensor] = {}
        for part in group_into_passes(crops, PAIRS_PER_PASS[self._device.type]):
            losses = self._losses(part, step.recycles)
            (losses["total"].sum() / len(step.crops)).backward()
            for name, loss in losses.items():
                named[name] = named.get(name, 0) + loss.detach().sum() / len(step.crops)
        gradients = []
        for parameter in self._parameters.values():
            if parameter.grad is None:  # no output of this step depends on it
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        self._sum_over_processes([*named.values(), *gradients])
        norm = self._optimiser.clip(self._recipe.clip_norm)
        if torch.isfinite(norm):
            self._skipped = 0
            self._optimiser.step(self._schedule(self.step))
            self._average.update(self.step)
        else:
            self._skip()
        return {name: loss.item() for name, loss in named.items()} | {"gradient_norm": norm.item()}

    def _skip(self) -> None:
        """Skip an update whose gradient is not finite. Raise TrainingError after too many in a row."""
        self._skipped += 1
        for parameter in self._parameters.values():
            parameter.grad = None
        self._log(f"step {self.step:,}: the gradient is not finite, update skipped")
        if self._skipped >= MAX_SKIPPED:
            raise TrainingError(
                f"{MAX_SKIPPED} updates in a row, up to step {self.step:,}, had non-finite gradients: start again with "
                "a lower learning rate"
            )

    def _losses(self, crops: Sequence[Crop], recycles: int) -> dict[str, Tensor]:
        examples = make_examples(self._chains, crops, self._device)
        outputs = forward(self.network, examples, recycles, train_language_model=self._recipe.parts == "all")
        return structure_loss(outputs, examples.targets, self._loss)

    @torch.no_grad()
    def validate(self) -> float:
        """Return the mean C-alpha lDDT (0 to 1) of the validation chains, folded uncropped with averaged weights."""
        current = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._assign(self._average.values)
        total = 0.0
        for number, chain in enumerate(self._valid):
            if number % self._processes.count == self._processes.rank:
                examples = make_examples([chain], [Crop(0, 0, len(chain.sequence))], self._device)
                outputs = forward(self.network, examples, self._recipe.recycles, train_language_model=False)
                targets = examples.targets
                lddt_BL, mask_BL = alpha_lddt(outputs.frames[-1].translation, targets.alpha_BL3, targets.alpha_mask_BL)
                total += (lddt_BL * mask_BL).sum().item() / max(1, int(mask_BL.sum()))
        self._assign(current)
        return self._processes.sum(torch.tensor(total, device=self._device)).item() / len(self._valid)

    def save(self) -> None:
        """Write a checkpoint, unless the newest one is of this step."""
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
        saved = latest(run, self._log)
        if saved is None:
            return
        self._assign(_with_prefix("parameter/", saved.tensors))
        self._average.load(_with_prefix("average/", saved.tensors))
        self._optimiser.load(_with_prefix("optimiser/", saved.tensors))
        self.step, self._skipped = saved.step, saved.state["skipped"]
        self._saved = self.step
        self._log(f"resuming after step {self.step:,} of {self._recipe.num_steps:,}")

    @torch.no_grad()
    def _assign(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])

    def _sum_over_processes(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self._processes.count > 1:
            flat = self._processes.sum(torch.cat([tensor.reshape(-1) for tensor in tensors]))
            for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def _log_metrics(self, values: dict[str, float]) -> None:
        if self._metrics is None:
            return
        self._metrics.log(self.step, **values)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._log(f"step {self.step:,} of {self._recipe.num_steps:,}  {shown}")


def group_into_passes(crops: Sequence[Crop], max_pairs: int) -> list[list[Crop]]:
    """Group `crops`, in order, into passes of at most `max_pairs` residue pairs with padding, or a single crop."""
    passes: list[list[Crop]] = []
    for crop in crops:
        if passes and max(other.length for other in [*passes[-1], crop]) ** 2 * (len(passes[-1]) + 1) <= max_pairs:
            passes[-1].append(crop)
        else:
            passes.append([crop])
    return passes


def _is_trained(name: str, parts: str) -> bool:
    """Return whether training `parts` updates the parameter `name`."""
    if parts == "confidence":
        return name.startswith(CONFIDENCE_HEADS)
    return parts == "all" or not name.startswith(LANGUAGE_MODEL)


def _is_matrix(name: str) -> bool:
    """Return whether Muon may update this two-dimensional weight: no embedding table, and no head that gives logits."""
    return name.startswith(("trunk.", "esm_s_mlp.")) and "embed" not in name and "recycle_disto" not in name


def _recipe_settings(recipe: Recipe) -> dict[str, object]:
    return {**asdict(recipe), "phases": [str(phase) for phase in recipe.phases]}


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def digest_of_chains(chains: Sequence[Chain]) -> str:
    """Return the sha256 of everything in `chains` that training reads; a resumed run must have the same."""
    total = hashlib.sha256()
    for chain in chains:
        total.update(f"{chain.name}\t{chain.cluster}\t{chain.sequence}\n".encode())
        for atoms in (chain.positions_LA3, chain.observed_LA):
            total.update(np.ascontiguousarray(atoms).data)
    return total.hexdigest()
