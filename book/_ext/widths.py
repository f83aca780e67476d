"""Whether a page scrolls sideways or a box cuts its text off: asked of a browser without a window, if any.

python book/_ext/widths.py _build/html
"""

import json
import sys
from pathlib import Path
from urllib.parse import quote

import browser
from check_site import pages_of

WIDTHS = (390, 768, 1280)  # pixels: a phone, a tablet, a laptop

# Each page in a frame of each width; the widest thing that sticks out is named with the page. A box hides
# what is wider than itself, so the page keeps its width and the text is lost: boxes are asked one by one.
SCRIPT = """
async function measured(page, width) {
  const frame = document.createElement("iframe");
  Object.assign(frame.style, { width: width + "px", height: "800px", border: 0 });
  frame.src = page;
  const loaded = new Promise((done) => frame.addEventListener("load", done));
  document.body.append(frame);
  await loaded;
  if (frame.contentDocument.querySelector("meta[http-equiv=refresh]")) {
    frame.remove();
    return []; // the page sends its reader on to another, which is among the pages
  }
  await frame.contentWindow.MathJax?.startup?.promise;
  await frame.contentDocument.fonts.ready;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const root = frame.contentDocument.documentElement;
  const over = root.scrollWidth - width;
  const out = (element) => element.getBoundingClientRect().right > width + 1;
  const scrolls = (element) => {
    const style = getComputedStyle(element);
    return style.overflowX !== "visible" || style.position === "fixed";
  };
  const inBox = (element) => element.parentElement.closest("main *, main") &&
    (scrolls(element.parentElement) || inBox(element.parentElement));
  const all = [...frame.contentDocument.querySelectorAll("main *")];
  const widest = all.filter((element) => out(element) && !scrolls(element) && !inBox(element)).pop();
  const start = (element) => element.textContent.trim().slice(0, 60);
  const found = over > 1 ? [[page, width, "too wide", over, start(widest || root)]] : [];
  for (const box of frame.contentDocument.querySelectorAll("main .admonition")) {
    const cut = box.scrollWidth - box.clientWidth;
    if (cut > 1) found.push([page, width, "cut off", cut, start(box)]);
  }
  frame.remove();
  return found;
}
const found = [];
for (const page of PAGES) for (const width of WIDTHS) found.push(...(await measured(page, width)));
return found;
"""


def sideways(site: Path, pages: list[Path]) -> list[tuple[Path, int, str, int, str]] | None:
    """The pages of a site that are wider than their window, and the boxes that are narrower than their text.

    Each with page, window, which of both it is, how many pixels are too much, and how the text of the widest
    thing or of the box begins.

    None where there is no browser.
    """
    if browser.program() is None:
        return None
    by_address = {f"/{quote(page.relative_to(site).as_posix())}": page for page in pages}
    settings = f"const PAGES = {json.dumps(list(by_address))}, WIDTHS = {json.dumps(WIDTHS)};"
    found = browser.ask(site, settings + SCRIPT, "--window-size=1400,1000", limit=1200)
    return [(by_address[page], *rest) for page, *rest in found]


def main(site: Path) -> int:
    """Print the pages and boxes at fault; the exit status tells whether there are any."""
    pages = pages_of(site)
    found = sideways(site, pages)
    if found is None:
        print(f"no browser ({', '.join(browser.BROWSERS)}), so widths are not checked")
        return 0
    for page, width, fault, over, text in found:
        name = page.relative_to(site)
        print(f"{name}: {over} px {fault} in a window of {width}, at {text!r}", file=sys.stderr)
    windows = ", ".join(map(str, WIDTHS))
    print(f"{len(pages)} pages in windows of {windows} pixels, {len(found)} times too wide or cut off")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
