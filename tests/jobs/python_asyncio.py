"""An event loop: tasks, timers, queues, a pipe and a socket pair that it watches, work in an executor's threads.

The loop stands in epoll with an eventfd-like wake-up channel of its own. Results are put in order before they are
printed.
"""

import asyncio
import hashlib
import os
import socket
import sys

SCALE = float(os.environ.get("ZAP_JOB_SCALE", "1"))
ROUNDS = int(50 * SCALE)


def hash_hard(number):
    digest = hashlib.sha256(str(number).encode())
    for _ in range(3_000):
        digest = hashlib.sha256(digest.digest())
    return digest.hexdigest()


async def echo(sock):
    """Sends back what it reads, in capitals, until the other end closes."""
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def numbers_through_pipe(count):
    """Writes to a pipe and reads from it by the loop."""
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb"))
    total = 0
    for number in range(count):
        os.write(writing, b"%d\n" % number)
        await asyncio.sleep(0)
        total += int(await reader.readline())
    os.close(writing)
    if await reader.read() != b"":
        raise RuntimeError("the pipe did not end")
    transport.close()
    return total


async def sleepers(count):
    """Timers that end in the order of their times, whatever the order in which they were set."""
    order = []

    async def one(number):
        await asyncio.sleep(number * 0.02)
        order.append(number)

    await asyncio.gather(*(one(number) for number in reversed(range(count))))
    return order == sorted(order)


async def main():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    server = asyncio.create_task(echo(theirs))
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    digest = hashlib.sha256()
    for number in range(ROUNDS):
        hard = [loop.run_in_executor(None, hash_hard, number * 8 + k) for k in range(8)]
        through, ordered, *hashes = await asyncio.gather(numbers_through_pipe(50), sleepers(3), *hard)
        writer.write(f"round {number} {hashes[0][:8]}\n".encode())
        await writer.drain()
        answer = await asyncio.wait_for(reader.readline(), timeout=60)
        digest.update("".join(hashes).encode() + answer)
        if through != 1225 or not ordered:
            print(f"FAIL: {through} through the pipe, in order: {ordered}")
            sys.exit(1)
        if number % 5 == 4:
            print(f"round {number + 1}: {answer.decode().strip()}", flush=True)
    writer.close()
    await asyncio.wait_for(server, timeout=60)
    print(f"result: {ROUNDS} rounds, sha256 {digest.hexdigest()}")
    return 5


sys.exit(asyncio.run(main()))
