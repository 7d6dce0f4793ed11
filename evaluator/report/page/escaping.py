"""Text of others into a page: nothing in it becomes markup, a script, or an order to the reader's screen."""

import html
import json
from typing import Any

from evaluator.wording import printable


def text(value: object) -> str:
    """A value as HTML text or as a quoted attribute: `<b> & "c"` -> `&lt;b&gt; &amp; &quot;c&quot;`."""
    return html.escape(printable(str(value)))


def data(value: Any) -> str:
    """A value as JSON for a script element that is not executed: no `<`, so that nothing in it ends the element.

    Raises:
        ValueError: if a number is not finite.
    """
    told = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return told.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
