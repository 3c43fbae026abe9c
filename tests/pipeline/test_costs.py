"""What planning and deadlines take from what was measured."""

from collections.abc import Callable
from pathlib import Path

import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.forecast.device_rates import DEFAULT_MFLOP_PER_SECOND, Rate, default_rate
from foldatlas.atlas.forecast.output_sizes import default_output_bytes
from foldatlas.folding.models import config_of
from foldatlas.folding.planning.cost import mflop
from foldatlas.pipeline.engines import dispatch
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.pipeline.planning import costs as costs_module
from foldatlas.pipeline.planning.costs import DEADLINE_MARGIN, CostModel, cost_model, deadline_rate
from foldatlas.pipeline.planning.planner import make_plan
from foldatlas.pipeline.shards.run import fold_atlas
from foldatlas.pipeline.shards.task import FoldTask
from foldatlas.pipeline.workers.supervisor import WorkerSpec

CONFIG = config_of("nano")


def test_operations_are_the_networks_whatever_was_measured() -> None:
    for rate in (default_rate("cpu"), Rate("cpu", 9, 1e5)):
        model = cost_model(CONFIG, 3, rate, default_output_bytes(320))
        assert [model.mflop(length) for length in (50, 500)] == [mflop(CONFIG, length, 3) for length in (50, 500)]


@pytest.mark.parametrize(("factor", "planned"), [(1.0, 1.0), (1.3, 1.0), (0.8, 1.0), (3.1, 4.0), (0.11, 0.125)])
def test_shards_are_cut_by_a_coarse_rate_so_that_plans_agree(factor: float, planned: float) -> None:
    default = DEFAULT_MFLOP_PER_SECOND["cuda"]
    model = cost_model(CONFIG, 3, Rate("cuda", 20, factor * default), default_output_bytes(320))
    assert model.mflop_per_second == planned * default


def test_bytes_of_a_protein_are_those_of_all_its_tables() -> None:
    model = cost_model(CONFIG, 3, default_rate("cpu"), default_output_bytes(320, ["pae", "residue_embeddings"]))
    assert model.output_bytes(100) == round(34 * 100 + 1.85 * 320 * 100 + 80 + 100 * 100)


def test_a_deadline_has_a_margin_and_needs_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    assert deadline_rate("cpu", [], {}) is None
    rate = Rate("cpu", 5, 8000.0, (-1.0, *[0.0] * 8))
    monkeypatch.setattr(costs_module, "measured", lambda *_: rate)
    monkeypatch.setattr(costs_module, "device_names", lambda *_: ["Tesla T4"])
    assert deadline_rate("cpu", [], {}) == pytest.approx(rate.at(16) / DEADLINE_MARGIN)


def test_first_batches_have_deadlines_from_earlier_shards(
    tmp_path: Path,
    worker: WorkerSpec,
    costs: CostModel,
    write_fasta: Callable[..., str],
    proteins: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = AtlasFolder(tmp_path / "atlas")
    make_plan([write_fasta(proteins[:30])], folder, worker.settings, costs, max_length=1280)
    submitted: list[FoldTask] = []
    real = dispatch.run

    def run(label: str, tasks: list[FoldTask], work: object, engine: Engine) -> None:
        submitted.extend(tasks)
        real(label, tasks, work, engine)  # type: ignore[arg-type]

    monkeypatch.setattr(dispatch, "run", run)
    fold_atlas(folder, worker, show_progress=False)
    assert {task.options.worker.mflop_per_second for task in submitted} == {None}
    rates = [entry.cost / entry.run.seconds for entry in folder.entries().values()]
    submitted.clear()
    make_plan([write_fasta(proteins[30:], "more.fasta")], folder, worker.settings, costs, max_length=1280)
    submitted.clear()  # of reading
    fold_atlas(folder, worker, show_progress=False)
    (expected,) = {task.options.worker.mflop_per_second for task in submitted}
    assert expected is not None and min(rates) / 10 < expected < max(rates)
