"""Results as files, and files back into results; ``docs/formats.md`` describes them."""

from app.sharing.kinds import (
    export,
    import_document,
    import_documents,
    kind_of,
    thing_in_link,
)

__all__ = ["export", "import_document", "import_documents", "kind_of", "thing_in_link"]
