"""Processes that share memory of multiprocessing: Value and Array with their locks, a RawArray, and a Structure.

Their memory is a file that has no name, mapped by all and open. What is printed does not depend on who was quicker.
"""

import ctypes
import multiprocessing
import multiprocessing.sharedctypes
import os
import sys
import zlib

SCALE = float(os.environ.get("ZAP_JOB_SCALE", "1"))
ITEMS = int(2000 * SCALE)
WORKERS = 4


class Sums(ctypes.Structure):
    _fields_ = [("count", ctypes.c_long), ("total", ctypes.c_ulonglong)]


def compute(item):
    data = bytes((item * 23 + k * 13) & 255 for k in range(1500))
    checksum = item
    for _ in range(6):
        checksum = zlib.crc32(zlib.compress(data, 1), checksum)
    return checksum


def work(number, next_item, results, buckets, sums, large):
    while True:
        with next_item.get_lock():
            item = next_item.value
            if item == ITEMS:
                break
            next_item.value += 1
        checksum = compute(item)
        results[item] = checksum
        with buckets.get_lock():
            buckets[item % 16] += checksum % 1009
        with sums.get_lock():
            sums.count += 1
            sums.total += checksum
        large[item * 100] = number
    sys.exit(number + 1)


def main():
    next_item = multiprocessing.Value("l", 0)
    results = multiprocessing.RawArray("L", ITEMS)
    buckets = multiprocessing.Array("l", 16)
    sums = multiprocessing.sharedctypes.Value(Sums)
    # More than one arena.
    large = multiprocessing.RawArray(ctypes.c_byte, [-1] * (100 * ITEMS))
    arguments = (next_item, results, buckets, sums, large)
    workers = [multiprocessing.Process(target=work, args=(number, *arguments)) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("values:", next_item.value, sums.count, sums.total % 1_000_007, [worker.exitcode for worker in workers])
    print("values:", sum(results) == sums.total, zlib.crc32(bytes(results)), list(buckets))
    done = [large[item * 100] for item in range(ITEMS)]
    print("values:", all(number in range(WORKERS) for number in done), large[1], bytes(large).count(255))


if __name__ == "__main__":
    main()
    sys.exit(49)
