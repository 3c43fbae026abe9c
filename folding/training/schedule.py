"""The learning rate, step by step: a linear warm-up, then a linear decay to a part of the peak, then that part."""

from dataclasses import dataclass

from foldatlas.schemas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Schedule:
    """What each update's learning rate is multiplied with; updates count from 1.

    It rises from 0 to 1 over `warm_up_steps`, falls to `final_fraction` (0 to 1) at step `decay_until`, and stays.
    """

    warm_up_steps: int
    decay_until: int
    final_fraction: float

    def __post_init__(self) -> None:
        if not 0 <= self.warm_up_steps < self.decay_until:
            raise UsageError(
                f"a warm-up of {self.warm_up_steps} steps does not fit before step {self.decay_until}, where the "
                "learning rate has decayed: take fewer warm-up steps or more steps"
            )
        if not 0 <= self.final_fraction <= 1:
            raise UsageError(f"final_fraction={self.final_fraction} must be 0 to 1: it is a part of the peak")

    def __call__(self, step: int) -> float:
        if step < self.warm_up_steps:
            return step / self.warm_up_steps
        passed = min(1.0, (step - self.warm_up_steps) / (self.decay_until - self.warm_up_steps))
        return 1.0 - (1.0 - self.final_fraction) * passed
