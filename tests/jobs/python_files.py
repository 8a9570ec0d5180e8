"""What Python's library does with files: temporary ones with and without a name, memory that maps one, locks of fcntl, a
selector over pipes, a database of dbm and one of shelve's."""

import fcntl
import hashlib
import mmap
import os
import selectors
import shutil
import sys
import tempfile

os.chdir(sys.argv[1])
tempfile.tempdir = sys.argv[1]
ROUNDS = 450 * int(os.environ.get("ZAP_JOB_SCALE", 1))


def work(x, count=12000):
    digest = b"%d" % x
    for _ in range(count):
        digest = hashlib.sha256(digest).digest()
    return digest


def count_up(path, rounds):
    """In a child: adds to a number in a file that others add to as well, under a lock of fcntl(2)."""
    with open(path, "r+b", buffering=0) as shared:
        for number in range(rounds):
            fcntl.lockf(shared, fcntl.LOCK_EX, 8, 0)
            shared.seek(0)
            value = int.from_bytes(shared.read(8), "little")
            work(number, 8000)
            shared.seek(0)
            shared.write((value + number).to_bytes(8, "little"))
            fcntl.lockf(shared, fcntl.LOCK_UN, 8, 0)


def main():
    nameless = tempfile.TemporaryFile()
    named = tempfile.NamedTemporaryFile(prefix="named-")
    spooled = tempfile.SpooledTemporaryFile(max_size=100_000)
    number, made = tempfile.mkstemp(prefix="made-")
    directory = tempfile.mkdtemp(prefix="directory-")
    unlinked = open("unlinked", "w+b")
    os.unlink("unlinked")
    os.write(number, bytes(8))
    os.truncate(number, 1 << 20)
    mapped = mmap.mmap(number, 1 << 20)
    flocked = open("flocked", "w+b")
    fcntl.flock(flocked, fcntl.LOCK_EX)
    own = open("own", "w+b")
    own.truncate(1000)
    fcntl.lockf(own, fcntl.LOCK_EX, 10, 100)
    fcntl.lockf(own, fcntl.LOCK_SH, 10, 200)

    children = []
    selector = selectors.DefaultSelector()
    for who in range(2):
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            count_up(made, ROUNDS)
            os.write(theirs, b"%d is done\n" % who)
            os._exit(who + 3)
        os.close(theirs)
        selector.register(ours, selectors.EVENT_READ, who)
        children.append(pid)

    for round in range(1, ROUNDS + 1):
        data = work(round)
        for file in (nameless, named, spooled, unlinked, flocked):
            file.write(data * 40)
        mapped[1000 + round * 32 : 1000 + round * 32 + 32] = data
        own.seek(round)
        own.write(data[:1])
        with open(os.path.join(directory, f"part-{round % 7}"), "ab") as part:
            part.write(data)
        # Nobody else has the locks, who asks by another description.
        with open("flocked", "rb") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
                print("FAIL: the lock is gone in round", round)
            except BlockingIOError:
                pass
        if round % 10 == 0:
            nameless.seek(round * 100)
            print(round, hashlib.sha256(nameless.read(500)).hexdigest()[:16], spooled.tell(), flush=True)
            nameless.seek(0, os.SEEK_END)
            pid = os.fork()
            if pid == 0:
                try:
                    fcntl.lockf(own, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 105)
                    os._exit(1)
                except BlockingIOError:
                    fcntl.lockf(own, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 205)
                    os._exit(0)
            if os.waitpid(pid, 0)[1] != 0:
                print("FAIL: the lock of fcntl is gone in round", round)

    said = []
    while selector.get_map():
        for key, _ in selector.select():
            text = os.read(key.fd, 100)
            if text:
                said.append(text.decode().strip())
            else:
                selector.unregister(key.fd)
                os.close(key.fd)
    print(sorted(said), [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
    print("total", int.from_bytes(mapped[:8], "little"))
    mapped.flush()
    for file in (nameless, named, spooled, unlinked, flocked, own):
        file.seek(0)
        data = file.read()
        print(len(data), hashlib.sha256(data).hexdigest())
    print(hashlib.sha256(mapped[:]).hexdigest(), hashlib.sha256(open(made, "rb").read()).hexdigest())
    print(os.path.exists(named.name), sorted(os.listdir(directory)))
    named.close()
    os.unlink(made)
    shutil.rmtree(directory)
    print(os.path.exists(named.name), sorted(name for name in os.listdir(".") if name != "out"))


main()
sys.exit(61)
