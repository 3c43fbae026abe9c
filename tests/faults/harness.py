"""Kills runs at random moments and breaks what they stand on; then the same command must bring the clean atlas.

Out of memory, NaN, a crash of native code, an exit and an exception are in every run with the fake network: proteins.py
has sequences that cause them. The other faults are the functions below.

    python tests/faults/harness.py --kills 50 --seed 1              a small network of the tests; poisonous proteins
    python tests/faults/harness.py --kills 10 --network nano        the real one, on short proteins

Prints a line a run, and last `N kills, 0 lost, 0 duplicated, 0 corrupt`. Exit code 1 if anything was wrong. Linux.
"""

import argparse
import os
import random
import resource
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from judge import Contents, Verdict, judge, read
from processes import MARK, Driver, left_over
from proteins import MEMORY, Expected, proteins, write

PHASES = ("starting", "planning", "folding", "committing", "indexing")
PROTEINS = {"fake": 30, "nano": 16}  # that fold; others are repeated, refused or, with the fake network, poison
KILLS_AN_ATLAS = 5  # at most: then a run may end
CHILD_SHARE = 0.35  # of the kills while folding: those that hit the process that folds


class Harness:
    """What all runs have in common: a folder, the FASTA, the clean atlas, and what was found so far."""

    def __init__(self, folder: Path, network: str, seed: int):
        self.folder, self.network = folder, network
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
        self.clean: Contents = read(folder / "clean")
        poisons = ", ".join(record.reason for record in self.expected if record.state == "failed")
        self.check(folder / "clean", f"a run that nobody disturbs ({poisons or 'without poison'})")

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
        arguments = [command, str(fasta or self.fasta), str(atlas), "--model", "nano"]
        settings = {"FAKE_CHILD_SECONDS": "0.02", "FAKE_CHILD_MEMORY": str(MEMORY), MARK: self.mark, **environment}
        return Driver(self.network, arguments, atlas.with_suffix(".log"), settings, before)

    def finish(self, atlas: Path, **options: str) -> tuple[int, str]:
        """Runs the command to its end: its exit code, and what it said."""
        driver = self.start(atlas, **options)  # type: ignore[arg-type]
        return driver.wait(), driver.said()

    def check(self, atlas: Path, name: str, expected: Sequence[Expected] | None = None) -> None:
        """Judges a finished atlas, and removes it unless something is wrong."""
        found = judge(atlas, self.clean, expected or self.expected)
        found.stray += left_over(self.mark)
        self.verdict.add(found, name)
        for kind in ("lost", "duplicated", "corrupt", "stray"):
            for line in getattr(found, kind)[:5]:
                print(f"  {kind}: {line}")
        print(f"{name}: {'WRONG' if found else 'as it should be'}", flush=True)
        if not found and atlas.name != "clean":
            shutil.rmtree(atlas)

    def expect(self, what: str, is_so: bool, driver: Driver) -> None:
        """Counts a run that did not end as it should, with what it said."""
        if not is_so:
            self.verdict.corrupt.append(what)
            print(f"  {what}; it said:\n{driver.said()}")

    def reached(self, atlas: Path, phase: str) -> Callable[[], bool]:
        """Whether a run has come to `phase`; in folding, to a random shard."""
        shards = self.random.randrange(8)

        def names(kind: str) -> list[str]:
            return os.listdir(atlas / kind) if (atlas / kind).is_dir() else []

        def count(kind: str, ending: str) -> int:
            return sum(name.endswith(ending) and not name.startswith(".") for name in names(kind))

        conditions: dict[str, Callable[[], bool]] = {
            "starting": lambda: True,
            "planning": lambda: (atlas / ".staging").is_dir(),
            "folding": lambda: (
                any(name.endswith(".part") for name in names("structures")) and count("manifest", ".json") >= shards
            ),
            "committing": lambda: (
                count("structures", ".parquet") > count("manifest", ".json") >= shards
                or any(name.endswith(".part") for name in names("manifest"))
            ),
            "indexing": lambda: atlas.is_dir() and any(name.startswith(".index.") for name in os.listdir(atlas)),
        }
        return conditions[phase]

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
        fewest = min(self.kills[phase] for phase in PHASES)
        phase = self.random.choice([phase for phase in PHASES if self.kills[phase] <= fewest + 2])
        delays = {"starting": 0.6 * self.seconds, "committing": 0.004, "folding": 0.2, "planning": 0.3, "indexing": 0.1}
        delay = self.random.uniform(0, delays[phase])
        is_child = phase in ("folding", "committing") and self.random.random() < CHILD_SHARE
        driver = self.start(atlas)
        hits: list[str] = []
        if driver.wait_until(self.reached(atlas, phase)):
            time.sleep(delay)
            if is_child:
                if driver.kill_child():
                    self.kills[phase] += 1
                    hits.append(f"{phase} (child)")
                    time.sleep(self.random.uniform(0, 0.5))
                if self.random.random() < 0.5:  # and what becomes of it is left alone
                    code = driver.wait()
                    self.expect(f"{atlas.name} ended with {code}", code == self.exit_code, driver)
                    return hits
        if driver.kill():
            self.kills[phase] += 1
            hits.append(phase)
        return hits


def hang(harness: Harness) -> None:
    expected = proteins(PROTEINS["fake"], poison=True, hang=True)
    assert expected[:-1] == harness.expected
    atlas = harness.folder / "hang"
    fasta = write(harness.folder / "hang.fasta", expected)
    driver = harness.start(atlas, fasta=fasta, FAULTS_DEADLINE="1.5")
    harness.expect("a hang was not survived", driver.wait() == 3, driver)
    harness.check(atlas, "hang, ended by the deadline", expected)


def disk_full(harness: Harness) -> None:
    """A limit on the size of files stands for a disk that is full: in planning, while folding and in the index."""
    atlas = harness.folder / "full"

    def limited(size: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    first = harness.start(atlas, before=limited(1500))
    code = first.wait()
    harness.expect(f"a full disk while planning: exit {code}", code in (1, 2, 3), first)
    harness.expect("a full disk while planning: a traceback", "Traceback" not in first.said(), first)
    harness.expect("a full disk while planning: a plan", not list(atlas.glob("plans/*.json")), first)
    planned = harness.start(atlas, command="plan")
    harness.expect("planning after a full disk", planned.wait() == 0, planned)
    for size, where in ((3_000, "folding"), (60_000, "indexing")):
        driver = harness.start(atlas, before=limited(size))
        code = driver.wait()
        harness.expect(f"a full disk while {where}: exit {code}", code in (1, 3), driver)
        harness.expect(f"a full disk while {where}: a traceback", "Traceback" not in driver.said(), driver)
        harness.expect(f"a full disk while {where}: an index", not (atlas / "atlas.duckdb").exists(), driver)
    harness.finish(atlas)
    harness.check(atlas, "disk full, three times")


def two_drivers(harness: Harness) -> None:
    for number in range(2):
        atlas = harness.folder / f"two{number}"
        drivers = [harness.start(atlas), harness.start(atlas)]
        if number:
            drivers[0].wait_until(harness.reached(atlas, "folding"))
            harness.kills["two drivers"] += drivers[0].kill()
            drivers = drivers[1:]
        for driver in drivers:
            code = driver.wait()
            harness.expect(f"two drivers: exit {code}", code == harness.exit_code, driver)
        harness.finish(atlas)  # sweeps what the killed one left
        harness.check(atlas, "two drivers at once" + (", one killed" if number else ""))


def signals(harness: Harness) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        for phase in ("folding", "planning"):
            atlas = harness.folder / f"{number.name}-{phase}"
            driver = harness.start(atlas)
            driver.wait_until(harness.reached(atlas, phase))
            driver.process.send_signal(number)
            code = driver.wait()
            # before the command has taken the signal over the system ends it: the same for a shell, which says 143
            is_right = code == 128 + number or (phase, code) == ("planning", -signal.SIGTERM)
            harness.expect(f"{number.name} while {phase}: exit {code}", is_right, driver)
            harness.expect(f"{number.name}: a traceback", "Traceback" not in driver.said(), driver)
            harness.finish(atlas)
            harness.check(atlas, f"{number.name} while {phase}")


# A store that answers 503 for a while belongs here as soon as atlases lie on stores: a function that starts the server
# and calls harness.start with an s3:// address; `judge` then needs a local copy of the atlas.
FAULTS: dict[str, Callable[[Harness], None]] = {
    "hang": hang,
    "disk_full": disk_full,
    "two_drivers": two_drivers,
    "signals": signals,
}
NEED_FAKE = ("hang",)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="random kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    parser.add_argument("--network", choices=("fake", "nano"), default="fake")
    parser.add_argument("--faults", default=",".join(FAULTS), help="which to inject (default: %(default)s)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="foldatlas-faults-"))
    started = time.monotonic()
    harness = Harness(folder, arguments.network, arguments.seed)
    print(f"a clean run takes {harness.seconds:.1f} s; {len(harness.clean.shards)} shards")
    for name in filter(None, arguments.faults.split(",")):
        if arguments.network == "fake" or name not in NEED_FAKE:
            began = time.monotonic()
            FAULTS[name](harness)
            print(f"{name}: {time.monotonic() - began:.0f} s")
    others = sum(harness.kills.values())
    harness.kill_at_random(arguments.kills + others)
    phases = ", ".join(f"{count} {phase}" for phase, count in sorted(harness.kills.items()))
    print(f"kills: {phases or 'none'}; {harness.runs} runs in {time.monotonic() - started:.0f} s")
    print(f"{len(harness.verdict.stray)} strays")
    print(f"{sum(harness.kills.values())} kills, {harness.verdict.line()}")
    if harness.verdict:
        print(f"kept for a look: {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
