"""Becomes another program that dies with the process that started it. Run by path, with the standard library only.

Orphaned engines would keep their port and data folder, and orphaned workers would go on answering without a supervisor.
Doing the work in a program of its own, instead of between fork and exec of a process with threads, keeps it safe.

    launch.py LIFELINE_FD DEATH_SIGNAL PARENT_PID UID GID PROGRAM [ARGUMENT...]

LIFELINE_FD: -1 asks the Linux kernel for the signal (it follows the *thread* that started this program); else a pipe's
reading end, watched by a small process until its writing end closes. UID and GID: -1 keeps them.
"""

import ctypes
import os
import select
import signal
import sys

_PR_SET_PDEATHSIG = 1
_WATCH_INTERVAL_S = 1.0


def main(arguments: list[str]) -> None:
    """Change the user, arrange the death, become PROGRAM."""
    lifeline, death_signal, parent, uid, gid = (int(text) for text in arguments[:5])
    program = arguments[5:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # Changing the user clears the kernel's death signal, so it is asked for afterwards.
    if lifeline < 0:
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent:
            return  # It died before the kernel was asked.
    else:
        if os.fork() == 0:
            _watch(lifeline, death_signal)
        os.close(lifeline)
    try:
        os.execv(program[0], program)  # noqa: S606 - a shell is just what must not run here
    except OSError as error:
        sys.exit(f"FATAL: {program[0]} cannot be started: {error.strerror}")


def _watch(lifeline: int, death_signal: int) -> None:
    """Wait for the end of either side. The watcher stays the program's child, so that its pid cannot mean another."""
    program = os.getppid()
    os.setsid()
    os.dup2(lifeline, 0)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    # Inherited sockets and pipes must not stay open in the watcher after the program has closed them.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.getppid() == program:
        if select.select([0], [], [], _WATCH_INTERVAL_S)[0] and not os.read(0, 4096):
            if os.getppid() == program:
                os.kill(program, death_signal)
            break
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
