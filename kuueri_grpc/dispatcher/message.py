"""What is sent and what comes back: an HTTP/1.1 request as bytes, and as much of its answer as counts."""

from dataclasses import dataclass, field

from kuueri_grpc.dispatcher.url import Target

Header = tuple[bytes, bytes]


@dataclass(slots=True)
class Request:
    """A complete request: nothing is added to it when it is sent. `headers` begin with that of the host."""

    method: str
    target: Target
    headers: list[Header] = field(repr=False)
    body: bytes = field(repr=False)
    #: Whether another request may follow on the connection: not where it is authenticated by this one.
    keeps_connection: bool = True

    def wire(self) -> bytes:
        """Return what goes over the connection.

        Raises:
            ValueError: a header breaks out of its line. Subscribe refuses such a task; but whoever could
                write two lines here could write a second request.
        """
        lines = [self.method.encode("ascii") + b" " + self.target.path + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self.headers]
        head = b"\r\n".join(lines)
        breaks = len(lines) - 1
        if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
            raise ValueError("a header has a line break or a NUL in it")
        return head + b"\r\n\r\n" + self.body


@dataclass(slots=True)
class Answer:
    """What is known of an answer so far (status code 0: nothing); its body is not kept.

    `cut_off_at`: the bytes of its body that were read, where it has more; 0: it was read to the end.
    `is_whole`: nothing more of it is to come.
    `sent_again`: a request was sent a second time, see `GuardedTransport.send`.
    """

    status_code: int = 0
    retry_after: str | None = None
    location: str | None = None
    cut_off_at: int = 0
    is_whole: bool = False
    sent_again: bool = False

    def forget(self) -> None:
        """Begin again, for the answer to another request of the attempt."""
        self.status_code = 0
        self.cut_off_at = 0
        self.is_whole = False
        self.retry_after = self.location = None

    @property
    def succeeded(self) -> bool:
        """Return whether it is a 2xx."""
        return 200 <= self.status_code < 300


class InvalidResponse(Exception):
    """What came back is no HTTP that could be read. It says nothing of what it was."""
