"""A daemon as in the books: it forks, leads a session, forks again, closes what it has, and writes a pid file."""

import os
import signal
import sys
import time
import zlib

directory = sys.argv[1]
if os.fork():
    # The first process stays until the daemon has said that it is there.
    deadline = time.monotonic() + 60
    while not os.path.exists(f"{directory}/daemon.pid"):
        if time.monotonic() > deadline:
            sys.exit(1)
        time.sleep(0.01)
    os.wait()
    sys.exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
os.umask(0o027)
null = os.open("/dev/null", os.O_RDWR)
for number in range(3):
    os.dup2(null, number)
os.closerange(3, 64)

wanted = {signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)


def open_log():
    return open(f"{directory}/daemon.log", "a", buffering=1)


log = open_log()
answers, value = 0, 1
with open(f"{directory}/daemon.tmp", "w") as file:
    file.write(f"{os.getpid()}\n")
os.rename(f"{directory}/daemon.tmp", f"{directory}/daemon.pid")
leads = os.getsid(0) == os.getpid() or os.getpgrp() == os.getpid()
while True:
    came = signal.sigtimedwait(wanted, 60)
    if came is None or came.si_signo == signal.SIGTERM:
        break
    if came.si_signo == signal.SIGHUP:
        log.close()
        log = open_log()
        continue
    for _ in range(300):
        value = zlib.crc32(bytes(value & 255 for _ in range(200)), value)
    answers += 1
    log.write(f"answer {answers}: {value:08x}, {'a leader' if leads else 'no leader'}\n")
os.unlink(f"{directory}/daemon.pid")
log.write(f"end after {answers}\n")
