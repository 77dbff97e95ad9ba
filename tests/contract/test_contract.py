from __future__ import annotations

from pathlib import Path

import pytest

from .replay import Exchange, exchanges, listed, replayed
from .table import markdown

Results = list[tuple[Exchange, list[str]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return replayed(tmp_path_factory.mktemp("contract"))


def test_every_recorded_exchange_is_replayed(results: Results) -> None:
    assert [exchange.n for exchange, _ in results] == list(range(336))


def test_the_lab_differs_from_the_real_server_only_where_it_is_argued(results: Results) -> None:
    unlisted = {exchange.n: found for exchange, found in results if found and exchange.n not in listed()}
    assert unlisted == {}


def test_no_difference_is_listed_that_has_gone(results: Results) -> None:
    agreeing = {exchange.n for exchange, found in results if not found}
    assert agreeing & listed().keys() == set()


def test_each_listed_difference_names_its_scenario_and_argues() -> None:
    scenarios = {exchange.n: exchange.scenario for exchange in exchanges()}
    assert all(entry["scenario"] == scenarios[n] and entry["why"] for n, entry in listed().items())


def test_the_page_of_differences_is_current(results: Results) -> None:
    page = Path(__file__).parents[2] / "docs" / "contract-differences.md"
    assert page.read_text() == markdown(results)
