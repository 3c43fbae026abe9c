"""Progress from plans and manifest, against sums made by hand."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.forecast.device_rates import measured_rate
from foldatlas.atlas.status import status
from foldatlas.schemas.errors import DamagedAtlasError, NotAnAtlasError
from foldatlas.schemas.records import Outcome, Settings


def test_status_counts_what_is_done_and_left(built) -> None:
    now = status(built.folder)
    first, second = built.plans
    left = second.shards[0]
    assert (now.plans, now.shards, now.shards_done, now.failed) == (2, 6, 5, 2)
    assert now.proteins == first.proteins + second.proteins and now.proteins_left == left.proteins
    assert now.residues - now.residues_done == left.residues and now.cost - now.cost_done == left.cost
    assert now.seconds == 5 * 2.5
    entries = built.folder.entries()
    rate = measured_rate("cpu", built.plans, entries)
    assert rate.num_shards > 0 and now.seconds_left == pytest.approx(rate.seconds([left])[0])
    folded = sum(entry.residues for entry in built.folder.entries().values())
    assert now.residues_per_second == pytest.approx(folded / 12.5) and folded < now.residues_done
    assert now.outcomes[Outcome.DIGIT] == 2 and now.records == 160 * 2 + 60
    assert now.bytes == sum(path.stat().st_size for path in built.root.rglob("*.parquet"))
    text = "\n".join(now.lines())
    assert "nano-untrained" in text and f"{left.proteins} left" in text and "5 of 6 done" in text
    assert not now.is_complete and "of one device" in text


def test_now_is_what_was_committed_lately(built) -> None:
    end = datetime.datetime(2026, 11, 1, 10, 0, 2, 500_000, tzinfo=datetime.UTC)
    entries = list(built.folder.entries().values())
    now = status(built.folder, end + datetime.timedelta(seconds=60))
    shards = {shard.name: shard for plan in built.plans for shard in plan.shards}
    rate = measured_rate("cpu", built.plans, built.folder.entries())
    by_worker: dict[str, list[float]] = {}
    for entry in entries:  # each took 2.5 s
        by_worker.setdefault(entry.attempt.rpartition("_")[0], []).extend(rate.seconds([shards[entry.shard]]))
    devices = sum(sum(each) / (2.5 * len(each)) for each in by_worker.values())
    assert now.workers == len(by_worker) < len(entries)
    assert now.residues_per_second_now is not None and now.ends is not None
    predicted = datetime.datetime.fromisoformat(now.ends) - end - datetime.timedelta(seconds=60)
    assert predicted.total_seconds() == pytest.approx(now.seconds_left / devices, abs=1.001)
    assert "folding" in "\n".join(now.lines())
    later = status(built.folder, end + datetime.timedelta(days=1))
    assert (later.workers, later.residues_per_second_now, later.ends) == (0, None, None)
    assert "no worker has committed a shard recently" in "\n".join(later.lines())
    assert [run.shards for run in later.runs] == [3, 2] and later.busy_share is None
    assert later.shards_failed == sum(entry.failed > 0 for entry in entries)


def test_before_the_first_shard_nothing_is_predicted(copy: Callable) -> None:
    built = copy()
    for path in (built.root / "manifest").iterdir():
        path.unlink()
    now = status(built.folder)
    assert now.seconds_left is None and now.residues_per_second is None and now.folded == 0
    assert "unknown until a shard is done" in "\n".join(now.lines())


def test_an_empty_atlas_is_complete(tmp_path: Path) -> None:
    folder = AtlasFolder(tmp_path / "atlas")
    folder.create(Settings("nano", "0", 0, "fp32"))
    now = status(folder)
    assert now.is_complete and now.seconds_left == 0 and now.records == 0
    assert not any(line.startswith("left") for line in now.lines())


def test_missing_or_damaged_atlas_is_refused(tmp_path: Path, copy: Callable) -> None:
    with pytest.raises(NotAnAtlasError):
        status(AtlasFolder(tmp_path))
    built = copy()
    next((built.root / "plans").iterdir()).write_text("{}")
    with pytest.raises(DamagedAtlasError, match="not a valid Plan"):
        status(built.folder)
