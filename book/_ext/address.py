"""What hangs on the book's address: buttons that lead to its repository, and the picture of a shared link."""

import re
from html import escape, unescape
from typing import Any

# Of every page that is shared; a page may have a description of its own.
PREVIEW = ("_static/preview.png", "A sine wave, five points of it, and two networks after one gradient step")
DESCRIPTION = "Every experiment of the MAML paper, run again beside the numbers that the paper has."


def show_repository(app: Any, config: Any) -> None:
    """Buttons to the repository and to machines that run notebooks, where ``_config.yml`` has its address.

    The one setting is ``repository: url``. Without it there is no button, since it would lead nowhere.
    """
    options = config.html_theme_options
    known = bool(options.get("repository_url"))
    for button in ("use_repository_button", "use_issues_button"):
        options[button] = known
    options["launch_buttons"] = (
        {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        }
        if known
        else {}
    )


def add_preview(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Tags by which a link to a page has a picture; relative, where no ``html_baseurl`` is."""
    if doctree is None:
        return
    file, words = PREVIEW
    address = app.config.html_baseurl.rstrip("/") + "/" + file if app.config.html_baseurl else None
    tags = {"image": address or context["pathto"](file, resource=True), "image:alt": words}
    known = context.get("metatags", "")
    if 'name="description"' not in known:
        known += f'\n<meta name="description" content="{DESCRIPTION}">'
        tags["description"] = DESCRIPTION
    if "og:title" not in known:
        # the number of a chapter has a tag of its own
        title = unescape(re.sub("<.*?>", "", context["title"]))
        tags["title"] = f"{title} · {app.config.html_title}"
    context["metatags"] = known + "".join(
        f'\n<meta property="og:{name}" content="{escape(text)}">' for name, text in tags.items()
    )
