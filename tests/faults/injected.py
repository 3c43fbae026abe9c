"""Faults other than a kill at random: each is a function that breaks some runs of a harness, and has them judged."""

import resource
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from places import Store
from proteins import PROTEINS, proteins, write

if TYPE_CHECKING:
    from harness import Harness

ATTEMPTS = 5  # to send a signal before a run has ended
OUTAGE_SECONDS = 4.0


def hang(harness: "Harness") -> None:
    expected = proteins(PROTEINS["fake"], poison=True, hang=True)
    assert expected[:-1] == harness.expected
    atlas = harness.folder / "hang"
    fasta = write(harness.folder / "hang.fasta", expected)
    driver = harness.start(atlas, fasta=fasta, FAULTS_DEADLINE="1.5")
    harness.expect("a hang was not survived", driver.wait() == 3, driver)
    harness.check(atlas, "hang, ended by the deadline", expected)


def disk_full(harness: "Harness") -> None:
    """A limit on the size of files stands for a disk that is full: in planning, while folding and in the index.

    Python would also cut short the compiled modules that it writes, so it writes none.
    """
    atlas = harness.folder / "full"
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}

    def limited(size: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    first = harness.start(atlas, before=limited(1500), **environment)
    code = first.wait()
    harness.expect(f"a full disk while planning: exit {code}", code in (1, 2, 3), first)
    harness.expect("a full disk while planning: a traceback", "Traceback" not in first.said(), first)
    harness.expect("a full disk while planning: a plan", not list(atlas.glob("plans/*.json")), first)
    planned = harness.start(atlas, command="plan")
    harness.expect("planning after a full disk", planned.wait() == 0, planned)
    for size, where in ((3_000, "folding"), (60_000, "indexing")):
        driver = harness.start(atlas, before=limited(size), **environment)
        code = driver.wait()
        harness.expect(f"a full disk while {where}: exit {code}", code in (1, 3), driver)
        harness.expect(f"a full disk while {where}: a traceback", "Traceback" not in driver.said(), driver)
        harness.expect(f"a full disk while {where}: an index", not (atlas / "atlas.duckdb").exists(), driver)
    harness.finish(atlas)
    harness.check(atlas, "disk full, three times")


def two_drivers(harness: "Harness") -> None:
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


def signals(harness: "Harness") -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        for phase in ("folding", "planning"):
            atlas = harness.folder / f"{number.name}-{phase}"
            for _ in range(ATTEMPTS):
                driver = harness.start(atlas)
                driver.wait_until(harness.reached(atlas, phase))
                driver.process.send_signal(number)
                code = driver.wait()
                if code != harness.exit_code:
                    break
                harness.place.remove(atlas)  # the run ended before the signal came
            # before the command has taken the signal over the system ends it: the same for a shell, which says 143
            is_right = code == 128 + number or (phase, code) == ("planning", -signal.SIGTERM)
            harness.expect(f"{number.name} while {phase}: exit {code}", is_right, driver)
            harness.expect(f"{number.name}: a traceback", "Traceback" not in driver.said(), driver)
            harness.finish(atlas)
            harness.check(atlas, f"{number.name} while {phase}")


def store_away(harness: "Harness") -> None:
    """The store answers 503: for some seconds, which the run sits out, and for longer than its patience, which ends it
    in one line."""
    place = harness.place
    assert isinstance(place, Store)

    def away(_method: str, _key: str) -> int:
        return 503

    def back(_method: str, _key: str) -> None:
        return None

    for phase in ("planning", "folding", "committing", "indexing"):
        for is_long in (False, True):
            atlas = harness.folder / f"away-{phase}-{is_long}".lower()
            what = f"a store that is away {'for long' if is_long else 'for a while'} when {phase}"
            driver = harness.start(atlas, **({"FAULTS_PATIENCE": "3"} if is_long else {}))
            harness.expect(f"{what}: too late", driver.wait_until(harness.reached(atlas, phase)), driver)
            place.way.fault = away
            try:
                if not is_long:
                    time.sleep(OUTAGE_SECONDS)
                    place.way.fault = back
                code = driver.wait()
            finally:
                place.way.fault = back
            said = driver.said()
            harness.expect(f"{what}: exit {code}", code == (1 if is_long else harness.exit_code), driver)
            harness.expect(f"{what}: a traceback", "Traceback" not in said, driver)
            if is_long:
                lines = [line for line in said.splitlines() if line.startswith("foldatlas fold: ")]
                is_clear = len(lines) == 1 and "cannot be reached (HTTP 503)" in lines[0]
                is_clear = is_clear and "run the same command again" in lines[0]
                harness.expect(f"{what}: not said", is_clear, driver)
                code, _ = harness.finish(atlas)
                harness.expect(f"{what}: resumed with exit {code}", code == harness.exit_code, driver)
            harness.check(atlas, what)


FAULTS: dict[str, Callable[["Harness"], None]] = {
    "hang": hang,
    "disk_full": disk_full,
    "two_drivers": two_drivers,
    "signals": signals,
    "store_away": store_away,
}
NEED_FAKE = ("hang",)
