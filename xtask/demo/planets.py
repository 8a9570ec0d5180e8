"""Sun and four giant planets, step by step, in plain Python. Prints its progress, and at the end where they are.

The last digits of the result depend on every step before: nothing can be lost or done twice unseen.
"""

import sys

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 720_000
DAYS = 365.24

# x, y, z, and velocities per year, mass in suns times 4 pi squared.
BODIES = [
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 39.47841760435743],
    [4.84143144246472, -1.16032004402743, -0.103622044471123,
     0.00166007664274403 * DAYS, 0.00769901118419740 * DAYS, -0.0000690460016972063 * DAYS, 0.03769367487038949],
    [8.34336671824458, 4.12479856412430, -0.403523417114321,
     -0.00276742510726411 * DAYS, 0.00499852801234917 * DAYS, 0.0000230417297573763 * DAYS, 0.011286326131968767],
    [12.8943695621391, -15.1111514016986, -0.223307578892656,
     0.00296460137564762 * DAYS, 0.00237847173959480 * DAYS, -0.0000296589568540237 * DAYS, 0.0017237240570597112],
    [15.3796971148509, -25.9193146099879, 0.179258772950371,
     0.00268067772490389 * DAYS, 0.00162824170038242 * DAYS, -0.0000951592254519715 * DAYS, 0.0020336868699246304],
]
PAIRS = [(a, b) for number, a in enumerate(BODIES) for b in BODIES[number + 1:]]


def step(time):
    for a, b in PAIRS:
        dx, dy, dz = a[0] - b[0], a[1] - b[1], a[2] - b[2]
        force = time / (dx * dx + dy * dy + dz * dz) ** 1.5
        for body, other, sign in ((a, b[6], -force), (b, a[6], force)):
            body[3] += dx * other * sign
            body[4] += dy * other * sign
            body[5] += dz * other * sign
    for body in BODIES:
        for axis in range(3):
            body[axis] += time * body[axis + 3]


for number in range(1, STEPS + 1):
    step(0.001)
    if number % (STEPS // 12) == 0:
        x, y = BODIES[1][:2]
        print(f"step {number:>7} of {STEPS}: Jupiter at {x:+.6f} {y:+.6f}", flush=True)
for name, body in zip(["Sun", "Jupiter", "Saturn", "Uranus", "Neptune"], BODIES):
    print(f"{name:<8}" + " ".join(f"{value:+.15f}" for value in body[:3]), flush=True)
