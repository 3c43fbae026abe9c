"""How many records of an index are in which state."""

from collections import Counter
from typing import Any

from foldatlas.atlas.accounting import Accounting, State
from foldatlas.atlas.sql.records_by_name import has_superseded


def count_records(connection: Any) -> Accounting:
    """Return the number of present records of an open index by state."""
    present = " WHERE NOT superseded" if has_superseded(connection) else ""
    rows = connection.execute(f"SELECT state, outcome, count(*) FROM records{present} GROUP BY ALL").fetchall()
    states: Counter[str] = Counter()
    for state, _, count in rows:
        states[state] += count
    return Accounting(
        folded=states[State.FOLDED],
        failed=states[State.FAILED],
        repeated=states[State.REPEATED],
        pending=states[State.PENDING],
        refused={outcome: count for state, outcome, count in rows if state == State.REFUSED},
    )
