"""Whether a page scrolls sideways: asked of a browser without a window, if there is one.

python book/_ext/widths.py _build/html
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from html import unescape
from pathlib import Path

from check_site import pages_of

WIDTHS = (390, 768, 1280)  # pixels: a phone, a tablet, a laptop
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Each page in a frame of each width; the widest thing that sticks out is named with the page.
SCRIPT = """
async function measured(page, width) {
  const frame = document.createElement("iframe");
  Object.assign(frame.style, { width: width + "px", height: "800px", border: 0 });
  frame.src = page;
  const loaded = new Promise((done) => frame.addEventListener("load", done));
  document.body.append(frame);
  await loaded;
  await new Promise((done) => setTimeout(done, 1000));
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
  const text = (widest || root).textContent.trim().slice(0, 60);
  frame.remove();
  return over > 1 ? [[page, width, over, text]] : [];
}
addEventListener("load", async () => {
  const found = [];
  for (const page of PAGES) for (const width of WIDTHS) found.push(...(await measured(page, width)));
  document.title = JSON.stringify(found);
});
"""


def browser() -> str | None:
    """Where a browser is that needs no window."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def sideways(pages: list[Path]) -> list[tuple[Path, int, int, str]] | None:
    """The pages that are wider than their window: page, window and what is too much, in pixels, and
    how the text of the widest thing begins.

    None where there is no browser.
    """
    if (program := browser()) is None:
        return None
    if not pages:
        return []  # the browser would wait for ever
    listed = [page.resolve().as_uri() for page in pages]
    settings = f"const PAGES = {json.dumps(listed)}, WIDTHS = {json.dumps(WIDTHS)};"
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder, "widths.html")
        frame.write_text(f"<!doctype html><title></title><body><script>{settings}{SCRIPT}</script>")
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
        budget = f"--virtual-time-budget={5000 * len(listed) * len(WIDTHS)}"
        options = [f"--user-data-dir={folder}/profile", budget, "--window-size=1400,1000", "--dump-dom"]
        done = subprocess.run(
            [*command, *options, frame.as_uri()], capture_output=True, encoding="utf-8", timeout=1200
        )
    title = re.search("<title>(.*?)</title>", done.stdout)
    if not title or not title.group(1):
        raise RuntimeError(f"{program} did not measure the pages: {done.stderr[-500:]}")
    by_address = dict(zip(listed, pages))
    return [(by_address[page], *rest) for page, *rest in json.loads(unescape(title.group(1)))]


def main(site: Path) -> int:
    """Print the pages that are too wide; the exit status tells whether there are any."""
    pages = pages_of(site)
    found = sideways(pages)
    if found is None:
        print(f"no browser ({', '.join(BROWSERS)}), so widths are not checked")
        return 0
    for page, width, over, text in found:
        name = page.relative_to(site)
        print(f"{name}: {over} px too wide for a window of {width}, at {text!r}", file=sys.stderr)
    print(f"{len(pages)} pages in windows of {', '.join(map(str, WIDTHS))} pixels, {len(found)} too wide")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
