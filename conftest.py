"""Settings that every test run shares."""

import pytest
from hypothesis import settings

import surroundings  # of book/_ext

surroundings.settle()
settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")

# macOS leaves a ``._name`` beside each file on a disk of another kind: neither a test nor a notebook.
collect_ignore_glob = ["*/._*"]


def pytest_configure(config):
    """Give nbval its sanitising file by absolute path: a relative one breaks in a subfolder."""
    if getattr(config.option, "nbval_sanitize_with", "") is None:
        config.option.nbval_sanitize_with = str(config.rootpath / "tests" / "nbval_sanitize.cfg")


def pytest_collection_modifyitems(items):
    """Let a cell's output take its time on a busy machine; nbval waits five seconds for it."""
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = surroundings.MESSAGE_TIMEOUT


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Mark the report of a cell that ran out of time."""
    report = yield
    report.too_slow = report.failed and getattr(item.parent, "timed_out", False)
    return report


def pytest_report_teststatus(report):
    """Count such a cell as "too slow": it has not ended, so nothing is known about its output."""
    return ("too slow", "T", "TOO SLOW") if getattr(report, "too_slow", False) else None


def pytest_terminal_summary(terminalreporter, config):
    """Say what "too slow" means and what to do."""
    for report in terminalreporter.getreports("too slow"):
        terminalreporter.write_line(
            f"too slow: {report.nodeid} did not end in {config.option.nbval_cell_timeout:g} s, "
            "so its output was not compared. Repeat it on a quiet machine, or give it more time with "
            "--nbval-cell-timeout=SECONDS."
        )
