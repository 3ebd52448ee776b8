"""A story: one world from one seed, in which something has to stay true; and how it is run from a command line.

What stays true: a seed is a run. One that fails says which it was, with the last events before it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import ClassVar, Protocol, TypeVar

from tests.sim.world import World


class Story(Protocol):
    """`kind`: what its seeds are called."""

    kind: ClassVar[str]
    world: World

    def run(self) -> None: ...


S = TypeVar("S", bound=Story)


def runner(make: Callable[[int, bool], S]) -> Callable[..., S]:
    """What runs a seed of a story, to its end; `traced`: with all of its events."""

    def run_seed(seed: int, *, traced: bool = False) -> S:
        story = make(seed, traced)
        try:
            story.run()
        except Exception as error:
            error.add_note("\n".join([*story.world.trace, f"{story.kind} seed {seed}"]))
            raise
        return story

    return run_seed


def main(run_seed: Callable[..., Story], about: str | None) -> int:
    """`--seed`: one with its events; else `--seeds` of them, from `--from` on."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--from", type=int, default=1, dest="first")
    parser.add_argument("--seeds", type=int, default=100)
    options = parser.parse_args()
    if options.seed is not None:
        print("\n".join(run_seed(options.seed, traced=True).world.trace))
        return 0
    print(f"seeds from {options.first}, {options.seeds} of them", flush=True)
    for seed in range(options.first, options.first + options.seeds):
        run_seed(seed)
    return 0
