"""Settings that every test run shares."""

from hypothesis import settings

settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")


def pytest_configure(config):
    """Give nbval its sanitising file by absolute path: a relative one breaks when pytest starts in a subfolder."""
    if getattr(config.option, "nbval_sanitize_with", "") is None:
        config.option.nbval_sanitize_with = str(config.rootpath / "tests" / "nbval_sanitize.cfg")
