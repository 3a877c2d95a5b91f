"""Reading what webhooks say at paths into `data`, or into a whole body. Pure."""

from relay import columns, csvline

ID_CHARACTERS_MAX = 200
"""As for webhooks' ids; no system's key for a customer comes near."""

EXPECTED_ID = f"expected the customer's id: text of 1 to {ID_CHARACTERS_MAX} characters, or a whole number"


def reader(path: str) -> columns.Read:
    """Compile a path into a JSON value; what is not there, or what it cannot be applied to, is None."""
    read = columns.reader(path)

    def found(data: object) -> object:
        try:
            value = read(data)
        except columns.UnfitError:
            return None
        return None if value is columns.MISSING else value

    return found


def sound_id(value: object) -> str | None:
    """Take a customer's id as text; None for what is none. 7 and "7" are the same customer."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        value = str(value) if value.bit_length() <= 3 * ID_CHARACTERS_MAX else ""
    if not isinstance(value, str) or csvline.broken(value):
        return None
    return value if 1 <= len(value) <= ID_CHARACTERS_MAX else None


def blank(value: object) -> bool:
    """Say whether there is no address: nothing, null or empty text, which no customer can be mailed at."""
    return value is None or (isinstance(value, str) and not value.strip())
