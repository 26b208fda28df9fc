"""Results as files, and files back into results: JSON, CSV and HTML pages.

``kinds.py`` is the table of what can be shared and in which forms; ``docs/formats.md`` describes
the files. To share something new, write its writers and its reader and add one entry there. Calls
of the pages are in ``app.pages.shared.sharing_calls``.
"""

from app.sharing.kinds import (
    KINDS,
    export,
    import_document,
    import_documents,
    kind_of,
    thing_in_link,
)

__all__ = ["KINDS", "export", "import_document", "import_documents", "kind_of", "thing_in_link"]
