"""How the web page is served: on this machine alone and without requests to others, unless a link is asked for."""

from pathlib import Path
from typing import Any, NamedTuple

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from salmonn.demo_style import CSS, theme
from salmonn.errors import SalmonnError

# What a browser may load and whom it may ask: this server. Gradio has scripts in its pages and makes workers of blobs.
POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)


class Addresses(NamedTuple):
    """Where the page is: on this machine, and in public (None without a link)."""

    local: str
    public: str | None


class ClosedPage:
    """Tells browsers not to ask any other machine; wraps an ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, with the policy in the header."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = POLICY
                headers["referrer-policy"] = "no-referrer"
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, send_with_policy)


def launch(
    page: Any,
    *,
    host: str,
    port: int,
    share: bool,
    auth: tuple[str, str] | None,
    max_upload_mb: int,
    allowed: Path,
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

    Raises:
        SalmonnError: the port is in use, or no public link can be had.
    """
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
            app_kwargs={"middleware": [Middleware(ClosedPage)], "docs_url": None, "redoc_url": None},
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
    return Addresses(local, public)
