"""Which rows of a dataset are read: whole pages, drawn from the seed before any row is fetched.

Neighbouring rows lie in the same bytes of a file, so that pages of rows cost few requests.
"""

from __future__ import annotations

from random import Random

from sn37.errors import DataFault

__all__ = ["page_indices"]


def page_indices(generator: Random, total: int, rows: int, page_rows: int, what: str) -> list[int]:
    """Indices of `rows` rows out of `total`, in distinct pages of `page_rows` neighbours.

    Pages come in the order they were drawn, the rows of a page in their own. what: the dataset, for messages.
    Raises DataFault where the dataset has fewer rows than asked for.
    """
    if total < rows:
        raise DataFault(f"{what} has {total} rows; expected {rows} or more")
    pages = -(-total // page_rows)
    # One page more than needed: the last page of the dataset may be short.
    drawn = generator.sample(range(pages), min(pages, -(-rows // page_rows) + 1))
    indices = [index for page in drawn for index in range(page * page_rows, min((page + 1) * page_rows, total))]
    return indices[:rows]
