"""The environment of processes that this one starts.

What a process has in its environment can be read for as long as it lives (`/proc/PID/environ`, `ps e`), is
written into core files, and goes on to what it starts. Settings hold keys, tokens and passwords: no process
gets them in that way but the one that the operator starts.
"""

from collections.abc import Mapping

#: Of the server's settings, and of the clients' credentials. In any case: settings are read in any.
_OURS = ("TASKS_", "KUUERI_")


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without settings and credentials of this project."""
    return {name: value for name, value in environment.items() if not name.upper().startswith(_OURS)}
