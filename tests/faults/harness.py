"""Kills runs at random moments and breaks what they stand on; then the same command must bring the clean atlas.

Out of memory, NaN, a crash of native code, an exit and an exception are in every run with the fake network: proteins.py
has sequences that cause them. The other faults are the functions below.

    python tests/faults/harness.py --kills 50 --seed 1              a small network of the tests; poisonous proteins
    python tests/faults/harness.py --kills 10 --network nano        the real one, on short proteins
    python tests/faults/harness.py --kills 20 --where store         on an S3 server; or `workers`, `dask` (places.py)
    python tests/faults/harness.py --kills 20 --stage novelty       searches of a folded atlas, in place of folding

Prints a line a run, and last `N kills, 0 lost, 0 duplicated, 0 corrupt`. Exit code 1 if anything was wrong. Linux.
"""

import argparse
import contextlib
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from injected import FAULTS, NEED_FAKE
from judge import Contents, Verdict, judge, read
from places import PHASES, WHERE, Condition, Folder, opened, search_reached
from processes import MARK, Driver, left_over
from proteins import MEMORY, PROTEINS, Expected, proteins, write

KILLS_AN_ATLAS = 5  # at most: then a run may end
CHILD_SHARE = 0.35  # of the kills while folding: those that hit the process that folds, or a worker
FOLDING = {"FAKE_CHILD_SECONDS": "0.02", "FAKE_CHILD_MEMORY": str(MEMORY)}  # for processes that fold


class Harness:
    """What all runs have in common: a folder, the FASTA, the clean atlas, and what was found so far."""

    phases: Sequence[str] = PHASES  # in which runs are killed at random

    def __init__(self, folder: Path, place: Folder, network: str, seed: int):
        self.folder, self.place, self.network = folder, place, network
        self.random = random.Random(seed)
        self.mark = secrets.token_hex(8)
        self.poison = network == "fake"
        self.expected = proteins(PROTEINS[network], poison=self.poison)
        self.fasta = write(folder / "in.fasta", self.expected)
        self.exit_code = 3 if self.poison else 0  # of a run that was not disturbed
        self.verdict = Verdict()
        self.kills: Counter[str] = Counter()
        self.runs = 0
        started = time.monotonic()
        code, said = self.finish(folder / "clean")
        self.seconds = time.monotonic() - started
        if code != self.exit_code:
            raise SystemExit(f"the clean run ended with {code}:\n{said}")
        self.clean: Contents = read(place.copy(folder / "clean"))
        poisons = ", ".join(record.reason for record in self.expected if record.state == "failed")
        self.check(folder / "clean", f"an undisturbed run ({poisons or 'without poison'})")

    def start(
        self,
        atlas: Path,
        *,
        fasta: Path | None = None,
        before: Callable[[], None] | None = None,
        command: str = "fold",
        **environment: str,
    ) -> Driver:
        """Starts the command, for which nothing is changed from one run to the next."""
        self.runs += 1
        settings = {**self.place.environment, **FOLDING, MARK: self.mark, **environment}
        arguments = self.arguments(command, atlas, fasta or self.fasta)
        return Driver(self.network, arguments, atlas.with_suffix(".log"), settings, before)

    def arguments(self, command: str, atlas: Path, fasta: Path) -> list[str]:
        return [command, str(fasta), self.place.name_of(atlas), "--model", "nano", *self.place.arguments]

    def finish(self, atlas: Path, **options: str) -> tuple[int, str]:
        """Runs the command to its end: its exit code, and what it said."""
        driver = self.start(atlas, **options)  # type: ignore[arg-type]
        return driver.wait(), driver.said()

    def check(self, atlas: Path, name: str, expected: Sequence[Expected] | None = None) -> None:
        """Judges a finished atlas, and removes it unless something is wrong."""
        if self.place.sweeps is not None:
            self.finish(atlas, **self.place.sweeps)
        try:
            found = judge(self.place.copy(atlas), self.clean, expected or self.expected, self.place.name_of(atlas))
        except OSError as error:
            found = Verdict(corrupt=[f"it cannot be copied: {error}"])
        found.stray += left_over(self.mark) + self.place.left_over()
        self.verdict.add(found, name)
        for kind in ("lost", "duplicated", "corrupt", "stray"):
            for line in getattr(found, kind)[:5]:
                print(f"  {kind}: {line}")
        print(f"{name}: {'WRONG' if found else 'as it should be'}", flush=True)
        if not found and atlas.name != "clean":
            self.place.remove(atlas)

    def expect(self, what: str, is_so: bool, driver: Driver) -> None:
        """Counts a run that did not end as it should, with what it said."""
        if not is_so:
            self.verdict.corrupt.append(what)
            print(f"  {what}; it said:\n{driver.said()}")

    def reached(self, atlas: Path, phase: str) -> Condition:
        """Whether a run has come to `phase`; in folding, to a random shard."""
        return self.place.reached(atlas, phase, self.random.randrange(8))

    def kill_another(self, driver: Driver) -> bool:
        """SIGKILL for a process of the run that is not its driver; whether there was one."""
        victims = self.place.victims(driver)
        with contextlib.suppress(ProcessLookupError):
            if victims:
                os.kill(self.random.choice(victims), signal.SIGKILL)
                return True
        return False

    def kill_at_random(self, wanted: int) -> None:
        """Kills runs, an atlas after the other, until `wanted` kills have hit."""
        number = 0
        while sum(self.kills.values()) < wanted:
            number += 1
            atlas = self.folder / f"killed{number}"
            hits: list[str] = []
            while len(hits) < KILLS_AN_ATLAS and sum(self.kills.values()) < wanted:
                hit = self.run_and_kill(atlas)
                if not hit:
                    break  # it ended first
                hits += hit
            driver = self.start(atlas)
            code = driver.wait()
            self.expect(f"killed{number} ended with {code}", code == self.exit_code, driver)
            self.check(atlas, f"atlas {number}, killed {', '.join(hits) or 'never'}")

    def run_and_kill(self, atlas: Path) -> list[str]:
        """One run: what was killed in it, and in which phase. The driver is always the last."""
        fewest = min(self.kills[phase] for phase in self.phases)
        phase = self.random.choice([phase for phase in self.phases if self.kills[phase] <= fewest + 2])
        delays = {"starting": 0.6 * self.seconds, "committing": 0.004, "folding": 0.2, "planning": 0.3, "indexing": 0.1}
        delay = self.random.uniform(0, delays[phase])
        is_child = phase in ("folding", "committing") and self.random.random() < CHILD_SHARE
        driver = self.start(atlas)
        hits: list[str] = []
        if driver.wait_until(self.reached(atlas, phase)):
            time.sleep(delay)
            if is_child:
                if self.kill_another(driver):
                    self.kills[phase] += 1
                    hits.append(
                        f"{phase} (child)" if len(self.place.arguments) == 0 else f"{phase} (a worker or child)"
                    )
                    time.sleep(self.random.uniform(0, 0.5))
                if self.random.random() < 0.5:  # and what becomes of it is left alone
                    code = driver.wait()
                    self.expect(f"{atlas.name} ended with {code}", code == self.exit_code, driver)
                    return hits
        if driver.kill():
            self.kills[phase] += 1
            hits.append(phase)
        return hits


class Searches(Harness):
    """Searches of the clean atlas against a reference made of it: each run begins with a copy that was folded."""

    folded: Path | None = None  # until the clean atlas is folded

    def __init__(self, folder: Path, place: Folder, network: str, seed: int):
        super().__init__(folder, place, network, seed)
        self.reference, self.folded, self.exit_code = folder / "reference", folder / "folded", 0
        (folder / "clean").rename(self.folded)
        made = Driver(network, ["reference", str(self.folded), str(self.reference)], folder / "reference.log", {})
        if made.wait() != 0:
            raise SystemExit(f"no reference could be made:\n{made.said()}")
        started = time.monotonic()
        code, said = self.finish(folder / "clean")
        self.seconds = time.monotonic() - started
        self.clean = read(folder / "clean")
        if code != 0 or not self.clean.searches:
            raise SystemExit(f"the clean search ended with {code}, {len(self.clean.searches)} rows:\n{said}")
        self.check(folder / "clean", "an undisturbed search")

    def start(self, atlas: Path, **options: Any) -> Driver:
        if self.folded is not None and not atlas.exists():
            shutil.copytree(self.folded, atlas)
        return super().start(atlas, **options)

    def arguments(self, command: str, atlas: Path, fasta: Path) -> list[str]:
        if self.folded is None:
            return super().arguments(command, atlas, fasta)
        return ["novelty", str(atlas), "--reference", str(self.reference), *self.place.arguments]

    def reached(self, atlas: Path, phase: str) -> Condition:
        return search_reached(atlas, phase, self.random.randrange(3))


STAGES = {"fold": Harness, "novelty": Searches}
SEARCH_FAULTS = ("two_drivers", "signals")
SEARCH_PLACES = ("folder", "workers")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="random kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    parser.add_argument("--network", choices=("fake", "nano"), default="fake")
    parser.add_argument("--where", choices=WHERE, default="folder", help="of the atlas, and of the workers")
    parser.add_argument("--stage", choices=tuple(STAGES), default="fold", help="what is killed (default: %(default)s)")
    parser.add_argument("--phases", default=",".join(PHASES), help="in which to kill (default: %(default)s)")
    parser.add_argument("--faults", help="which to inject, with commas (default: all that there are for the place)")
    arguments = parser.parse_args()
    searches = arguments.stage == "novelty"
    if searches and arguments.where not in SEARCH_PLACES:
        parser.error(f"--stage novelty is for --where {' or '.join(SEARCH_PLACES)}")
    phases = tuple(filter(None, arguments.phases.split(",")))
    if not phases or set(phases) - set(PHASES):
        parser.error(f"--phases are {', '.join(PHASES)}, not {arguments.phases}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it is ignored, by our runs too
    folder = Path(tempfile.mkdtemp(prefix="foldatlas-faults-"))
    with opened(arguments.where, folder, FOLDING) as place:
        there = tuple(name for name in place.faults if name in SEARCH_FAULTS) if searches else place.faults
        names = there if arguments.faults is None else tuple(filter(None, arguments.faults.split(",")))
        harness = STAGES[arguments.stage](folder, place, arguments.network, arguments.seed)
        harness.phases = phases
        return run(harness, arguments.kills, names)


def run(harness: Harness, kills: int, faults: Sequence[str]) -> int:
    """Injects `faults` and kills; prints what came of it. Gives the exit code."""
    started = time.monotonic()
    print(f"a clean run takes {harness.seconds:.1f} s; {len(harness.clean.shards)} shards", flush=True)
    for name in faults:
        if harness.network == "fake" or name not in NEED_FAKE:
            began = time.monotonic()
            FAULTS[name](harness)
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    others = sum(harness.kills.values())
    harness.kill_at_random(kills + others)
    phases = ", ".join(f"{count} {phase}" for phase, count in sorted(harness.kills.items()))
    print(f"kills: {phases or 'none'}; {harness.runs} runs in {time.monotonic() - started:.0f} s")
    print(f"{len(harness.verdict.stray)} strays")
    print(f"{sum(harness.kills.values())} kills, {harness.verdict.line()}")
    if harness.verdict:
        print(f"kept for a look: {harness.folder}", file=sys.stderr)
        return 1
    shutil.rmtree(harness.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
