"""Training of a masked language model: ESM-2's recipe (Lin et al. 2023, A.1.1).

Each update takes one batch of tokens, in as many passes as memory requires; every masked token has the same weight in
the loss, in any pass and process. Data, masks and initial values are functions of the seed and the step, so a
resumed run gives bitwise the same weights as an uninterrupted one: on the same machine, with the same number of
processes, threads and tokens per pass, and as far as the device's kernels are deterministic (those of a CPU are).

Shapes: N tokens of a pack, M masked positions among them.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.network.kernels.self_check import approve_packed_attention
from foldatlas.folding.network.layout import without_values
from foldatlas.folding.network.segments import Segments
from foldatlas.folding.network.tokens import CLS
from foldatlas.folding.training.data import sampling
from foldatlas.folding.training.data.corpus import Corpus
from foldatlas.folding.training.data.masking import Mask, Tokens
from foldatlas.folding.training.data.packing import pack
from foldatlas.folding.training.masked_model import MaskedLanguageModel, save
from foldatlas.folding.training.metrics import Metrics
from foldatlas.folding.training.optimisers import AdamW, Optimiser, check_norm
from foldatlas.folding.training.precision import autocast_dtype
from foldatlas.folding.training.processes import Processes
from foldatlas.folding.training.run_folder import Log, RunFolder, Saved, latest, log_to_stderr
from foldatlas.folding.training.schedule import Schedule
from foldatlas.folding.training.stopping import Stop
from foldatlas.folding.weights.published import MODEL
from foldatlas.schemas.errors import TrainingError, UsageError
from foldatlas.schemas.wording import counted

KIND: Final = "masked language model"
# After Lin et al. 2023, A.1.1: a linear decay to a tenth of the peak, over nine tenths of the training.
DECAY_FRACTION: Final = 0.9
FINAL_FRACTION: Final = 0.1
_MIN_CROP: Final = 16  # tokens
_MAX_LOSS: Final = 700.0  # exp() of a greater loss overflows

Masked = tuple[Tokens, Tokens, Mask]  # model input, true tokens, and the positions to predict


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the result. `clip` is the largest global gradient norm; None turns clipping off."""

    config: LanguageModelConfig
    steps: int
    tokens_per_batch: int
    learning_rate: float
    warm_up_steps: int
    weight_decay: float
    crop: int
    precision: str
    seed: int
    clip: float | None

    def __post_init__(self) -> None:
        autocast_dtype(self.precision)
        if self.crop < _MIN_CROP:
            raise UsageError(f"a crop of {self.crop} tokens is too short to train on: give {_MIN_CROP} or more")
        check_norm(self.clip)
        self.adamw()
        self.schedule()

    def adamw(self) -> AdamW:
        return AdamW(self.learning_rate, weight_decay=self.weight_decay)

    def schedule(self) -> Schedule:
        return Schedule(self.warm_up_steps, round(DECAY_FRACTION * self.steps), FINAL_FRACTION)

    def settings(self, corpus: Corpus) -> dict[str, Any]:
        """Return the settings that the run's folder records and compares."""
        return {"kind": KIND, **asdict(self), "data": corpus.digest()}


@dataclass(frozen=True)
class RunSettings:
    """How a run is carried out.

    `recompute` stores no activations and computes them again for the gradients. Metrics are logged every `log_every`
    updates, the perplexity of up to `max_valid` held-out clusters every `valid_every`, and a checkpoint is saved every
    `save_every`; all three at the end as well.
    """

    tokens_per_pass: int
    recompute: bool = False
    log_every: int = 10
    valid_every: int = 500
    save_every: int = 500
    max_valid: int = 1_000


@dataclass(frozen=True)
class Trained:
    """State of a run after `step` updates. `valid_perplexity` is None if no cluster is held out or none was scored."""

    step: int
    is_done: bool
    valid_perplexity: float | None


def train(
    path: Path,
    corpus: Corpus,
    recipe: Recipe,
    settings: RunSettings,
    processes: Processes,
    *,
    stop: Stop | None = None,
    log: Log = log_to_stderr,
) -> Trained:
    """Start or resume the run at `path`, train to its last step or until `stop` is set, and save a checkpoint.

    After the last step `path`/model.safetensors is the trained model. Raise what RunFolder raises, UsageError for a
    crop that does not fit into a pass, and TrainingError if the loss is no longer finite.
    """
    if settings.tokens_per_pass < recipe.crop:
        raise UsageError(
            f"passes of {settings.tokens_per_pass:,} tokens cannot hold a crop of {recipe.crop:,}: give "
            f"--tokens-per-pass {recipe.crop} or more"
        )
    log = processes.only_first(log)
    folder = processes.run_on_first(lambda: RunFolder(path, recipe.settings(corpus), log=log))
    try:
        saved = latest(path, log)
        with without_values():
            model = MaskedLanguageModel(recipe.config, recomputes=settings.recompute)
        processes.shard(model, model.esm.layers)
        model.to_empty(device=processes.device)
        optimiser = Optimiser(model.named_parameters(), recipe.adamw())
        _restore(model, optimiser, saved, recipe.seed)
        approve_packed_attention(model.esm, autocast_dtype(recipe.precision))
        run = _Run(path, corpus, recipe, settings, processes, model, optimiser, folder, log)
        return run.train(saved.step if saved else 0, Stop() if stop is None else stop)
    finally:
        if folder is not None:
            folder.close()


def _restore(model: MaskedLanguageModel, optimiser: Optimiser, saved: Saved | None, seed: int) -> None:
    if saved is None:
        model.initialise(seed)
        return
    model.load(saved.tensors)
    optimiser.load({name: tensor for name, tensor in saved.tensors.items() if ":" in name})  # PARAMETER:QUANTITY


@dataclass
class _Run:
    path: Path
    corpus: Corpus
    recipe: Recipe
    settings: RunSettings
    processes: Processes
    model: MaskedLanguageModel
    optimiser: Optimiser
    folder: RunFolder | None
    log: Log

    def train(self, step: int, stop: Stop) -> Trained:
        """Train from `step` to the last step or until `stop` is set."""
        recipe, settings = self.recipe, self.settings
        metrics = Metrics(self.path, step, log=self.log) if self.processes.is_first else None
        schedule = recipe.schedule()
        saved, start, tokens, perplexity = step, time.perf_counter(), 0, None
        self.log(
            f"{'resuming after' if step else 'starting at'} step {step:,} of {recipe.steps:,}: "
            f"{counted(len(self.corpus.training), 'cluster')} to train on, {len(self.corpus.valid):,} held out"
        )
        while step < recipe.steps and not self.processes.any(bool(stop)):
            step += 1
            factor = schedule(step)
            numbers = self._update(step, factor)
            tokens += int(numbers["tokens"])
            is_last = step == recipe.steps
            if step % settings.valid_every == 0 or is_last:
                perplexity = self.valid_perplexity()
                if perplexity is not None:
                    numbers["valid_perplexity"] = perplexity
            if metrics and (step % settings.log_every == 0 or is_last or "valid_perplexity" in numbers):
                numbers["learning_rate"] = recipe.learning_rate * factor
                numbers["tokens_per_second"] = tokens / (time.perf_counter() - start)
                metrics.log(step, **numbers)
                self.log(f"step {step:,}: " + ", ".join(f"{name} {value:,.4g}" for name, value in numbers.items()))
                start, tokens = time.perf_counter(), 0
            if step % settings.save_every == 0 and not is_last:
                self._save(step)
                saved = step
        if step > saved:
            self._save(step)
        if step == recipe.steps:
            parameters = self.model.parameters_on_host(keep=self.processes.is_first)
            if self.processes.is_first:
                save(parameters, recipe.config, self.path / MODEL)
        self.processes.wait()
        if metrics:
            metrics.close()
        return Trained(step, step == recipe.steps, perplexity)

    def _update(self, step: int, factor: float) -> dict[str, float]:
        recipe, processes = self.recipe, self.processes
        examples = sampling.batch(
            self.corpus, seed=recipe.seed, step=step, tokens=recipe.tokens_per_batch, crop=recipe.crop
        )
        packs = [
            _joined([sampling.masked(self.corpus, example, seed=recipe.seed, step=step) for example in own])
            for own in self._own(examples)
        ]
        num_masked = processes.sum(torch.tensor(sum(len(pack.at) for pack in packs), device=processes.device))
        total = torch.zeros((), dtype=torch.float64, device=processes.device)
        for one in packs:
            loss = self._loss(one)
            # FSDP averages gradients over processes; multiplying by their number makes it a sum over tokens again.
            (loss * processes.count / num_masked.clamp(min=1)).backward()
            total += loss.detach().double()
        mean = float(processes.sum(total) / num_masked.clamp(min=1))
        norm = float(self.optimiser.clip(recipe.clip or math.inf))
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise TrainingError(
                f"step {step:,}: loss {mean}, gradient norm {norm}: the run diverged; start a new run with a "
                f"--learning-rate below {recipe.learning_rate} or with --clip 1"
            )
        self.optimiser.step(factor)
        tokens = sum(example.length for example in examples)
        return {"loss": mean, "perplexity": math.exp(min(mean, _MAX_LOSS)), "gradient_norm": norm, "tokens": tokens}

    def valid_perplexity(self) -> float | None:
        """Return exp of the mean cross entropy at masked residues of held-out clusters; None if none is held out."""
        examples = sampling.held_out(self.corpus, max_clusters=self.settings.max_valid, crop=self.recipe.crop)
        if not examples:
            return None
        sums = torch.zeros(2, dtype=torch.float64, device=self.processes.device)
        with torch.no_grad():
            for own in self._own(examples):
                one = _joined([sampling.masked_held_out(self.corpus, example) for example in own])
                sums += torch.stack((self._loss(one).double(), sums.new_tensor(len(one.at))))
        loss, number = self.processes.sum(sums).tolist()
        return math.exp(loss / number) if number else None

    def _own(self, examples: list[sampling.Example]) -> Iterator[list[sampling.Example]]:
        """Yield the examples of this process, one pass at a time. All processes have the same number of passes."""
        lengths = [example.length for example in examples]
        packs = pack(lengths, self.settings.tokens_per_pass, self.processes.count)
        for indices in packs[self.processes.rank :: self.processes.count]:
            yield [examples[index] for index in indices]

    def _loss(self, one: "_Pack") -> Tensor:
        """Return the sum of the cross entropies at a pack's masked residues."""
        device = self.processes.device
        tokens_N, at_M, target_M = (torch.from_numpy(part).to(device) for part in (one.seen, one.at, one.target))
        with self._autocast():
            logits_M33 = self.model(tokens_N, Segments(one.lengths, device), at_M)
        return F.cross_entropy(logits_M33, target_M, reduction="sum")

    def _autocast(self) -> torch.autocast:
        """bf16: matrix products and attention in bfloat16; weights, residual stream, LayerNorm and loss in float32."""
        dtype = autocast_dtype(self.recipe.precision)
        return torch.autocast(self.processes.device.type, dtype, enabled=dtype is not None)

    def _save(self, step: int) -> None:
        """Write a checkpoint. Collective: every process must call it."""
        keep = self.processes.is_first
        tensors = {**self.model.parameters_on_host(keep=keep), **self.optimiser.state(keep=keep)}
        if self.folder is not None:
            self.folder.save(step, tensors, {})
        self.processes.wait()


@dataclass(frozen=True)
class _Pack:
    """One pass: model input [N], masked positions `at` [M], true tokens there [M], and the length of each sequence."""

    seen: Tokens
    at: Tokens
    target: Tokens
    lengths: list[int]


def _joined(examples: list[Masked]) -> _Pack:
    """Concatenate sequences into one pack.

    Without sequences the pack is one token with nothing to predict: FSDP needs every process to take part in each pass.
    """
    if not examples:
        nothing = np.zeros(0, dtype=np.int64)
        return _Pack(np.array([CLS]), nothing, nothing, [1])
    seen, tokens, is_asked = (np.concatenate(parts) for parts in zip(*examples, strict=True))
    at = np.flatnonzero(is_asked)
    return _Pack(seen, at, tokens[at], [len(example[0]) for example in examples])
