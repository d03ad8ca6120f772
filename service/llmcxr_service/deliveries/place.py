"""Where the queue lives: its directory, its database, and which replica this is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from llmcxr_service.settings import Settings

_SQLITE = "queue.sqlite"


@dataclass(frozen=True)
class Place:
    """Where the queue lives.

    Attributes:
        spool: directory of files.
        database_url: of the records; an SQLite file in the spool where None.
        replica: name of this process; the same after a restart, another than other replicas'.
    """

    spool: Path
    database_url: str | None = field(default=None, repr=False)
    replica: str = "local"

    @property
    def url(self) -> str:
        """Of the database."""
        return self.database_url or f"sqlite:///{self.spool.resolve() / _SQLITE}"

    @property
    def exists(self) -> bool:
        """False where the SQLite file is not there yet; of a server it cannot be told."""
        return self.database_url is not None or (self.spool / _SQLITE).exists()

    def prepare(self) -> None:
        """Make the SQLite file before anybody else does, for our eyes only."""
        if self.database_url is None:
            (self.spool / _SQLITE).touch(0o600)


def place_of(settings: Settings) -> Place:
    """As configured."""
    database = settings.deliveries_database
    url = None if database is None else database.get_secret_value()
    return Place(settings.spool, url, settings.replica)
