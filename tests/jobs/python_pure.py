"""A sieve of Eratosthenes in segments, in Python alone: objects, a generator, a dict, big integers.

Prints a line per step and ends with status 3. Anything lost by a checkpoint changes the sum, the hash or the count.
"""

import hashlib
import os
import sys

SCALE = float(os.environ.get("ZAP_JOB_SCALE", "1"))


def primes(limit):
    """Yields all primes below `limit`: each composite is kept with the prime that finds it next."""
    composites = {}
    for number in range(2, limit):
        prime = composites.pop(number, None)
        if prime is None:
            composites[number * number] = number
            yield number
        else:
            following = number + prime
            while following in composites:
                following += prime
            composites[following] = prime


def main():
    limit = int(8_000_000 * SCALE)
    step = max(limit // 10, 1)
    digest = hashlib.sha256()
    count, total, product, shown = 0, 0, 1, 0
    for prime in primes(limit):
        count += 1
        total += prime
        product = product * prime % (1 << 521) | 1
        digest.update(b"%d," % prime)
        while prime >= shown + step:
            shown += step
            print(f"below {shown}: {count} primes, sum {total}", flush=True)
    print(f"result: {count} primes, sum {total}, product {product % 10**12}, sha256 {digest.hexdigest()}")
    sys.exit(3)


main()
