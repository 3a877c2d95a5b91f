"""What blastmail and blaynmail keep of imports in which lines failed: records by type and second. Pure.

The documents name a record by its type and its time to the second, and by nothing else. So two imports of one type that
end in the same second are one record here, with the lines of both: the worst for whoever takes a record for one
import's. Nothing about the exported file is documented but that it is CSV; `RecordStyle` says how it is written.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.demo.sim_csv import ENCODING, record
from relay.demo.sim_readers import Failure

CREATE_ERROR, DELETE_ERROR = "登録エラー", "削除エラー"

RECORDS_KEPT = 50
RECORD_ROWS_KEPT = 1_000
"""So many records are kept, and so many rows of each; the count goes on."""


@dataclass(frozen=True, slots=True)
class RecordStyle:
    """How exported files are written: encoding, the message's column, whether columns are turned round.

    `more` are columns that the file did not have.
    """

    encoding: str = ENCODING
    message: str = "エラー内容"
    turned: bool = False
    more: tuple[str, ...] = ()


@dataclass(slots=True)
class ErrorRecord:
    """One record: the time (Japan, `yyyyMMddTHH:mm:ss`), the type, how many lines failed, and their cells by header."""

    date: str
    type: str
    count: int = 0
    header: list[str] = field(default_factory=list)
    rows: list[tuple[dict[str, str], str]] = field(default_factory=list)


class ErrorRecords:
    """The records of one contract, in the order in which they were made."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], ErrorRecord] = {}

    def keep(self, kind: str, date: str, header: Sequence[str], failures: Sequence[Failure]) -> None:
        """Keep an import's failed lines; none make no record."""
        if not failures:
            return
        kept = self._records.setdefault((kind, date), ErrorRecord(date, kind))
        kept.count += len(failures)
        kept.header += [name for name in header if name not in kept.header]
        for failure in failures[: max(0, RECORD_ROWS_KEPT - len(kept.rows))]:
            cells = next(csv.reader([failure.content], strict=True))
            kept.rows.append((dict(zip(header, cells, strict=True)), failure.message))
        for key in list(self._records)[:-RECORDS_KEPT]:
            del self._records[key]

    def found(self, dates: dict[str, str | None]) -> list[ErrorRecord]:
        """List the records of the given times by type, or all if none is given; the latest first."""
        asked = any(dates.values())
        return [one for one in reversed(self._records.values()) if not asked or dates.get(one.type) == one.date]

    def export(self, kind: str, date: str, style: RecordStyle) -> bytes | None:
        """Write a record's file; None if there is no such record."""
        kept = self._records.get((kind, date))
        if kept is None:
            return None
        header = [*kept.header, *style.more, style.message]
        lines = [[*(row.get(name, "") for name in kept.header), *style.more, said] for row, said in kept.rows]
        step = -1 if style.turned else 1
        text = "".join(record(cells[::step]) + "\r\n" for cells in [header, *lines])
        return text.encode(style.encoding, "replace")

    def delete(self, kind: str, date: str) -> bool:
        """Delete a record; False if there is none."""
        return self._records.pop((kind, date), None) is not None
