"""What the stories' checks are worth: a mistake is put into the machine, and some seed has to run into it.

What stays true: a mistake is found by the promise that it breaks, in the words of that promise's check; so each promise
for which there is such a mistake is one that can fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def find(run_seed: Callable[[int], object], seeds: Iterable[int], says: str) -> None:
    """Until a check says so."""
    others: set[str] = set()
    for seed in seeds:
        try:
            run_seed(seed)
        except AssertionError as found:
            if re.search(says, str(found)):
                return
            others.add(str(found)[:200])
    raise AssertionError(f"nobody says {says!r}" + (f", but: {sorted(others)}" if others else ""))
