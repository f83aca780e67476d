"""Pictures of twins and pages: as small files, loaded when they are looked at, readable on a phone."""

import hashlib
import io
import re
from base64 import b64decode
from pathlib import Path

import nbformat
from PIL import Image, ImageChops, ImageSequence, ImageStat

COLOURS = 256  # what one byte for a pixel can tell apart
OFF = 0.5  # of 255, the mean over pixels and channels: nobody sees it, since it lies at the edges of lines
WIDE = 640  # pixels: a wider picture without a second form gets a box in which it scrolls on a phone
NARROW = "(max-width: 600px)"  # screens that show the second form of a figure (mamlkit.report.narrow)
SMALLEST = {"PNG": {"optimize": True}, "WEBP": {"lossless": True, "method": 6}}
TAG = re.compile(r'<img (?:[^>]*? )?src="([^"]*_images/([^"/]+)\.(?:png|gif))"[^>]*>')


def in_few_colours(drawing: bytes) -> bytes:
    """A drawing, PNG or WebP, in a third of its bytes; as it came, if it has more colours than 256."""
    with Image.open(io.BytesIO(drawing)) as picture:
        whole, kind = picture.convert("RGB"), picture.format
        if picture.has_transparency_data and picture.convert("RGBA").getextrema()[3][0] < 255:
            return drawing
    few = whole.quantize(COLOURS, dither=Image.Dither.NONE)
    off = ImageStat.Stat(ImageChops.difference(whole, few.convert("RGB"))).mean
    smaller = io.BytesIO()
    few.save(smaller, kind, **SMALLEST[kind])
    return min(drawing, smaller.getvalue(), key=len) if max(off) < OFF else drawing


def finish(site: Path) -> None:
    """Replace each picture by a smaller file of the same pixels, in every page that shows it."""
    sizes, images = {}, site / "_images"
    for name, webp in second_forms(site.parent / "jupyter_execute").items():
        if (images / name).exists():
            (images / second(name)).write_bytes(webp)
            with Image.open(images / second(name)) as picture:
                sizes[second(name)] = picture.size
    for path in sorted(images.glob("*")):
        if path.suffix in (".png", ".gif"):
            sizes[path.name] = shrink(path)
            path.unlink()
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if "_images/" in text:
            page.write_text(refer(text, sizes), encoding="utf-8")


def second_forms(executed: Path) -> dict[str, bytes]:
    """Of the executed notebooks' figures those that have a form for phones; by the name of the first's file,
    which MyST-NB makes of its bytes."""
    found = {}
    for path in sorted(executed.rglob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                if narrow := output.get("metadata", {}).get("image/png", {}).get("narrow"):
                    png = b64decode(output.data["image/png"])
                    found[f"{hashlib.sha256(png).hexdigest()}.png"] = b64decode(narrow)
    return found


def second(name: str) -> str:
    """The file of a figure's second form.

    >>> second("curves.png")
    'curves.narrow.webp'
    """
    return name.replace(".png", ".narrow.webp")


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
        if narrow := sizes.get(second(name)) if name.endswith(".png") else None:
            form = 'srcset="{}" width="{}" height="{}"'.format(second(tag.group(1)), *narrow)
            return f'<picture><source media="{NARROW}" {form}>{picture}</picture>'
        if width <= WIDE:
            return picture
        return f'<span class="scrolls" style="--natural: {width}px">{picture}</span>'

    text = TAG.sub(changed, text)
    return re.sub(
        r'_images/[^"/]+\.(?:png|gif)(?=")',
        lambda link: renamed(link.group()) if link.group().partition("/")[2] in sizes else link.group(),
        text,
    )
