"""A request's head, of which only the size and the end are looked at. Pure."""

END = b"\r\n\r\n"


class Head:
    """Counts a head's bytes, up to its first empty line, as they come."""

    __slots__ = ("_last", "bytes")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin a new one."""
        self.bytes = 0
        self._last = b""

    def take(self, data: bytes) -> bool:
        """Count what has come. True once the head is whole."""
        if self.bytes == 0:
            data = data.lstrip(b"\r\n")  # HTTP allows empty lines before a request; they neither begin nor end a head
        looked_at = self._last + data
        end = looked_at.find(END)
        if end >= 0:
            self.bytes += end + len(END) - len(self._last)
            return True
        self.bytes += len(data)
        self._last = looked_at[1 - len(END) :]
        return False
