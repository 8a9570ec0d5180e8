"""Threads that hand work to each other: queues, locks, conditions, thread-local data, timed waits.

Results are put in order before they are printed, so that the output does not depend on who was faster.
"""

import os
import queue
import sys
import threading
import zlib

SCALE = float(os.environ.get("ZAP_JOB_SCALE", "1"))
WORKERS = 4
ITEMS = int(4_000 * SCALE)

tasks = queue.Queue(maxsize=64)
results = queue.Queue()
local = threading.local()
counted = {}
lock = threading.RLock()
idle = threading.Event()


def compute(item):
    data = bytes((item * 31 + k * 7) & 255 for k in range(4000))
    checksum = 0
    for _ in range(8):
        checksum = zlib.crc32(zlib.compress(data, 1), checksum)
    return checksum


def work(number):
    local.done = 0
    while True:
        item = tasks.get()
        if item is None:
            break
        results.put((item, compute(item)))
        local.done += 1
        with lock:
            with lock:
                counted["all"] = counted.get("all", 0) + 1
    with lock:
        counted[number] = local.done


def tick():
    """Stands in a timed wait for the whole job."""
    while not idle.wait(0.01):
        with lock:
            counted["ticks"] = counted.get("ticks", 0) + 1


def main():
    threads = [threading.Thread(target=work, args=(n,), name=f"worker {n}") for n in range(WORKERS)]
    ticker = threading.Thread(target=tick, daemon=True)
    for thread in [*threads, ticker]:
        thread.start()

    def feed():
        for item in range(ITEMS):
            tasks.put(item)
        for _ in threads:
            tasks.put(None)

    feeder = threading.Thread(target=feed)
    feeder.start()
    waiting, expected, total = {}, 0, 0
    step = max(ITEMS // 10, 1)
    while expected < ITEMS:
        item, checksum = results.get(timeout=60)
        waiting[item] = checksum
        while expected in waiting:
            total = (total * 1_000_003 + waiting.pop(expected)) % (1 << 61)
            expected += 1
            if expected % step == 0:
                print(f"{expected} items, {total:016x}", flush=True)
    for thread in [feeder, *threads]:
        thread.join()
    idle.set()
    ticker.join()
    each = sum(counted[n] for n in range(WORKERS))
    if counted["all"] != ITEMS or each != ITEMS:
        print(f"FAIL: {counted['all']} and {each} of {ITEMS} items counted")
        sys.exit(1)
    print(f"result: {ITEMS} items by {WORKERS} threads, {total:016x}")
    sys.exit(4)


main()
