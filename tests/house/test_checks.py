"""The checkers that other people wrote, each with our settings and over all that it covers."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
CHECKS = {
    "ruff-check": ("ruff", "check", "--no-cache", "--quiet", "."),
    "ruff-format": ("ruff", "format", "--no-cache", "--check", "--quiet", "."),
    "mypy": ("mypy",),
    "import-contracts": ("lint-imports", "--no-cache", "--no-logo"),
    "host-needs-3.6-only": ("vermin", "--target=3.6-", "--violations", "--eval-annotations", "pilotwrap/host"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_check_finds_nothing(name: str) -> None:
    program, *options = CHECKS[name]
    argv = [str(TOOLS / program), *options]
    ended = subprocess.run(
        argv, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, f"{program} {' '.join(options)}\n{ended.stdout[-6000:]}{ended.stderr[-2000:]}"


def test_every_room_has_its_import_contract() -> None:
    contracts = (REPOSITORY / ".importlinter").read_text()
    rooms = {path.parent.name for path in (REPOSITORY / "pilotwrap").glob("*/__init__.py")} - {"cli"}
    assert {room for room in rooms if f"[importlinter:contract:{room}]" not in contracts} == set()
