"""``book/_static/book.js`` in a real browser: sliders show their frame, films stop, figures enlarge."""

import json
import re
import shutil
from html import unescape
from itertools import product
from pathlib import Path

import browser
import pictures
import pytest

from mamlkit.report import explore

STATIC = Path(__file__).parents[2] / "book" / "_static"
CONTROLS = {"step": [0, 1, 2], "method": ["MAML", "pretrained"]}
FRAMES = {
    (step, method): ([explore.Curve([0, 1], [0, step])], f"{method} after {step}")
    for step, method in product(*CONTROLS.values())
}
ARGUMENTS = {"axes": ("x (rad)", "y"), "limits": ((0, 1), (0, 2)), "alt": 'a "curve"'}


def figure(**changes):
    return explore.explore(**{"controls": CONTROLS, "frames": FRAMES} | ARGUMENTS | changes).data


def test_the_last_step_is_shown_without_a_script():
    groups = re.findall(r'<g data-frame="(.*?)" data-says="(.*?)"( style="display:none")?>', figure())
    assert [tuple(json.loads(unescape(key))) for key, *_ in groups] == list(product(*CONTROLS.values()))
    assert [json.loads(unescape(key)) for key, _, hidden in groups if not hidden] == [[2, "MAML"]]
    assert ">MAML after 2</p>" in figure() and "a &quot;curve&quot;" in figure()


def test_curves_lie_where_the_axes_say_and_end_at_their_edge():
    curve = explore.Curve([-9.0, 0.5, 1.0], [0.0, 1.0, 9.0], kind="dashed")
    found = re.search(r'stroke-dasharray="6 4" points="(.*?)"', figure(always=[curve])).group(1)
    right, bottom = explore.WIDTH - explore.RIGHT, explore.HEIGHT - explore.BOTTOM
    middle = (explore.LEFT + right) / 2, (explore.TOP + bottom) / 2
    places = [(explore.LEFT, bottom), middle, (right, explore.TOP)]
    assert found == " ".join(f"{float(x)},{float(y)}" for x, y in places)


def test_a_frame_that_is_missing_is_named():
    few = {key: frame for key, frame in FRAMES.items() if key != (1, "pretrained")}
    with pytest.raises(ValueError, match=r"no frame for \(1, 'pretrained'\)"):
        figure(frames=few)


def test_an_unknown_kind_of_curve_is_refused():
    with pytest.raises(ValueError, match="kind='spline'"):
        figure(always=[explore.Curve([0.0], [0.0], kind="spline")])


def run(tmp_path, body, script, *options):
    """What a script finds on a page that has the book's style and script."""
    for name in ("book.css", "book.js"):
        shutil.copy(STATIC / name, tmp_path)
    head = '<link rel="stylesheet" href="/book.css"><script src="/book.js"></script>'
    return browser.ask(
        tmp_path, script, *options, head=head, body=f'<article class="bd-article">{body}</article>'
    )


needs_browser = pytest.mark.skipif(browser.program() is None, reason="no Chromium here")
SHOWN = """
const shown = () => [...document.querySelectorAll("[data-frame]")]
  .filter((group) => getComputedStyle(group).display !== "none").map((group) => group.dataset.frame)
  .concat(document.querySelector(".explore-says").textContent);
"""


@needs_browser
def test_sliders_show_their_frame_by_value_and_by_key(tmp_path):
    script = f"""{SHOWN}
    const found = [shown()], [slider, choice] = document.querySelectorAll("form input, form select");
    const changed = (input, value) => {{
      input.value = value;
      input.dispatchEvent(new Event("input", {{ bubbles: true }}));
      found.push(shown());
    }};
    changed(slider, 2);
    changed(choice, 1);
    slider.stepDown();  // as the left arrow does
    slider.dispatchEvent(new Event("input", {{ bubbles: true }}));
    found.push(shown(), [slider.type, slider.max, slider.getAttribute("aria-valuetext"), slider.tabIndex]);
    return found;"""
    assert run(tmp_path, figure(), script) == [
        ['[0, "MAML"]', "MAML after 0"],
        ['[2, "MAML"]', "MAML after 2"],
        ['[2, "pretrained"]', "pretrained after 2"],
        ['[1, "pretrained"]', "pretrained after 1"],
        ["range", "2", "1", 0],
    ]


@needs_browser
@pytest.mark.parametrize("limits", [(0, 1), (-6, 6)])
def test_on_a_phone_the_label_of_the_y_axis_does_not_run_over_its_ticks(tmp_path, limits):
    script = """
    const drawn = [...document.querySelectorAll("svg text")].map((text) => text.getBoundingClientRect());
    const label = drawn.pop(), ticks = drawn.filter((box) => box.right < drawn.at(-1).left);
    const svg = document.querySelector("svg").getBoundingClientRect();
    const size = parseFloat(getComputedStyle(document.querySelector("svg text")).fontSize);
    const axis = ticks.filter((box) => box.top < label.bottom);
    return [size, axis.length > 2, label.left >= svg.left, axis.every((box) => box.left > label.right)];"""
    drawing = figure(axes=("x (rad)", "probability"), limits=((0, 1), limits))
    assert run(tmp_path, drawing, script, "--window-size=390,800") == [22, True, True, True]


@needs_browser
@pytest.mark.parametrize(("options", "first"), [((), "Pause"), (("--force-prefers-reduced-motion",), "Play")])
def test_a_film_stops_and_stands_still_for_those_who_ask_for_it(tmp_path, options, first):
    shutil.copy(STATIC.parent / "films" / "sinusoid.gif", tmp_path)
    pictures.shrink(tmp_path / "sinusoid.gif")
    film = tmp_path / "sinusoid.film.webp"
    script = """
    const button = document.querySelector(".film button"), found = [];
    for (let i = 0; i < 3; i++) {
      const image = document.querySelector(".film img:not(.still)");
      found.push([button.textContent, getComputedStyle(image).display !== "none"]);
      button.click();
    }
    const still = document.querySelector(".film .still");
    await still.decode();
    return found.concat([[still.alt, still.naturalWidth, still.src.split("/").pop()]]);"""
    found = run(tmp_path, f'<img src="/{film.name}" alt="waves">', script, *options)
    other = {"Pause": "Play", "Play": "Pause"}
    words = [first, other[first], first]
    assert found == [*([word, word == "Pause"] for word in words), ["waves", 720, "sinusoid.still.webp"]]


@needs_browser
def test_a_figure_enlarges_and_closes(tmp_path):
    picture = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'/>"
    script = """
    const image = document.querySelector("img"), found = [image.tabIndex];
    image.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
    const dialog = document.querySelector("dialog");
    found.push(dialog.open, dialog.querySelector("img").alt);
    const closed = new Promise((done) => dialog.addEventListener("close", done));
    dialog.click();
    await closed;
    return found.concat(document.querySelectorAll("dialog").length);"""
    assert run(tmp_path, f'<img src="{picture}" alt="a dot">', script) == [0, True, "a dot", 0]


@needs_browser
def test_a_figure_in_a_link_stays_on_its_page_and_escape_closes_it_whoever_else_listens(tmp_path):
    picture = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='10' height='40'/>"
    body = f'<a href="#elsewhere"><img src="{picture}" alt="a line" width="10" height="40"></a>'
    script = """
    document.addEventListener("keydown", (event) => event.key === "Escape" && event.preventDefault());
    const image = document.querySelector("img"), found = [];
    image.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
    const dialog = document.querySelector("dialog"), large = dialog.querySelector("img");
    found.push(location.hash, dialog.open, large.classList.contains("tall"));
    found.push(large.getBoundingClientRect().width > image.getBoundingClientRect().width);
    const closed = new Promise((done) => dialog.addEventListener("close", done));
    dialog.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true, cancelable: true }));
    await closed;
    return found.concat(document.querySelectorAll("dialog").length);"""
    assert run(tmp_path, body, script) == ["", True, True, True, 0]


@needs_browser
@pytest.mark.parametrize(("window", "width"), [(390, 700), (1280, 1000)])
def test_a_wide_figure_keeps_a_size_to_read_on_a_phone_and_the_page_does_not_scroll(tmp_path, window, width):
    picture = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='1000' height='400'/>"
    body = f'<span class="scrolls" style="--natural: 1000px"><img src="{picture}" width="1000"></span>'
    script = """
    const image = document.querySelector("img"), root = document.documentElement;
    return [image.getBoundingClientRect().width, root.scrollWidth <= root.clientWidth];"""
    assert run(tmp_path, body, script, f"--window-size={window},800") == [width, True]
