"""Python's clocks: monotonic, perf_counter, process_time, thread_time, and waits with a time-out (clocks.c says what
would be wrong)."""

import os
import queue
import sys
import threading
import time


def wait_for_go():
    print("READY", flush=True)
    while not os.path.exists(os.environ["ZAP_TEST_GO"]):
        time.sleep(0.002)


def check(holds, text):
    if not holds:
        print("FAIL:", text, flush=True)
        os._exit(1)


waited = {}


def wait(name, call):
    before = time.monotonic()
    call()
    waited[name] = time.monotonic() - before


waits = {
    "Event.wait": lambda: threading.Event().wait(2),
    "Queue.get": lambda: check(get(), "Queue.get returned"),
    "time.sleep": lambda: time.sleep(2),
    "Lock.acquire": lambda: check(not held.acquire(timeout=2), "the lock was had"),
}
held = threading.Lock()
held.acquire()


def get():
    try:
        queue.Queue().get(timeout=2)
    except queue.Empty:
        return True
    return False


clocks = {"monotonic": time.monotonic, "perf_counter": time.perf_counter}
used = {"process_time": time.process_time, "thread_time": time.thread_time}
sum(range(2_000_000))
threads = [threading.Thread(target=wait, args=item) for item in waits.items()]
for thread in threads:
    thread.start()
before = {name: clock() for name, clock in (clocks | used).items()}
wall = time.time()
wait_for_go()
passed_on_the_wall = time.time() - wall
for name, clock in clocks.items():
    passed = clock() - before[name]
    check(0 <= passed <= passed_on_the_wall + 0.02, f"{name}: {passed} s, {passed_on_the_wall} s on the wall")
for name, clock in used.items():
    check(0 <= clock() - before[name] < 30, f"{name} goes on")
for thread in threads:
    thread.join()
for name, seconds in sorted(waited.items()):
    check(1.99 < seconds < 30, f"{name} of 2 s took {seconds}")
    print(f"clocks: {name} took its time")
before = time.monotonic()
threading.Event().wait(0.05)
check(0.05 <= time.monotonic() - before < 30, "a new wait")
print("OK")
sys.exit(7)
