"""Ask a browser without a window what a script finds on a page.

The page sends its answer to a small server of this process, which waits for it. So nothing hangs on a clock:
a browser that is told to write the page down after so many seconds may do so before the script is done.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LIMIT = 600  # seconds until a browser that does not answer is taken for broken
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:">{head}<body>{body}<script>
addEventListener("load", async () => {{
  const answer = {{}};
  try {{
    answer.found = await (async () => {{ {script} }})();
  }} catch (error) {{
    answer.error = String(error);
  }}
  fetch("/answer", {{ method: "POST", body: JSON.stringify(answer) }});
}});
</script>"""


def program() -> str | None:
    """Where a browser is that needs no window."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, page: bytes, answers: Queue[Any], **more: Any) -> None:
        self.page, self.answers = page, answers
        super().__init__(*args, **more)

    def do_GET(self) -> None:
        if self.path != "/asked.html":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page)

    def do_POST(self) -> None:
        answer = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.answers.put(answer)

    def log_message(self, *args: Any) -> None:
        """Nothing: what a browser fetches is of no interest."""


def ask(
    folder: Path, script: str, *options: str, head: str = "", body: str = "", limit: float = LIMIT
) -> Any:
    """What a script returns on a page, whose server has a folder's files.

    Args:
        folder: its files are at ``/``.
        script: the body of an asynchronous JavaScript function, called once the page has loaded.
        options: more of the browser's options.
        head: of the page.
        body: of the page.
        limit: seconds.

    Raises:
        RuntimeError: no browser; it ended or took longer than the limit; the script threw an error.
    """
    if (browser := program()) is None:
        raise RuntimeError(f"no browser is here; one of these is needed: {', '.join(BROWSERS)}")
    answers: Queue[Any] = Queue()
    page = PAGE.format(head=head, body=body, script=script).encode()
    with (
        ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(_Handler, directory=str(folder), page=page, answers=answers)
        ) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/asked.html"
        with _opened([browser, f"--user-data-dir={profile}", *options, address]) as process:
            answer = _first(answers, process, limit)
        server.shutdown()
    if "error" in answer:
        raise RuntimeError(f"the page's script threw an error: {answer['error']}")
    return answer.get("found")


@contextmanager
def _opened(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    always = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-proxy-server"]
    command[1:1] = always
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _first(answers: Queue[Any], process: subprocess.Popen[bytes], limit: float) -> Any:
    for _ in range(max(1, int(limit))):
        try:
            return answers.get(timeout=1)
        except Empty:
            if process.poll() is not None:
                raise RuntimeError(f"the browser ended ({process.returncode}) without an answer") from None
    raise RuntimeError(f"the browser gave no answer within {limit:g} s")
