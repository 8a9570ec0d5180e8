/* C++ exceptions that are thrown through C callbacks, and long jumps out of them, all the time.
 *
 * A checkpoint will find the program in the middle of unwinding, in the loader's lock or in malloc. Wrong would be: an
 * exception that is not caught (terminate), a destructor that did not run, a jump that lands elsewhere.
 */
#include "program.h"

#include <csetjmp>
#include <search.h>
#include <stdexcept>
#include <string>
#include <vector>

static int living;

struct Guard {
    Guard() { living++; }
    ~Guard() { living--; }
};

struct Thrown : std::runtime_error {
    int number;
    Thrown(int number) : std::runtime_error("thrown " + std::to_string(number)), number(number) {}
};

static int comparisons, throw_at, jump_at;
static jmp_buf landing;

static int compare(const void *a, const void *b) {
    Guard guard;
    if (++comparisons == throw_at) throw Thrown(comparisons);
    return *(const int *)a - *(const int *)b;
}

/* No object with a destructor may stand in a frame that a jump leaves. */
static int compare_and_jump(const void *a, const void *b) {
    if (++comparisons == jump_at) longjmp(landing, comparisons);
    return *(const int *)a - *(const int *)b;
}

static int rethrow(int depth) {
    Guard guard;
    std::vector<std::string> strings(3, std::string(100, 'x'));
    if (depth == 0) throw Thrown(1000);
    try {
        return rethrow(depth - 1);
    } catch (Thrown &thrown) {
        thrown.number++;
        throw;
    }
}

int main() {
    say_ready();
    long rounds = 0;
    do {
        for (int i = 0; i < 100; i++, rounds++) {
            int numbers[64];
            for (int k = 0; k < 64; k++) numbers[k] = (k * 37) % 64;
            comparisons = 0;
            throw_at = 1 + rounds % 150;
            try {
                qsort(numbers, 64, sizeof numbers[0], compare);
                CHECK(0, "qsort returned");
            } catch (const Thrown &thrown) {
                CHECK(thrown.number == throw_at, "caught %d, thrown was %d", thrown.number, throw_at);
                CHECK(thrown.what() == "thrown " + std::to_string(throw_at), "its text is %s", thrown.what());
            }
            CHECK(living == 0, "destructors ran");
            comparisons = 0;
            jump_at = 1 + rounds % 140;
            int landed = setjmp(landing);
            if (landed == 0) {
                qsort(numbers, 64, sizeof numbers[0], compare_and_jump);
                CHECK(0, "qsort returned");
            }
            CHECK(landed == jump_at, "landed with %d, jumped with %d", landed, jump_at);
            try {
                rethrow(20);
                CHECK(0, "rethrow returned");
            } catch (const std::exception &exception) {
                const Thrown *thrown = dynamic_cast<const Thrown *>(&exception);
                CHECK(thrown && thrown->number == 1020, "rethrown 20 times");
            }
            CHECK(living == 0, "destructors ran");
        }
    } while (!told_to_go_on());
    SAY("exceptions: thrown through callbacks, rethrown, jumped out of, all the time");
    return finish(7);
}
