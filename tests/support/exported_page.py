"""The data in an exported page, as its script finds it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any

__all__ = ["data_of"]


def data_of(page: str) -> dict[str, Any]:
    held = re.search(r'id="sol-data">(.*?)</script>', page, re.DOTALL)
    assert held is not None
    return dict(json.loads(gzip.decompress(base64.b64decode(held[1], validate=True))))
