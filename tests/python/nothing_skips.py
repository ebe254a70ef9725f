"""What every conftest.py takes over: nothing may skip when all is required, and figures are printed at the end."""
import os

import pytest

REQUIRE_ALL = os.environ.get("TESSERA_REQUIRE_ALL") == "1"
MEASURED = pytest.StashKey[list]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With TESSERA_REQUIRE_ALL=1 nothing may skip, a skip is a failure: but for the simulated card, which nobody can install for a user."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("simulator"):
        report.outcome = "failed"
        report.longrepr = f"TESSERA_REQUIRE_ALL=1, but this test was skipped: {report.longrepr[2]}"
    return report


def pytest_configure(config):
    config.stash[MEASURED] = []


def pytest_sessionfinish(session):
    """A worker of pytest-xdist hands over its lines."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["measured"] = session.config.stash[MEASURED]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[MEASURED] += getattr(node, "workeroutput", {}).get("measured", [])  # none: the worker died


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[MEASURED]:
        terminalreporter.section("measured")
        for line in config.stash[MEASURED]:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def measured(request):
    """measured("...") prints a line at the end of the run: what was compared, and how near it came."""
    return request.config.stash[MEASURED].append
