"""Everything that reads files which may come from elsewhere.

One table; a reader that comes later (of a network engine's files, say) takes a line in one of its parts.
"""

import read_data
import read_deployment
import read_documents
import read_runs
import read_updates
from reader import Reader

READERS: dict[str, Reader] = {
    reader.name: reader
    for part in (read_runs, read_updates, read_documents, read_data, read_deployment)
    for reader in part.READERS
}
