"""What all tests share: the real parts, and skips that count as failures where every part must be there."""

import signal

import pytest

pytest_plugins = ["real.slurm", "real.mpi", "real.image", "real.pilot", "golden.compare", "golden.patience"]


def pytest_configure() -> None:
    # what runs us in the background has INT ignored, and so would everything that the tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped or expected failure fails the run")


def _unwanted(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    return [report for kind in ("skipped", "xfailed", "xpassed") for report in reporter.stats.get(kind, [])]


def _reporter(config: pytest.Config) -> pytest.TerminalReporter | None:
    found = config.pluginmanager.get_plugin("terminalreporter")
    return found if isinstance(found, pytest.TerminalReporter) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    unwanted = _unwanted(terminalreporter) if config.getoption("no_skips") else []
    if unwanted:
        terminalreporter.section("--no-skips: every part must be here", red=True)
    for report in unwanted:
        terminalreporter.line(f"NOT RUN {report.nodeid}", red=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = _reporter(session.config)
    if session.config.getoption("no_skips") and reporter is not None and _unwanted(reporter) and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
