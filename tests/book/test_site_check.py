"""The check of the built pages finds each planted fault, and nothing on a clean site."""

import base64
import hashlib
import io
import re

import browser
import check_site
import nbformat
import numpy as np
import pictures
import pytest
import widths
from PIL import Image

PAGE = """<!DOCTYPE html><html><head><link rel="stylesheet" href="_static/book.css">{head}</head><body>
<article><h1 id="top">A page</h1><p>Some prose, a <a href="other.html#here">link</a>,
<a href="https://example.org/">one to elsewhere</a>, <code>{{numref}}`in code`</code> and \\(x_{{i}}\\).</p>
<pre>WARNING: a listing may say {{numref}}`anything`</pre>
<img src="figure.png" alt="Loss against steps.">{body}</article></body></html>"""


def build(folder, head="", body="", css="body { background: url(figure.png) }"):
    (folder / "_static").mkdir()
    (folder / "_static" / "book.css").write_text(css)
    (folder / "_static" / "template.html").write_text('<a href="{{ theme }}">not a page</a>')
    (folder / "figure.png").write_bytes(b"png")
    (folder / "other.html").write_text('<article><p id="here">Here.</p></article>')
    (folder / "index.html").write_text(PAGE.format(head=head, body=body))
    return check_site.check_site(folder)


def test_a_clean_site_passes(tmp_path):
    assert build(tmp_path) == (2, [])
    assert check_site.main([str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        ({"head": '<script src="https://cdn.example.org/x.js"></script>'}, "from outside"),
        ({"head": '<link rel="stylesheet" href="//example.org/x.css">'}, "from outside"),
        ({"head": '<link rel="preload" as="font" href="http://example.org/x.woff2">'}, "from outside"),
        ({"head": "<style>@import 'https://example.org/x.css';</style>"}, "from outside"),
        ({"body": '<p style="background: url(https://example.org/x.png)">x</p>'}, "from outside"),
        ({"body": '<img src="https://example.org/x.png" alt="A figure.">'}, "from outside"),
        (
            {"body": '<img src="figure.png" srcset="figure.png 1x, //example.org/x.png 2x" alt="A figure.">'},
            "outside",
        ),
        ({"body": '<iframe src="https://example.org/"></iframe>'}, "from outside"),
        ({"css": "@import url(https://example.org/x.css);"}, "book.css: loads https://example.org/x.css"),
        (
            {"css": "@font-face { src: url('//example.org/x.woff2') }"},
            "book.css: loads //example.org/x.woff2",
        ),
        ({"body": '<a href="gone.html">link</a>'}, "gone.html does not exist"),
        ({"body": '<a href="other.html#gone">link</a>'}, "other.html#gone: no such place"),
        ({"body": '<a href="#gone">link</a>'}, "#gone: no such place"),
        ({"body": '<img src="gone.png" alt="A figure.">'}, "gone.png does not exist"),
        ({"head": '<script src="_static/gone.js"></script>'}, "gone.js does not exist"),
        ({"head": '<meta http-equiv="Refresh" content="0; url=gone.html">'}, "gone.html does not exist"),
        ({"body": '<img src="figure.png">'}, "no description"),
        ({"body": '<img src="figure.png" alt=" ">'}, "no description"),
        ({"body": '<img src="figure.png" alt="../_images/0f3a.png">'}, "no description"),
        ({"body": "<p>Traceback (most recent call last):</p>"}, "a traceback"),
        (
            {"body": '<div class="cell_output"><div class="output traceback"><pre>x</pre></div></div>'},
            "a traceback",
        ),
        ({"body": '<div class="cell_output"><div class="output stderr"><pre>x</pre></div></div>'}, "stderr"),
        ({"body": '<div class="cell_output"><pre>x.py:3: UserWarning: y</pre></div>'}, "a warning"),
        ({"body": "<p>WARNING: something</p>"}, "a warning"),
        ({"body": '<div class="cell_output"><pre>HBox(children=(...))</pre></div>'}, "widget"),
        ({"body": '<script type="application/vnd.jupyter.widget-view+json">{}</script>'}, "widget"),
        ({"body": '<span class="problematic">x</span>'}, "system message"),
        ({"body": "<p>See {numref}`fig-x`.</p>"}, "unrendered"),
        ({"body": "<p>See {cite:t}<code>finn</code>.</p>"}, "unrendered"),
        ({"body": "<p>:::{note} text</p>"}, "unrendered"),
        ({"body": "<p>{{ value }}</p>"}, "unrendered"),
    ],
)
def test_each_fault_is_found(tmp_path, capsys, plant, fault):
    _, faults = build(tmp_path, **plant)
    assert len(faults) == 1 and fault in faults[0]
    assert check_site.main([str(tmp_path)]) == 1
    assert fault in capsys.readouterr().err


def test_a_heavy_page_is_found_and_pictures_that_wait_do_not_count(tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(check_site.WEIGHT))
    picture = '<img src="large.png" alt="A large figure." {}>'
    assert build(tmp_path, body=picture.format('loading="lazy"')) == (2, [])
    check_site.parse.cache_clear()
    (tmp_path / "index.html").write_text(PAGE.format(head="", body=picture.format("")))
    assert check_site.check_site(tmp_path)[1] == ["index.html: loads 3.0 MB, but should load at most 3"]


def test_pictures_become_small_files_of_the_same_pixels(tmp_path):
    (tmp_path / "_images").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (20, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "_images" / "wide.png")
    Image.fromarray(noise[:, :50]).save(tmp_path / "_images" / "small.png")
    stills = [Image.fromarray(noise[:, :50] // 64 * 64 + 32 * k) for k in range(3)]
    stills[-1].save(tmp_path / "last.gif")
    stills[0].save(tmp_path / "_images" / "film.gif", save_all=True, append_images=stills[1:], duration=80)
    images = "".join(
        f'<img alt="A." src="_images/{name}" />' for name in ("small.png", "wide.png", "film.gif")
    )
    (tmp_path / "page.html").write_text(
        f'<a href="_images/wide.png">{images}</a><img src="_images/other.png">'
    )
    pictures.finish(tmp_path)
    small, wide, film, other = re.findall("<img.*?>", text := (tmp_path / "page.html").read_text())
    assert "lazy" not in small and "lazy" in wide and "lazy" in film and 'width="700" height="20"' in wide
    assert 'href="_images/wide.webp"' in text and "_images/other.png" in other
    assert re.findall('<span class="scrolls" style="--natural: (.*?)"><img', text) == ["700px"]
    with Image.open(tmp_path / "_images" / "wide.webp") as kept:
        assert (np.asarray(kept.convert("RGB")) == noise).all()
    with Image.open(tmp_path / "_images" / "film.film.webp") as kept:
        assert kept.n_frames == 3 and "film.film.webp" in film
    with (
        Image.open(tmp_path / "_images" / "film.still.webp") as kept,
        Image.open(tmp_path / "last.gif") as last,
    ):
        assert (np.asarray(kept) == np.asarray(last.convert("RGB"))).all()


def test_a_small_screen_gets_the_second_form_of_a_figure(tmp_path):
    first, second = (io.BytesIO() for _ in range(2))
    Image.new("RGB", (877, 361), "white").save(first, "png")
    Image.new("RGB", (432, 700), "red").save(second, "webp", lossless=True)
    name = hashlib.sha256(first.getvalue()).hexdigest()
    images, executed = tmp_path / "html" / "_images", tmp_path / "jupyter_execute" / "notebooks"
    images.mkdir(parents=True)
    executed.mkdir(parents=True)
    (images / f"{name}.png").write_bytes(first.getvalue())
    wide, narrow = (base64.b64encode(form.getvalue()).decode() for form in (first, second))
    output = nbformat.v4.new_output(
        "display_data", {"image/png": wide}, metadata={"image/png": {"narrow": narrow}}
    )
    cells = [nbformat.v4.new_code_cell("draw()", outputs=[output]), nbformat.v4.new_markdown_cell("Text.")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), executed / "01.ipynb")
    page = tmp_path / "html" / "notebooks" / "01.html"
    page.parent.mkdir()
    page.write_text(f'<p><img alt="A." src="../_images/{name}.png" /></p>')
    pictures.finish(tmp_path / "html")
    file, text = f"../_images/{name}.narrow.webp", page.read_text()
    source = f'<source media="(max-width: 600px)" srcset="{file}" width="432" height="700">'
    assert f"<p><picture>{source}<img" in text and text.endswith("</picture></p>") and "scrolls" not in text
    with Image.open(images / f"{name}.narrow.webp") as kept:
        assert kept.size == (432, 700) and kept.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert sorted(path.suffix for path in images.iterdir()) == [".webp", ".webp"]


def test_an_empty_or_missing_folder_is_no_success(tmp_path):
    assert check_site.main([str(tmp_path)]) == 1
    assert check_site.main([str(tmp_path / "gone")]) == 2


@pytest.mark.skipif(browser.program() is None, reason="no Chromium here")
def test_a_page_that_scrolls_sideways_is_found_and_one_whose_box_scrolls_is_not(tmp_path, capsys):
    box = '<main><div style="overflow-x: auto"><div style="width: 2000px">wide</div></div>{}</main>'
    for name, more in ("good", ""), ("bad", '<p style="width: 900px">text</p>'):
        page = "<!doctype html><body style='margin: 0'>" + box.format(more)
        (tmp_path / f"{name}.html").write_text(page)
    pages = [tmp_path / "good.html", tmp_path / "bad.html"]
    found = [(pages[1], width, "too wide", 900 - width, "text") for width in widths.WIDTHS if width < 900]
    assert widths.sideways(tmp_path, pages) == found and widths.sideways(tmp_path, []) == []
    assert widths.main(tmp_path) == 1
    assert "bad.html: 510 px too wide in a window of 390, at 'text'" in capsys.readouterr().err


@pytest.mark.skipif(browser.program() is None, reason="no Chromium here")
@pytest.mark.parametrize(("rule", "cut"), [(".note", True), ("span.note", False)])
def test_a_box_that_cuts_its_text_off_is_found(tmp_path, rule, cut):
    """The rule of the marks in tables, when it also holds for notes, keeps their text on one line."""
    style = f"<style>body {{ margin: 0 }} .admonition {{ overflow: hidden }} {rule} {{ white-space: nowrap }}"
    text = "A sentence that has more words than a phone is wide. " * 5
    box = f'<main><div class="admonition note"><p>{text}</p></div><span class="note">a</span></main>'
    (tmp_path / "page.html").write_text(f"<!doctype html>{style}</style>{box}")
    found = widths.sideways(tmp_path, [tmp_path / "page.html"])
    assert [fault for _, _, fault, *_ in found] == ["cut off"] * len(widths.WIDTHS) * cut


def test_without_a_browser_widths_are_not_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(browser, "program", lambda: None)
    assert widths.sideways(tmp_path, [tmp_path]) is None
