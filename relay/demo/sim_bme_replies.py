"""The shapes of blastmail's and blaynmail's replies, in JSON and XML (their API documents). Pure.

Counts are strings; `details.detail` is missing for no failure, one object for one, a list for more, as real accounts
show. The two brands answer the deletion of error records differently in JSON.
"""

import json
from collections.abc import Sequence
from typing import Literal
from xml.sax.saxutils import escape

from relay.demo.sim_bme_records import ErrorRecord
from relay.demo.sim_readers import Failure

Brand = Literal["blastmail", "blaynmail"]
Format = Literal["xml", "json"]

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>\n'


def token(value: str, wanted: Format) -> str:
    """Answer a login: `accessToken` in JSON, `access_token` in XML."""
    if wanted == "json":
        return _json({"accessToken": value})
    return f"{_XML}<authenticate>\n    <access_token>{value}</access_token>\n</authenticate>\n"


def error(message: str, wanted: Format) -> str:
    """Answer anything that is not 200."""
    if wanted == "json":
        return _json({"error": {"message": message}})
    return f"{_XML}<error>\n    <message>{escape(message)}</message>\n</error>\n"


def counted(success: int, failure: int, failures: Sequence[Failure], wanted: Format) -> str:
    """Answer an import."""
    if wanted == "xml":
        details = "".join(_detail_xml(found) for found in failures)
        inner = f"    <success>{success}</success>\n    <failure>{failure}</failure>\n"
        return f"{_XML}<contact>\n{inner}    <details>\n{details}    </details>\n</contact>\n"
    found = [{"content": f.content, "message": f.message, "lineNumber": f.line} for f in failures]
    reply: dict[str, object] = {"success": str(success), "failure": str(failure)}
    if found:
        reply["details"] = {"detail": found[0] if len(found) == 1 else found}
    return _json(reply)


def error_records(records: Sequence[ErrorRecord], wanted: Format) -> str:
    """Answer a search for error records."""
    if wanted == "json":
        return _json({"contact": [{"count": r.count, "date": r.date, "type": r.type} for r in records]})
    inner = "".join(
        f"    <contact>\n        <type>{r.type}</type>\n        <date>{r.date}</date>\n"
        f"        <count>{r.count}</count>\n    </contact>\n"
        for r in records
    )
    return f"{_XML}<contacts>\n{inner}</contacts>\n"


def deleted(date: str, brand: Brand, wanted: Format) -> str:
    """Answer the deletion of the error records of a date-time."""
    if wanted == "json":
        return _json({"failure": "", "success": date} if brand == "blastmail" else {"contact": [{"date": date}]})
    return f"{_XML}<contact>\n    <success>{date}</success>\n    <failure />\n</contact>\n"


def _detail_xml(found: Failure) -> str:
    return (
        f"        <detail>\n            <lineNumber>{found.line}</lineNumber>\n"
        f"            <content>{escape(found.content)}</content>\n"
        f"            <message>{escape(found.message)}</message>\n        </detail>\n"
    )


def _json(reply: object) -> str:
    return json.dumps(reply, ensure_ascii=False, separators=(",", ":"))
