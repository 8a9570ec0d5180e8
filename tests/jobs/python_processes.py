"""Processes that hand work to each other: multiprocessing's pool, queue, pipe and lock, and a process pool.

Results are put in order before they are printed.
"""

import concurrent.futures
import multiprocessing
import os
import sys
import zlib

SCALE = float(os.environ.get("ZAP_JOB_SCALE", "1"))
ITEMS = int(2400 * SCALE)


def compute(item):
    data = bytes((item * 31 + k * 7) & 255 for k in range(2000))
    checksum = item
    for _ in range(8):
        checksum = zlib.crc32(zlib.compress(data, 1), checksum)
    return checksum


def work(tasks, results, lock, number):
    done = 0
    while (item := tasks.get()) is not None:
        results.put((item, compute(item)))
        with lock:
            done += 1
    results.put((None, (number, done)))


def echo(connection):
    while (item := connection.recv()) is not None:
        connection.send(compute(item))
    connection.send("end")


def with_pool():
    with multiprocessing.Pool(4) as pool:
        total = 0
        for number, checksum in enumerate(pool.imap(compute, range(ITEMS), chunksize=1)):
            total = (total * 1_000_003 + checksum) % (1 << 61)
            if number % 800 == 799:
                print(f"pool: {number + 1} items, {total:016x}", flush=True)
        print("pool:", sum(pool.map(compute, range(50), chunksize=7)) % 1_000_007)


def with_queues():
    tasks, results, lock = multiprocessing.Queue(), multiprocessing.Queue(), multiprocessing.Lock()
    workers = [multiprocessing.Process(target=work, args=(tasks, results, lock, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for item in range(ITEMS // 3):
        tasks.put(item)
    for _ in workers:
        tasks.put(None)
    found, ended, counted = {}, set(), 0
    while len(ended) < len(workers):
        item, value = results.get(timeout=60)
        if item is None:
            ended.add(value[0])
            counted += value[1]
        else:
            found[item] = value
    for worker in workers:
        worker.join()
    statuses = [worker.exitcode for worker in workers]
    print("queues:", len(found), counted, sorted(ended), statuses, sum(found.values()) % 1_000_007)


def with_pipe():
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.Process(target=echo, args=(theirs,))
    worker.start()
    total = 0
    for item in range(ITEMS // 3):
        ours.send(item)
        total += ours.recv()
    ours.send(None)
    print("pipe:", ours.recv(), total % 1_000_007)
    worker.join()
    print("pipe:", worker.exitcode)


def with_executor():
    with concurrent.futures.ProcessPoolExecutor(3) as pool:
        futures = [pool.submit(compute, item) for item in range(ITEMS // 3)]
        total = sum(future.result(timeout=60) for future in concurrent.futures.as_completed(futures))
        print("executor:", total % 1_000_007, sum(pool.map(compute, range(100), chunksize=10)) % 1_000_007)


if __name__ == "__main__":
    with_pool()
    sys.stdout.flush()
    with_queues()
    sys.stdout.flush()
    with_pipe()
    sys.stdout.flush()
    with_executor()
    sys.exit(47)
