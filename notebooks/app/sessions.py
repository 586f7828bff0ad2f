"""Starts the session of every visitor as a copy of one process that has already loaded everything.

A fresh kernel needs seconds of processor time and 400 MB for torch and librosa; a copy (fork) shares both and starts
at once. `serve.py` runs this file and writes a line of JSON for each session; the process id comes back. When
`serve.py` ends, however it ends, this process and its sessions end too. Linux only.
"""

import ctypes
import gc
import json
import os
import resource
import signal
import sys
import tempfile

PR_SET_PDEATHSIG = 1


def warm_up():
    """Load, and use once, whatever an answer needs; leave no widget behind for a visitor to find."""
    import captum.attr  # noqa: F401 - what an explanation needs; to compute one here would take longer than all the rest
    import ipykernel.kernelapp  # noqa: F401
    import torch
    from ipywidgets.widgets.widget import _instances

    from sercore.widgets import build_demo

    torch.set_num_threads(1)  # threads do not survive a copy
    tempfile.gettempdir()  # finds the folder by writing there, which sessions may not
    before = set(_instances)
    demo = build_demo()
    demo.explains = False
    demo.try_example("happy")
    for name in set(_instances) - before:  # all but the layouts that a module shares
        if name in _instances:
            _instances[name].close()
    gc.collect()
    gc.freeze()  # a collection that touched these objects would copy their pages into every session


def start_session(argv, env, cwd, memory_mb):
    """Copy this process; the copy becomes a kernel and never returns."""
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no session outlives the server
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(2, 1)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["session", *argv]

    import ipywidgets
    from ipykernel.kernelapp import IPKernelApp

    kernel = IPKernelApp.instance()
    kernel.initialize([*argv, f"--IPKernelApp.parent_handle={os.getppid()}"])
    ipywidgets.register_comm_target()  # ipywidgets was imported before there was a kernel to tell
    # What a visitor uploads stays in memory: from here on, the system refuses to write any byte to any file.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * 2**20,) * 2)
    kernel.start()
    os._exit(0)


def main():
    warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries sessions that have ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, whose end is ours
    answers, _ = os.fdopen(os.dup(1), "w"), os.dup2(2, 1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(start_session(**json.loads(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
