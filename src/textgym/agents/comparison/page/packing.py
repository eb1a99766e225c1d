"""JSON values as text that fits into a page."""

import base64
import gzip
import json
from typing import Any


def pack(value: Any) -> str:
    """JSON, gzip, base64; lone surrogates, which no file can hold, become U+FFFD."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    data = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8")
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode("ascii")
