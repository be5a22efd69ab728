"""Places for choices under way: a request gets all that it needs before any of its work begins, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sg_local.serve.api import ApiError


class Places:
    """`n_places` for choices and for questions of decision requests, over all requests. For one event loop."""

    def __init__(self, n_places: int) -> None:
        self.n_places, self.n_taken = n_places, 0

    @contextmanager
    def taken(self, n: int) -> Iterator[None]:
        """So many places until it is left. Raises ApiError (429) where fewer are free."""
        if self.n_taken + n > self.n_places:
            raise ApiError(self._too_many(n), status=429, code="queue_full", headers={"Retry-After": "1"})
        self.n_taken += n
        try:
            yield
        finally:
            self.n_taken -= n

    def _too_many(self, n: int) -> str:
        if n > self.n_places:
            return f"The request asks for {n} answers, and this server takes {self.n_places} at a time: ask for fewer."
        return "There are too many requests under way: try again in a moment."
