"""A script, not a module: `python -I -S exec_tied.py PARENT_PID PROGRAM [ARGUMENT...]` becomes PROGRAM.

On Linux the program gets SIGTERM as soon as its parent ends, even by SIGKILL. That needs prctl(2) in
the child, before exec, and this is where it can be called safely: `preexec_fn` would run Python between
fork and exec, where a lock that another thread held at the fork is held for ever, and setpriv(1) is not
installed everywhere. The setting survives exec. Elsewhere than on Linux the program just is not told.

Files that the program makes are private to the user.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def _end_with_parent(parent_pid: int) -> None:
    if sys.platform != "linux":
        return
    try:
        import ctypes
    except ImportError:  # a Python built without libffi: as on other systems
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
    if os.getppid() != parent_pid:
        # It ended before prctl was called, so its end will not be signalled.
        sys.exit("the starting process ended")


def main(arguments: list[str]) -> None:
    """Become the program; exits with a message on stderr when that is not possible."""
    parent_pid, program, *rest = arguments
    _end_with_parent(int(parent_pid))
    os.umask(0o077)
    try:
        os.execv(program, [program, *rest])  # noqa: S606  no shell is wanted
    except OSError as error:
        sys.exit(f"cannot execute {program}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
