// Node's clocks: performance.now, process.hrtime, process.uptime, and timers (clocks.c says what would be wrong).
const fs = require('fs');

function check(holds, text) {
    if (!holds) {
        fs.writeSync(1, `FAIL: ${text}\n`);
        process.exit(1);
    }
}

const clocks = {
    'performance.now': () => performance.now() / 1000,
    'process.hrtime': () => Number(process.hrtime.bigint()) / 1e9,
    'process.uptime': () => process.uptime(),
};
const before = Object.fromEntries(Object.entries(clocks).map(([name, clock]) => [name, clock()]));
const wall = Date.now();
const cpu = process.cpuUsage();
let late;
const since = performance.now();
setTimeout(() => {
    late = performance.now() - since - 2000;
}, 2000);

console.log('READY');
const polling = setInterval(() => {
    if (!fs.existsSync(process.env.ZAP_TEST_GO)) return;
    clearInterval(polling);
    const onTheWall = (Date.now() - wall) / 1000;
    for (const [name, clock] of Object.entries(clocks)) {
        const passed = clock() - before[name];
        check(passed >= 0 && passed <= onTheWall + 0.02, `${name}: ${passed} s, ${onTheWall} s on the wall`);
        console.log(`clocks: ${name} goes on`);
    }
    const used = process.cpuUsage(cpu);
    check(used.user >= 0 && used.user + used.system < 30e6, `cpuUsage ${JSON.stringify(used)}`);
    const end = setInterval(() => {
        if (late === undefined) return;
        clearInterval(end);
        check(late >= -2 && late < 30000, `setTimeout was ${late} ms late`);
        console.log('clocks: setTimeout took its time');
        console.log('OK');
        process.exitCode = 7;
    }, 2);
}, 2);
