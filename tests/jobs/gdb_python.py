# gdb's embedded Python without a program to be debugged: gdb's own values, types and convenience functions, a command
# of its own, exceptions through gdb, generators, reference cycles, threads. Run with: gdb -batch -nx -x gdb_python.py

import collections
import gc
import hashlib
import os
import queue
import re
import threading

import gdb

scale = float(os.environ.get("ZAP_JOB_SCALE", "1"))
rounds = int(200 * scale)
digest = hashlib.sha256()


class Mix(gdb.Function):
    """$mix(a, b): a number that depends on both."""

    def __init__(self):
        super().__init__("mix")

    def invoke(self, a, b):
        return (int(a) * 31 + int(b)) & 0x7FFFFFFF


class Count(gdb.Command):
    """count TEXT: prints how many words there are."""

    def __init__(self):
        super().__init__("count", gdb.COMMAND_DATA)

    def invoke(self, text, from_tty):
        print(len(text.split()))


class Node:
    def __init__(self, value):
        self.value = value
        self.other = self


def numbers(state):
    while True:
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        yield state >> 8


Mix()
Count()
gdb.execute("set confirm off")
gdb.execute("set $total = 7")
source = numbers(4711)
word = re.compile(r"\b([a-f])([0-9a-f]+)\b")
unsigned = gdb.lookup_type("unsigned int")
tasks, results = queue.Queue(), queue.Queue()


def work():
    while (item := tasks.get()) is not None:
        data = str(item).encode()
        for _ in range(300):
            data = hashlib.sha256(data).digest() + data[:64]
        results.put((item, hashlib.sha256(data).hexdigest()))


workers = [threading.Thread(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
words = collections.Counter()
for number in range(1, rounds + 1):
    for item in range(10):
        tasks.put(number * 10 + item)
    for value in (next(source) for _ in range(300)):
        gdb.execute(f"set $total = $mix($total, {value})")
    value = gdb.parse_and_eval(f"(unsigned char) ($total >> 3) + {number}").cast(unsigned)
    digest.update(f"{value} {value.type} {gdb.parse_and_eval('$total * 1.5')}".encode())
    text = " ".join(f"{next(source) & 0xFFFFF:x}" for _ in range(2000))
    words.update(first + str(len(rest)) for first, rest in word.findall(text))
    digest.update(gdb.execute(f"count {text[:200]}", to_string=True).encode())
    try:
        gdb.parse_and_eval(f"no_such_symbol_{number}")
    except gdb.error as error:
        digest.update(str(error).encode())
    nodes = [Node(i) for i in range(3000)]
    for left, right in zip(nodes, nodes[1:]):
        left.other, right.other = right, left
    del nodes, left, right
    if number % 20 == 0:
        gc.collect()
        for item in sorted(results.get() for _ in range(200)):
            digest.update(repr(item).encode())
        print(f"round {number}: $total {gdb.parse_and_eval('$total')}, {digest.hexdigest()[:16]}", flush=True)
for _ in workers:
    tasks.put(None)
for worker in workers:
    worker.join()
digest.update(repr(sorted(words.items())).encode())
print(f"result: {sum(words.values())} words, {digest.hexdigest()}", flush=True)
gdb.execute("quit 21")
