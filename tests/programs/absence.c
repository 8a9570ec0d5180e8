/* The clocks that count from the host's start, in a program that does not exist for a while: as long as the file "away" in its
 * directory says, in seconds, or not at all if there is none.
 *
 * Wrong would be: a clock by which that while has passed, or less than what the program has lived.
 */
#include "program.h"

static const struct {
    const char *name;
    clockid_t clock;
} clocks[] = {
    {"monotonic", CLOCK_MONOTONIC},
    {"monotonic, coarse", CLOCK_MONOTONIC_COARSE},
    {"monotonic, raw", CLOCK_MONOTONIC_RAW},
    {"boot time", CLOCK_BOOTTIME},
};
enum { CLOCKS = sizeof clocks / sizeof *clocks };

int main(int count, char **words) {
    int64_t before[CLOCKS], wall = nanoseconds(CLOCK_REALTIME), away = 0;
    MAKE(count == 2 && chdir(words[1]) == 0);
    for (int i = 0; i < CLOCKS; i++) before[i] = nanoseconds(clocks[i].clock);

    ready();

    FILE *file = fopen("away", "r");
    if (file) {
        long seconds;
        CHECK(fscanf(file, "%ld", &seconds) == 1, "the file \"away\"");
        away = seconds * SECONDS;
    }
    for (int i = 0; i < CLOCKS; i++) {
        /* The wall's clock is set now and then; the coarse one is behind by up to a tick. */
        int64_t missing = nanoseconds(CLOCK_REALTIME) - wall - (nanoseconds(clocks[i].clock) - before[i]);
        CHECK(missing >= away - 20 * MILLISECONDS, "%s: %lld ms are missing", clocks[i].name, (long long)(missing / MILLISECONDS));
        if (!away) CHECK(missing < SECONDS, "%s: %lld ms are missing", clocks[i].name, (long long)(missing / MILLISECONDS));
        SAY("absence: %s", clocks[i].name);
    }
    return finish(7);
}
