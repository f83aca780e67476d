"""``book/_ext/browser.py``: what a page's script finds comes back, and so does what went wrong."""

import browser
import pytest

needs_browser = pytest.mark.skipif(browser.program() is None, reason="no Chromium here")


@needs_browser
def test_a_page_reads_the_folder_and_its_answer_comes_back(tmp_path):
    (tmp_path / "ways.json").write_text('{"ways": 5}')
    script = """
    await new Promise((done) => requestAnimationFrame(done));
    const { ways } = await (await fetch("/ways.json")).json();
    return [ways, document.querySelector("p").textContent, document.title, null];"""
    found = browser.ask(tmp_path, script, head="<title>a {b}</title>", body="<p>αβ “{}”</p>")
    assert found == [5, "αβ “{}”", "a {b}", None]


@needs_browser
def test_an_error_of_the_script_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="threw an error: TypeError.*null"):
        browser.ask(tmp_path, 'return document.querySelector("table").rows')


@pytest.mark.parametrize(
    ("command", "limit", "said"), [("exit 3", 60, "ended .3."), ("sleep 60", 1, "within 1 s")]
)
def test_a_browser_that_ends_or_is_silent_is_told(tmp_path, monkeypatch, command, limit, said):
    broken = tmp_path / "browser"
    broken.write_text(f"#!/bin/sh\n{command}\n")
    broken.chmod(0o755)
    monkeypatch.setattr(browser, "program", lambda: str(broken))
    with pytest.raises(RuntimeError, match=said):
        browser.ask(tmp_path, "return 1", limit=limit)


def test_without_a_browser_it_is_said_which_would_do(tmp_path, monkeypatch):
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="one of these is needed: chromium, "):
        browser.ask(tmp_path, "return 1")
