"""Why a server does not run."""


class StartError(Exception):
    """The server cannot start, or cannot go on; the text says why and what to do."""
