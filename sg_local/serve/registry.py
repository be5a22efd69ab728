"""The models that are served, by name: runs on one base, and the base itself.

A run is read anew when what it was made from changes on the disk; where that fails, it goes on as it was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sg_local.backends import Generator
from sg_local.records import SgError
from sg_local.serve.answers import Service
from sg_local.serve.api import ApiError

RETRY_S = 60.0  # from a fit that failed to the next

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a service comes from: how it is read, and what tells that it must be read anew.

    `finish` reads it with all that takes time, such as fitted probabilities (None: there is no such thing).
    """

    load: Callable[[], Service]
    stamp: Callable[[], Any] = lambda: None
    finish: Callable[[], Service] | None = None


@dataclass
class Entry:
    """A served model, as it was read last. `created` is a Unix time.

    `retry_at_s`: what takes time has failed, and is tried again from then on (of the monotonic clock).
    """

    source: Source
    service: Service
    stamp: Any
    created: int = field(default_factory=lambda: int(time.time()))
    retry_at_s: float | None = None


class Registry:
    """Services by name, in the order they came. Safe to use from any thread.

    `opener` finds the source of a run by its name, for those that are added later; None: none can be. `beside` is the
    engine that may be asked beside the requests, once it serves.
    """

    def __init__(self, opener: Callable[[str], Source] | None = None) -> None:
        self._opener = opener
        self.beside: Generator | None = None
        self._entries: dict[str, Entry] = {}
        self._lock = threading.RLock()

    @classmethod
    def of(cls, *services: Service) -> Registry:
        """Services that never change."""
        registry = cls()
        for service in services:
            registry.put(Source(lambda service=service: service))  # type: ignore[misc]
        return registry

    @property
    def names(self) -> list[str]:
        """The names of all models."""
        return list(self._entries)

    @property
    def services(self) -> list[Service]:
        """All services, as they are now."""
        return [self.find(name) for name in self.names]

    def put(self, source: Source) -> Service:
        """Serve what this source gives, in place of what had its name. Raises SgError where it cannot be read."""
        stamp = source.stamp()
        service = (source.finish or source.load)()
        with self._lock:
            self._entries[service.name] = Entry(source, service, stamp)
        return service

    def add(self, name: str) -> Service:
        """Serve a run. Raises ApiError where none can be added, SgError where it cannot be served."""
        if self._opener is None:
            raise ApiError("This server takes no further runs.", status=409)
        return self.put(self._opener(name))

    def drop(self, name: str) -> None:
        """Serve a model no longer. Raises ApiError for the last one, and for a name that is not there."""
        with self._lock:
            self._entry(name)
            if len(self._entries) == 1:
                raise ApiError("The last model cannot be dropped.", status=409)
            del self._entries[name]

    def find(self, name: str | None) -> Service:
        """The service of a name; of none the only one, or the first of a single run and its base.

        Raises ApiError (404) for an unknown name, and (400) where one must be chosen.
        """
        entry = self._entry(name or self._usual())
        with self._lock:
            stamp = entry.source.stamp()
            if stamp != entry.stamp:
                self._read_again(entry, stamp)
            elif entry.retry_at_s is not None and time.monotonic() >= entry.retry_at_s:
                self._follow(entry, stamp)
        return entry.service

    def created(self, name: str) -> int:
        """When a model was first served, as a Unix time."""
        return self._entry(name).created

    def _usual(self) -> str:
        names = self.names
        runs = [name for name in names if self._entries[name].service.task is not None]
        if len(names) == 1 or len(runs) == 1:
            return (runs or names)[0]
        message = f"Say which model: {', '.join(names)}."
        raise ApiError(message, param="model", code="model_required")

    def _entry(self, name: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            told = name if len(name) <= 100 else f"{name[:100]}..."
            message = f"There is no model {told!r} here; there is: {', '.join(self._entries)}."
            raise ApiError(message, status=404, param="model", code="model_not_found")
        return entry

    def _read_again(self, entry: Entry, stamp: Any) -> None:
        """Read at once what takes no time; the rest follows."""
        entry.stamp = stamp
        try:
            entry.service = entry.source.load()
        except SgError as error:
            logger.warning("%s continues as it was: %s", entry.service.name, error.message)
            return
        self._follow(entry, stamp)

    def _follow(self, entry: Entry, stamp: Any) -> None:
        """Begin, beside the requests, what takes time."""
        entry.retry_at_s = None
        if entry.source.finish is not None and self.beside is not None:
            finish = (entry, stamp, entry.source.finish)
            threading.Thread(target=self._finish, args=finish, name="sg-local-models", daemon=True).start()

    def _finish(self, entry: Entry, stamp: Any, finish: Callable[[], Service]) -> None:
        try:
            service = finish()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would tell of it
            told = error.message if isinstance(error, SgError) else repr(error)
            logger.warning("%s is served as it was read, for now: %s", entry.service.name, told)
            with self._lock:
                if entry.stamp == stamp:
                    entry.retry_at_s = time.monotonic() + RETRY_S
            return
        with self._lock:
            if entry.stamp == stamp:
                entry.service = service
