"""Check the pages that were built: they read without a network, nothing is missing or broken.

python book/_ext/check_site.py _build/html
"""

import re
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, NavigableString, Tag

# What a browser loads by itself, as opposed to links that a reader may follow.
LOADED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
WEIGHT = 3_000_000  # bytes that a page may load when it is opened
EXTERNAL = re.compile(r"\s*(https?:)?//", re.I)
CSS_URL = re.compile(r"""(?:@import\s+(?:url\(\s*)?|url\(\s*)["']?([^"')\s;]+)""", re.I)
PATH_AS_ALT = re.compile(r"\S*/\S*|\S+\.(png|jpe?g|svg|gif|webp)", re.I)
ROLE = re.compile(r"\{[a-z][\w:+-]*\}`|`{3,}\{|:{3,}\s*\{|\{\{.*?\}\}")
BAD_TEXT = {
    "a traceback": re.compile(r"Traceback \(most recent call last\)"),
    "a warning": re.compile(r"\bWARNING\b|\b[A-Z]\w*Warning:"),
    "the text of a widget": re.compile(r"\b(HBox|VBox|IntProgress|FloatProgress)\(|\bOutput\(\)"),
}
BAD_MARKUP = {
    "a stderr output": "div.output.stderr",
    "a traceback": "div.output.traceback",
    "a widget": "script[type*='jupyter.widget']",
    "a Sphinx system message": ".system-message, .problematic",
}


@cache
def parse(page: Path) -> BeautifulSoup:
    """The page as a tree; parsed once, since other pages' links ask for its anchors."""
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(page: Path) -> set[str]:
    """Every name a ``#fragment`` may point to."""
    tags = parse(page).find_all(lambda tag: tag.has_attr("id") or tag.has_attr("name"))
    return {tag.get(key) for tag in tags for key in ("id", "name")}


def urls(attribute: str, value: str) -> list[str]:
    """The addresses in an attribute; a ``srcset`` holds several, each with a width."""
    return (
        [part.split()[0] for part in value.split(",") if part.strip()] if attribute == "srcset" else [value]
    )


def missing(page: Path, url: str, site: Path) -> str | None:
    """What is wrong with a link inside the site, or None."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return None
    base = site if parts.path.startswith("/") else page.parent
    target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else page
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file():
        return f"{url} does not exist"
    fragment = unquote(parts.fragment)
    if fragment and target.suffix == ".html" and fragment not in anchors(target):
        return f"{url}: no such place in {target.name}"
    return None


def loaded(tree: BeautifulSoup) -> list[str]:
    """Addresses of everything the page loads: tags, style sheets and style attributes."""
    found = []
    for name, attributes in LOADED.items():
        for tag in tree.find_all(name):
            if name == "link" and {"canonical", "next", "prev", "author"} & set(tag.get("rel", [])):
                continue
            found += [url for key in attributes if tag.get(key) for url in urls(key, tag[key])]
    styles = [tag.get_text() for tag in tree.find_all("style")]
    styles += [tag["style"] for tag in tree.find_all(style=True)]
    return found + [url for style in styles for url in CSS_URL.findall(style)]


def weight(page: Path, site: Path) -> int:
    """Bytes of a page and of all that it loads when it is opened, mathematics included; pictures that wait
    until a reader comes near them are not."""
    tree = parse(page)
    eager = [tag for tag in tree.find_all(True) if tag.get("loading") != "lazy"]
    named = [tag.get("src") or tag.get("href") for tag in eager if tag.name in ("script", "link", "img")]
    paths = [page.parent / unquote(urlsplit(url).path) for url in named if url and not urlsplit(url).scheme]
    found = {path.resolve() for path in paths if path.is_file() and path.suffix != ".html"}
    if any(path.parent.name == "mathjax" for path in found):
        found |= {path.resolve() for path in (site / "_static" / "mathjax").rglob("*.js")}
    return page.stat().st_size + sum(path.stat().st_size for path in found)


def prose(article: Tag) -> str:
    """The text a reader reads: without listings, and with inline code as a bare pair of backticks."""
    pieces = []
    for piece in article.descendants:
        if not isinstance(piece, NavigableString) or type(piece) is not NavigableString:
            continue  # comments, scripts and styles are other types
        inside = piece.find_parent(["pre", "code"])
        if inside is None:
            pieces.append(piece)
        elif inside.name == "code" and (not pieces or pieces[-1] != "`code`"):
            pieces.append("`code`")
    return "".join(pieces)


def outputs(article: Tag) -> str:
    """The text that code cells printed."""
    return "\n".join(tag.get_text() for tag in article.select(".cell_output"))


def check_page(page: Path, site: Path) -> list[str]:
    """Every fault of one page, as sentences."""
    tree = parse(page)
    assets = [url for url in loaded(tree) if not url.startswith("data:")]
    faults = [f"loads {url} from outside" for url in assets if EXTERNAL.match(url)]
    links = [tag["href"] for tag in tree.find_all(["a", "area"], href=True)]
    refresh = tree.find("meta", attrs={"http-equiv": re.compile("^refresh$", re.I)})
    if refresh:
        links.append(refresh["content"].partition("url=")[2])
    faults += [fault for url in dict.fromkeys(assets + links) if (fault := missing(page, url, site))]
    if (heavy := weight(page, site)) > WEIGHT:
        faults.append(f"loads {heavy / 1e6:.1f} MB, but should load at most {WEIGHT / 1e6:g}")
    article = tree.find("article")
    if article is None:
        return faults
    for image in article.find_all("img"):
        alt = image.get("alt", "").strip()
        if not alt or PATH_AS_ALT.fullmatch(alt):
            faults.append(f"image {image.get('src', '')[:60]} has no description: alt={alt!r}")
    text, printed = prose(article), outputs(article)
    faults += [f"holds {name}" for name, css in BAD_MARKUP.items() if article.select_one(css)]
    faults += [
        f"shows {name}" for name, sign in BAD_TEXT.items() if sign.search(text) or sign.search(printed)
    ]
    faults += [f"an unrendered directive or role: {found.group()!r}" for found in ROLE.finditer(text)]
    return faults


def pages_of(site: Path) -> list[Path]:
    """The pages; the theme keeps templates in ``_static`` that are none."""
    return [page for page in sorted(site.rglob("*.html")) if site / "_static" not in page.parents]


def check_site(site: Path) -> tuple[int, list[str]]:
    """The number of pages, and every fault of the site as ``file: fault``."""
    site = site.resolve()
    pages = pages_of(site)
    faults = [f"{page.relative_to(site)}: {fault}" for page in pages for fault in check_page(page, site)]
    for sheet in sorted(site.rglob("*.css")):
        outside = [url for url in CSS_URL.findall(sheet.read_text(encoding="utf-8")) if EXTERNAL.match(url)]
        faults += [f"{sheet.relative_to(site)}: loads {url} from outside" for url in outside]
    return len(pages), faults


def main(arguments: list[str]) -> int:
    """Print the faults; the exit status tells whether there are any."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: check_site.py FOLDER, the folder of the built pages", file=sys.stderr)
        return 2
    pages, faults = check_site(Path(arguments[0]))
    if not pages:
        faults = [f"{arguments[0]}: no page at all"]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{pages} pages checked, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
