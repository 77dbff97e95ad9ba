"""What lies in examples/ is what this release reads."""

from pathlib import Path

import pytest

from pilotwrap.cli.run import read_spec
from pilotwrap.run.storage import read_storage_map

EXAMPLES = Path(__file__).parents[2] / "examples"
SPECS = sorted(path for path in EXAMPLES.glob("*.json") if path.name != "storage.json")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_every_example_is_a_spec(path: Path) -> None:
    spec = read_spec(path)
    assert (spec.command is None) != (spec.panda is None)


def test_there_are_examples_and_each_is_explained() -> None:
    told = (EXAMPLES / "README.md").read_text()
    assert len(SPECS) >= 4
    assert all(path.name in told for path in EXAMPLES.glob("*.json"))


def test_the_example_storage_map_is_read() -> None:
    assert read_storage_map(EXAMPLES / "storage.json").url("MY_SITE_DATADISK", "a").startswith("file:///")
