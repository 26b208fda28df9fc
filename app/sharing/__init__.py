"""Results as files, and files back into results: JSON, CSV and HTML pages.

``kinds.py`` exports and imports; ``docs/formats.md`` describes the files. A kind of run is one
``RunDocument``. Calls of the pages are in ``app.pages.shared.sharing_calls``.
"""

from app.sharing.kinds import (
    export,
    import_document,
    import_documents,
    kind_of,
    thing_in_link,
)

__all__ = ["export", "import_document", "import_documents", "kind_of", "thing_in_link"]
