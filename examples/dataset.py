"""A dataset of one's own: the rows of a database, each a document, in the order in which they were written.

    glassgpt train --run.code examples/dataset.py

reads letters.db in the working folder, a table `letters` with the columns `day` and `body`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

DATABASE = "file:letters.db?mode=ro"  # ro: one that is not there is an error, and none is made


def documents() -> Iterator[str]:
    with closing(sqlite3.connect(DATABASE, uri=True)) as database:
        for (body,) in database.execute("SELECT body FROM letters ORDER BY day"):
            yield body
