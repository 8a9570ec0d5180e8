"""A log that is renamed, and cut short, while it is open in three processes: one that writes and begins a new file when it is
told (SIGHUP), one that inherited the description and goes on with the old file, and one that reads it to its end."""

import hashlib
import os
import signal
import sys

os.chdir(sys.argv[1])
ROTATIONS = 24 * int(os.environ.get("ZAP_JOB_SCALE", 1))
LINES = 400


def work(x):
    return hashlib.sha256(b"%d" % x * 20000).hexdigest()[:20]


def opened():
    return os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def child(function):
    order, orders = os.pipe()
    answers, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(orders)
        os.close(answers)
        function(order, answer)
        os._exit(9)
    os.close(order)
    os.close(answer)
    return pid, orders, answers


def writer(order, answer):
    """Writes to the log of that name, and opens it anew by a signal."""
    log = opened()
    told = []
    signal.signal(signal.SIGHUP, lambda *_: told.append(1))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    number = 0
    while os.read(order, 1) == b"w":
        if signal.SIGHUP in signal.sigpending():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        if told:
            told.clear()
            os.close(log)
            log = opened()
        for _ in range(LINES):
            number += 1
            os.write(log, b"writer %d %s\n" % (number, work(number).encode()))
        os.write(answer, b"%d\n" % os.fstat(log).st_size)


def reader(order, answer):
    """Has one file after the other open, and reads each when it has got its new name."""
    log = None
    while (what := os.read(order, 1)) in (b"o", b"r"):
        if what == b"o":
            log = open("log", "rb")
            head = log.read(100)
            os.write(answer, b"%d\n" % len(head))
        else:
            rest = hashlib.sha256(head + log.read()).hexdigest()
            log.close()
            os.write(answer, rest.encode() + b"\n")


def main():
    writing = child(writer)
    reading = child(reader)

    def ask(whom, what):
        os.write(whom[1], what)
        text = b""
        while not text.endswith(b"\n"):
            text += os.read(whom[2], 200)
        return text.decode().strip()

    for rotation in range(1, ROTATIONS + 1):
        print("wrote", ask(writing, b"w"), flush=True)
        old = os.open("log", os.O_WRONLY | os.O_APPEND)
        print("head", ask(reading, b"o"))
        for back in range(3, 0, -1):
            if os.path.exists(f"log.{back}"):
                os.rename(f"log.{back}", f"log.{back + 1}")
        os.rename("log", "log.1")
        # Still the old one.
        print("wrote", ask(writing, b"w"), flush=True)
        os.write(old, b"rotation %d\n" % rotation)
        os.kill(writing[0], signal.SIGHUP)
        print("wrote", ask(writing, b"w"), flush=True)
        os.write(old, b"end of %d, %d bytes\n" % (rotation, os.fstat(old).st_size))
        print("read", ask(reading, b"r"), os.readlink(f"/proc/self/fd/{old}").rpartition("/")[2], flush=True)
        os.close(old)
        if rotation % 3 == 0:
            # As copytruncate does.
            with open("log", "rb") as log, open("log.copy", "wb") as copy:
                copy.write(log.read())
            os.truncate("log", 0)
    for whom in (writing, reading):
        os.write(whom[1], b"e")
        print("ended", os.waitstatus_to_exitcode(os.waitpid(whom[0], 0)[1]))
    for name in sorted(os.listdir(".")):
        if name.startswith("log"):
            data = open(name, "rb").read()
            print(name, len(data), hashlib.sha256(data).hexdigest())


main()
sys.exit(60)
