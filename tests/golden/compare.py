"""What is expected, as files that a person reviews: compared by `golden`, written by `pytest --update-golden`."""

from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
Compare = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is found as what is expected; review it")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Compare:
    """Give what compares a text with the golden file of a name."""

    def compare(name: str, found: str) -> None:
        path = FOLDER / name
        if request.config.getoption("update_golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found)
        assert path.exists(), f"{name} has no golden file: look at what is found, then run pytest --update-golden"
        assert found == path.read_text(), f"{name} differs; if it should, run pytest --update-golden and review"

    return compare
