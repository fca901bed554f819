"""What a client library's errors mean to us, in one place."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from kuueri_grpc.domain.errors import StoreUnavailable


@contextmanager
def outages_mapped() -> Iterator[None]:
    """Turn every failure to get an answer from the store into `StoreUnavailable`.

    Whatever the store answers instead of serving (LOADING, READONLY, MISCONF, OOM, a lost connection,
    a time-out) is an outage to the caller: it may pass, and the call can be repeated.
    """
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"the store does not serve now ({type(error).__name__})") from error
