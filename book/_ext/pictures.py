"""Pictures of twins and pages: as small files, loaded when they are looked at, readable on a phone."""

import io
import re
from pathlib import Path

from PIL import Image, ImageChops, ImageSequence, ImageStat

COLOURS = 256  # what one byte for a pixel can tell apart
OFF = 0.5  # of 255, the mean over pixels and channels: nobody sees it, since it lies at the edges of lines
WIDE = 640  # pixels: a picture that is wider gets a box of its own, in which it scrolls on a phone
TAG = re.compile(r'<img (?:[^>]*? )?src="([^"]*_images/([^"/]+)\.(?:png|gif))"[^>]*>')


def in_few_colours(png: bytes) -> bytes:
    """A drawing in a third of its bytes, one for each pixel; as it came, if it has more colours than that."""
    with Image.open(io.BytesIO(png)) as picture:
        whole = picture.convert("RGB")
        if picture.has_transparency_data and picture.convert("RGBA").getextrema()[3][0] < 255:
            return png
    few = whole.quantize(COLOURS, dither=Image.Dither.NONE)
    off = ImageStat.Stat(ImageChops.difference(whole, few.convert("RGB"))).mean
    smaller = io.BytesIO()
    few.save(smaller, "png", optimize=True)
    return min(png, smaller.getvalue(), key=len) if max(off) < OFF else png


def finish(site: Path) -> None:
    """Replace each picture by a smaller file of the same pixels, in every page that shows it."""
    sizes = {}
    for path in sorted((site / "_images").glob("*")):
        if path.suffix in (".png", ".gif"):
            sizes[path.name] = shrink(path)
            path.unlink()
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if "_images/" in text:
            page.write_text(refer(text, sizes), encoding="utf-8")


def shrink(path: Path) -> tuple[int, int]:
    """Write a picture as WebP without loss, a film as ``NAME.film.webp`` and its last picture as
    ``NAME.still.webp``; returns width and height."""
    with Image.open(path) as picture:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]
        options = {"lossless": True, "method": 4}
        if path.suffix == ".gif":
            times = []
            for place in range(len(frames)):
                picture.seek(place)
                times.append(picture.info["duration"])
            options |= {"save_all": True, "append_images": frames[1:], "duration": times, "loop": 0}
            options |= {"minimize_size": True}
            frames[-1].save(path.with_suffix(".still.webp"), "webp", lossless=True, method=4)
        frames[0].save(path.with_name(renamed(path.name)), "webp", **options)
        return picture.size


def renamed(name: str) -> str:
    """What a picture is called in the site.

    >>> renamed("curves.png"), renamed("ant.gif")
    ('curves.webp', 'ant.film.webp')
    """
    return name.replace(".png", ".webp").replace(".gif", ".film.webp")


def refer(text: str, sizes: dict[str, tuple[int, int]]) -> str:
    """A page that shows the new files. All but its first wait until a reader comes near them."""
    first = True

    def changed(tag: re.Match[str]) -> str:
        nonlocal first
        name = tag.group(1).rpartition("/")[2]
        if name not in sizes:
            return tag.group()
        width, height = sizes[name]
        more = "" if first else ' loading="lazy"'
        first = False
        # keeps its place free until it is there
        more += f' width="{width}" height="{height}"' if " width=" not in tag.group() else ""
        picture = tag.group().replace("<img", f"<img{more}", 1)
        if width <= WIDE:
            return picture
        return f'<span class="scrolls" style="--natural: {width}px">{picture}</span>'

    text = TAG.sub(changed, text)
    return re.sub(
        r'_images/[^"/]+\.(?:png|gif)(?=")',
        lambda link: renamed(link.group()) if link.group().partition("/")[2] in sizes else link.group(),
        text,
    )
