// node: worker threads that share memory, wait for each other with Atomics, and pass messages and buffers; the main
// thread's event loop has timers, promises and a hash that is computed in libuv's thread pool.
//
// Results are put in order before they are printed.

const { Worker, isMainThread, parentPort, workerData } = require("node:worker_threads");
const crypto = require("node:crypto");

const WORKERS = 3;

function compute(item) {
  let hash = 2166136261 ^ item;
  const words = new Map();
  for (let k = 0; k < 120000; k++) {
    hash = Math.imul(hash ^ (k & 255), 16777619);
    if ((k & 15) === 0) words.set(hash & 1023, { hash, text: `${hash}`, before: words.get((hash - 1) & 1023)?.hash });
  }
  for (const value of words.values()) hash = Math.imul(hash ^ value.text.length ^ (value.before || 0), 16777619);
  return hash >>> 0;
}

if (!isMainThread) {
  const { shared, number } = workerData;
  const cells = new Int32Array(shared);
  parentPort.on("message", ({ items, buffer }) => {
    const results = new Uint32Array(buffer);
    items.forEach((item, index) => {
      results[index] = compute(item);
      Atomics.add(cells, 0, 1);
    });
    // Each round ends when all have arrived: the last one wakes the others.
    const round = Atomics.load(cells, 2);
    if (Atomics.add(cells, 1, 1) === WORKERS - 1) {
      Atomics.store(cells, 1, 0);
      Atomics.add(cells, 2, 1);
      Atomics.notify(cells, 2);
    } else {
      while (Atomics.load(cells, 2) === round) Atomics.wait(cells, 2, round, 1000);
    }
    parentPort.postMessage({ number, buffer }, [buffer]);
  });
} else {
  main();
}

async function main() {
  const scale = Number(process.env.ZAP_JOB_SCALE || "1");
  const rounds = Math.floor(160 * scale);
  const perWorker = 12;
  const shared = new SharedArrayBuffer(16);
  const cells = new Int32Array(shared);
  const start = (_, number) => new Worker(__filename, { workerData: { shared, number } });
  const workers = Array.from({ length: WORKERS }, start);
  workers.forEach((worker) => worker.on("error", (error) => (console.log(`FAIL: ${error}`), process.exit(1))));
  const total = crypto.createHash("sha256");
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  for (let round = 0; round < rounds; round++) {
    const answers = workers.map((worker, number) => {
      const items = Array.from({ length: perWorker }, (_, k) => (round * WORKERS + number) * perWorker + k);
      const buffer = new ArrayBuffer(items.length * 4);
      worker.postMessage({ items, buffer }, [buffer]);
      return new Promise((resolve) => worker.once("message", resolve));
    });
    const derived = new Promise((resolve, reject) =>
      crypto.pbkdf2("zap", `round ${round}`, 2000, 32, "sha256", (error, key) =>
        error ? reject(error) : resolve(key),
      ),
    );
    for (const { buffer } of await Promise.all(answers)) total.update(new Uint8Array(buffer));
    total.update(await derived);
    if (round % 16 === 15) console.log(`round ${round + 1}: ${total.copy().digest("hex").slice(0, 16)}`);
  }
  clearInterval(timer);
  await Promise.all(workers.map((worker) => worker.terminate()));
  if (cells[0] !== rounds * WORKERS * perWorker || cells[2] !== rounds) {
    console.log(`FAIL: ${cells[0]} items and ${cells[2]} rounds counted`);
    process.exit(1);
  }
  console.log(`result: ${cells[0]} items by ${WORKERS} workers, ${total.digest("hex")}`);
  process.exitCode = 13;
}
