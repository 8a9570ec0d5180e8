"""Processes that share the objects of a manager: a dictionary, a list, a queue, a lock, a value, by four workers.

The manager's process listens on a socket with a path, and each worker has its connections to it. What is printed does not
depend on who was quicker.
"""

import multiprocessing
import os
import sys
import zlib

SCALE = float(os.environ.get("ZAP_JOB_SCALE", "1"))
ITEMS = int(1600 * SCALE)
WORKERS = 4


def compute(item):
    data = bytes((item * 29 + k * 11) & 255 for k in range(1500))
    checksum = item
    for _ in range(6):
        checksum = zlib.crc32(zlib.compress(data, 1), checksum)
    return checksum


def work(number, tasks, results, shared, counts, total, lock):
    done = 0
    while (item := tasks.get()) is not None:
        checksum = compute(item)
        results.append((item, checksum))
        with lock:
            shared[item % 16] = shared.get(item % 16, 0) + checksum % 1009
            total.value += 1
        done += 1
    counts[number] = done
    sys.exit(number + 1)


def main():
    with multiprocessing.Manager() as manager:
        tasks, results, shared = manager.Queue(40), manager.list(), manager.dict()
        counts, total, lock = manager.list([0] * WORKERS), manager.Value("i", 0), manager.Lock()
        arguments = (tasks, results, shared, counts, total, lock)
        workers = [multiprocessing.Process(target=work, args=(number, *arguments)) for number in range(WORKERS)]
        for worker in workers:
            worker.start()
        for item in range(ITEMS):
            tasks.put(item)
            if item % 400 == 399:
                print(f"manager: {item + 1} items are on their way", flush=True)
        for _ in workers:
            tasks.put(None)
        for worker in workers:
            worker.join()
        found = dict(list(results))
        print("manager:", len(found), total.value, sum(counts), [worker.exitcode for worker in workers])
        print("manager:", sum(found.values()) % 1_000_007, sorted(shared.items()))
        address = manager.address
    print("manager: its socket is gone:", not os.path.exists(address))


if __name__ == "__main__":
    main()
    sys.exit(48)
