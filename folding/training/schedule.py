"""Learning rate schedule: linear warm-up, linear decay to a fraction of the peak, then constant."""

from dataclasses import dataclass

from foldatlas.schemas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Schedule:
    """Factor of the learning rate for each update, counted from 1.

    It rises from 0 to 1 over `warm_up_steps`, decreases to `final_fraction` (0 to 1) at step `decay_until`, and is
    constant from then on.
    """

    warm_up_steps: int
    decay_until: int
    final_fraction: float

    def __post_init__(self) -> None:
        if not 0 <= self.warm_up_steps < self.decay_until:
            raise UsageError(
                f"a warm-up of {self.warm_up_steps} steps does not fit before step {self.decay_until}, where the "
                "learning rate has decayed: use fewer warm-up steps, or more steps"
            )
        if not 0 <= self.final_fraction <= 1:
            raise UsageError(f"final_fraction={self.final_fraction} must be 0 to 1: it is a fraction of the peak")

    def __call__(self, step: int) -> float:
        if step < self.warm_up_steps:
            return step / self.warm_up_steps
        passed = min(1.0, (step - self.warm_up_steps) / (self.decay_until - self.warm_up_steps))
        return 1.0 - (1.0 - self.final_fraction) * passed
