"""Training of a language model on masked residues: ESM-2's recipe (Lin et al. 2023, A.1.1).

Every update sees a batch of tokens in as many passes as it takes; each token asked for weighs the same, whatever pass
and process it falls to. Data, masks and first values are functions of the seed and the step, so a run that was killed
goes on from a checkpoint bitwise as if it had not been: on the same machine, with as many processes and threads and
tokens a pass, and as far as the device's kernels are deterministic (those of a CPU are).

Shapes: N tokens of a pack, M of them asked for.
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
from foldatlas.folding.training.precision import type_of_products
from foldatlas.folding.training.processes import Processes
from foldatlas.folding.training.run_folder import RunFolder, Saved, Say, latest, say_on_stderr
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
_MOST_LOSS: Final = 700.0  # exp of more is no float

Masked = tuple[Tokens, Tokens, Mask]  # as the model sees them, as they are, where they are asked for


@dataclass(frozen=True)
class Recipe:
    """What decides the result. `clip` is the largest norm of all gradients together, None for any."""

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
        type_of_products(self.precision)
        if self.crop < _MIN_CROP:
            raise UsageError(f"a crop of {self.crop} tokens leaves nothing to learn from: give {_MIN_CROP} or more")
        check_norm(self.clip)
        self.adamw()
        self.schedule()

    def adamw(self) -> AdamW:
        return AdamW(self.learning_rate, weight_decay=self.weight_decay)

    def schedule(self) -> Schedule:
        return Schedule(self.warm_up_steps, round(DECAY_FRACTION * self.steps), FINAL_FRACTION)

    def settings(self, corpus: Corpus) -> dict[str, Any]:
        """What the folder of the run keeps, and compares."""
        return {"kind": KIND, **asdict(self), "data": corpus.digest()}


@dataclass(frozen=True)
class Manner:
    """How a run is carried out. `recomputes`: activations are not kept for the gradients but computed twice.

    Every `log_every` updates a line of numbers, every `valid_every` also the perplexity of `most_valid` held-out
    clusters, every `save_every` a checkpoint; all three at the end as well.
    """

    tokens_per_pass: int
    recomputes: bool = False
    log_every: int = 10
    valid_every: int = 500
    save_every: int = 500
    most_valid: int = 1_000


@dataclass(frozen=True)
class Trained:
    """Where a run stands: `step` updates done; `valid_perplexity` None where nothing is held out, or not yet asked."""

    step: int
    is_done: bool
    valid_perplexity: float | None


def train(
    path: Path,
    corpus: Corpus,
    recipe: Recipe,
    manner: Manner,
    processes: Processes,
    *,
    stop: Stop | None = None,
    say: Say = say_on_stderr,
) -> Trained:
    """Begins the run at `path`, or goes on with it, until its last step or until `stop` is set; then saves.

    At the last step `path`/model.safetensors is what was learnt. Raises what RunFolder does, UsageError for a crop
    that does not fit a pass, and TrainingError when the loss is no longer a number.
    """
    if manner.tokens_per_pass < recipe.crop:
        raise UsageError(
            f"passes of {manner.tokens_per_pass:,} tokens cannot hold a crop of {recipe.crop:,}: give as many at least"
        )
    said = processes.only_first(say)
    folder = processes.open_first(lambda: RunFolder(path, recipe.settings(corpus), say=said))
    try:
        saved = latest(path, said)
        with without_values():
            model = MaskedLanguageModel(recipe.config, recomputes=manner.recomputes)
        processes.shard(model, model.esm.layers)
        model.to_empty(device=processes.device)
        optimiser = Optimiser(model.named_parameters(), recipe.adamw())
        _restore(model, optimiser, saved, recipe.seed)
        run = _Run(path, corpus, recipe, manner, processes, model, optimiser, folder, said)
        return run.until_the_end(saved.step if saved else 0, Stop() if stop is None else stop)
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
    manner: Manner
    processes: Processes
    model: MaskedLanguageModel
    optimiser: Optimiser
    folder: RunFolder | None
    say: Say

    def until_the_end(self, step: int, stop: Stop) -> Trained:
        recipe, manner = self.recipe, self.manner
        metrics = Metrics(self.path, step, say=self.say) if self.processes.is_first else None
        schedule = recipe.schedule()
        saved, start, tokens, perplexity = step, time.perf_counter(), 0, None
        self.say(
            f"{'going on after' if step else 'beginning at'} step {step:,} of {recipe.steps:,}: "
            f"{counted(len(self.corpus.training), 'cluster')} to train on, {len(self.corpus.valid):,} held out"
        )
        while step < recipe.steps and not self.processes.any(bool(stop)):
            step += 1
            factor = schedule(step)
            numbers = self._update(step, factor)
            tokens += int(numbers["tokens"])
            is_last = step == recipe.steps
            if step % manner.valid_every == 0 or is_last:
                perplexity = self.valid_perplexity()
                if perplexity is not None:
                    numbers["valid_perplexity"] = perplexity
            if metrics and (step % manner.log_every == 0 or is_last or "valid_perplexity" in numbers):
                numbers["learning_rate"] = recipe.learning_rate * factor
                numbers["tokens_per_second"] = tokens / (time.perf_counter() - start)
                metrics.log(step, **numbers)
                self.say(f"step {step:,}: " + ", ".join(f"{name} {value:,.4g}" for name, value in numbers.items()))
                start, tokens = time.perf_counter(), 0
            if step % manner.save_every == 0 and not is_last:
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
        num_asked = processes.sum(torch.tensor(sum(len(pack.at) for pack in packs), device=processes.device))
        total = torch.zeros((), dtype=torch.float64, device=processes.device)
        for one in packs:
            loss = self._loss(one)
            # Sharded gradients are averaged over processes: each weighs as much as its tokens only if multiplied back.
            (loss * processes.count / num_asked.clamp(min=1)).backward()
            total += loss.detach().double()
        mean = float(processes.sum(total) / num_asked.clamp(min=1))
        norm = float(self.optimiser.clip(recipe.clip or math.inf))
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise TrainingError(
                f"step {step:,}: loss {mean}, norm of the gradients {norm}: the run diverged; begin another with a "
                f"smaller --learning-rate than {recipe.learning_rate} or with --clip 1"
            )
        self.optimiser.step(factor)
        tokens = sum(example.length for example in examples)
        return {"loss": mean, "perplexity": math.exp(min(mean, _MOST_LOSS)), "gradient_norm": norm, "tokens": tokens}

    def valid_perplexity(self) -> float | None:
        """exp of the mean cross entropy over the masked residues of held-out clusters; None where there are none."""
        examples = sampling.held_out(self.corpus, most=self.manner.most_valid, crop=self.recipe.crop)
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
        """Those of this process, a pass at a time; as many passes as every other process has."""
        lengths = [example.length for example in examples]
        packs = pack(lengths, self.manner.tokens_per_pass, self.processes.count)
        for indices in packs[self.processes.rank :: self.processes.count]:
            yield [examples[index] for index in indices]

    def _loss(self, one: "_Pack") -> Tensor:
        """Sum of the cross entropies of a pack's masked residues."""
        device = self.processes.device
        tokens_N, at_M, wanted_M = (torch.from_numpy(part).to(device) for part in (one.seen, one.at, one.wanted))
        with self._autocast():
            logits_M33 = self.model(tokens_N, Segments(one.lengths, device), at_M)
        return F.cross_entropy(logits_M33, wanted_M, reduction="sum")

    def _autocast(self) -> torch.autocast:
        """bf16: matrix products and attention in bfloat16; weights, residual stream, LayerNorm and loss float32."""
        products = type_of_products(self.recipe.precision)
        return torch.autocast(self.processes.device.type, products, enabled=products is not None)

    def _save(self, step: int) -> None:
        """Writes a checkpoint; all processes together."""
        keep = self.processes.is_first
        tensors = {**self.model.parameters_on_host(keep=keep), **self.optimiser.state(keep=keep)}
        if self.folder is not None:
            self.folder.save(step, tensors, {})
        self.processes.wait()


@dataclass(frozen=True)
class _Pack:
    """A pass: tokens as seen [N], `at` which of them [M], what stood there [M], and each sequence's length."""

    seen: Tokens
    at: Tokens
    wanted: Tokens
    lengths: list[int]


def _joined(examples: list[Masked]) -> _Pack:
    """Sequences end to end. Of none, one token of which nothing is asked: a process must not sit a pass out."""
    if not examples:
        nothing = np.zeros(0, dtype=np.int64)
        return _Pack(np.array([CLS]), nothing, nothing, [1])
    seen, tokens, is_asked = (np.concatenate(parts) for parts in zip(*examples, strict=True))
    at = np.flatnonzero(is_asked)
    return _Pack(seen, at, tokens[at], [len(example[0]) for example in examples])
