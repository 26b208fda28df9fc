"""The data in an exported page, as its script finds it."""

import base64
import gzip
import json
import re


def data_of(page):
    held = re.search(r'id="sol-data">(.*?)</script>', page, re.DOTALL)
    return dict(json.loads(gzip.decompress(base64.b64decode(held[1], validate=True))))
