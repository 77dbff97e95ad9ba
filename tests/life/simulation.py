"""Simulated lives: `python -m tests.life.simulation --lives N --seed S [--replay SEED]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from pilotwrap.run.life import step

from .watch import BrokenPromiseError
from .world import Step, World


def live(seed: int, machine: Step = step) -> World:
    """Play one life; AssertionError with the seed and the whole trace when a promise is broken."""
    world = World(seed, machine)
    try:
        world.run()
    except BrokenPromiseError as broken:
        raise AssertionError(f"{broken}\n{told(world)}") from broken
    return world


def told(world: World) -> str:
    """Return the life as text: its seed, its troubles, then each event with its effects."""
    faults = {name: value for name, value in vars(world.faults).items() if value not in (0.0, 1e15, (1e15, 1e15), -1)}
    lines = [f"seed {world.seed}; replay: python -m tests.life.simulation --replay {world.seed}", f"faults {faults}"]
    for at, event, effects in world.trace:
        lines.append(f"{at:10.2f} {event}")
        lines += [f"{'':14}-> {effect}" for effect in effects]
    lines.append(f"{world.t:10.2f} server {world.server.state} ({world.server.why}) {world.server.report}")
    lines += [f"{'':14}disk: {kind} {report or ''}" for kind, report in world.records]
    return "\n".join(lines)


def ends(lives: int, seed: int, machine: Step = step) -> Counter[str]:
    """Play many lives, `seed` and up; count how they ended."""
    counts: Counter[str] = Counter()
    for number in range(seed, seed + lives):
        world = live(number, machine)
        counts["steps"] += len(world.trace)
        counts["done" if world.done else "died"] += 1
        counts[f"server: {world.server.why or 'not asked'}"] += 1
        report = world.watch.report
        counts[f"report: {report.state}/{report.reason}" if report else "report: none"] += 1
    return counts


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="simulate lives of jobs")
    parser.add_argument("--lives", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", type=int)
    options = parser.parse_args(argv)
    try:
        if options.replay is not None:
            print(told(live(options.replay)))
            return 0
        began = time.perf_counter()
        counts = ends(options.lives, options.seed)
    except AssertionError as broken:
        print(broken)
        return 1
    took = time.perf_counter() - began
    print(f"{options.lives} lives in {took:.1f} s, {options.lives / took:.0f}/s")
    for what, count in sorted(counts.items()):
        print(f"{count:9} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
