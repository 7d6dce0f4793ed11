"""How the web page is served: on this machine alone and without requests to others, unless a link is asked for."""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.middleware import Middleware

from salmonn.demo.guard import UPLOADS_KEPT, ClosedPage
from salmonn.demo.style import CSS, theme
from salmonn.errors import SalmonnError

SHARE_DOMAIN = ".gradio.live"


class Addresses(NamedTuple):
    """Where the page is: on this machine, and in public (None without a link)."""

    local: str
    public: str | None


def launch(
    page: Any,
    *,
    host: str,
    port: int,
    share: bool,
    auth: tuple[str, str] | None,
    max_upload_mb: int,
    allowed: Path,
    uploads: Path,
) -> Addresses:
    """Start serving in the background.

    Args:
        page: Gradio's Blocks.
        host: address to listen at.
        port: port to listen at.
        share: open a public link through Gradio's servers.
        auth: user and password that visitors are asked for.
        max_upload_mb: size of the largest file that is taken.
        allowed: the one folder of this machine whose files the page may hand out.
        uploads: the folder that uploads are kept in.

    Raises:
        SalmonnError: the port is in use, or no public link can be had.
    """
    # Gradio waits until its link answers, before anybody knows which one it is.
    names = {SHARE_DOMAIN} if share else set()
    most_bytes = UPLOADS_KEPT * max_upload_mb * 2**20
    guard = Middleware(ClosedPage, public=names, uploads=uploads, most_bytes=most_bytes)
    try:
        _, local, public = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            auth=auth,
            max_file_size=f"{max_upload_mb}mb",
            allowed_paths=[str(allowed)],
            theme=theme(),
            css=CSS,
            app_kwargs={"middleware": [guard], "docs_url": None, "redoc_url": None},
            footer_links=[],
            state_session_capacity=100,
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            ssr_mode=False,
            show_error=False,
            inbrowser=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise SalmonnError(
            f"port {port} of {host} cannot be used, perhaps by another program: choose one with --port"
        ) from error
    if public:
        names.clear()
        names.add(urlsplit(public).hostname or "")
    return Addresses(local, public)
