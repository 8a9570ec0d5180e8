"""numpy: large arrays, matrix products in the BLAS library's own threads, random numbers from a seed.

Floating point results are rounded before they are printed, since a BLAS may add in another order.
"""

import os
import sys

import numpy

SCALE = float(os.environ.get("ZAP_JOB_SCALE", "1"))


def main():
    rounds = int(20 * SCALE)
    random = numpy.random.default_rng(12345)
    matrix = random.standard_normal((600, 600)) / 25
    vector = numpy.ones(600)
    counts = numpy.zeros(1_000_000, dtype=numpy.int64)
    checksum = 0
    for number in range(rounds):
        for _ in range(4):
            vector = matrix @ (matrix @ vector)
            vector /= numpy.linalg.norm(vector)
        product = matrix @ matrix
        matrix = (product + matrix) / numpy.linalg.norm(product + matrix) * 24
        numbers = random.integers(0, counts.size, 400_000)
        numpy.add.at(counts, numbers, numpy.arange(numbers.size))
        ordered = numpy.sort(numbers)
        checksum = (checksum * 31 + int(ordered[::1000].sum()) + int(counts.max())) % (1 << 61)
        if number % 2 == 1:
            print(f"round {number + 1}: {checksum:016x} {abs(vector).sum():.6f}", flush=True)
    print(f"result: {checksum:016x}, {counts.sum()}, {numpy.linalg.norm(matrix):.6f}")
    sys.exit(6)


main()
