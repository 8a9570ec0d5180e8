/* Handlers set by each of libc's ways (signal(3), sysv_signal(3), sigset(3), sigaction(2)), asked for by each of the others.
 *
 * Wrong would be: a handler that is not the one last set, in what a function returns or when the signal comes.
 */
#define _GNU_SOURCE
#include "program.h"

#include <signal.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

typedef void (*handler_t)(int);

#define WAYS 6

static volatile sig_atomic_t ran[WAYS];

#define HANDLER(n) \
    static void handler_##n(int number) { ran[n] += number == SIGUSR1; }
HANDLER(0)
HANDLER(1)
HANDLER(2)
HANDLER(3)
HANDLER(4)
HANDLER(5)
static const handler_t handlers[WAYS] = {handler_0, handler_1, handler_2, handler_3, handler_4, handler_5};

extern handler_t __sysv_signal(int, handler_t);

static handler_t by_sigaction(int number, handler_t handler) {
    struct sigaction action = {.sa_handler = handler}, before;
    CHECK(sigaction(number, &action, &before) == 0, "sigaction");
    return before.sa_handler;
}

static handler_t set(int way, handler_t handler) {
    switch (way) {
        case 0: return signal(SIGUSR1, handler);
        case 1: return ssignal(SIGUSR1, handler);
        case 2: return sysv_signal(SIGUSR1, handler);
        case 3: return __sysv_signal(SIGUSR1, handler);
        case 4: return sigset(SIGUSR1, handler);
        default: return by_sigaction(SIGUSR1, handler);
    }
}

static handler_t now(void) {
    struct sigaction action;
    CHECK(sigaction(SIGUSR1, NULL, &action) == 0, "asking");
    return action.sa_handler;
}

static handler_t all_ways(handler_t before, long rounds) {
    for (int first = 0; first < WAYS; first++) {
        for (int next = 0; next < WAYS; next++) {
            CHECK(set(first, handlers[first]) == before && now() == handlers[first], "way %d", first);
            raise(SIGUSR1);
            /* Some of them set a handler for one signal only. */
            handler_t left = now();
            CHECK(left == handlers[first] || ((first == 2 || first == 3) && left == SIG_DFL), "way %d, after it", first);
            before = set(next, handlers[next]);
            CHECK(before == left, "way %d after way %d", next, first);
            raise(SIGUSR1);
            before = now();
        }
    }
    for (int way = 0; way < WAYS; way++) CHECK(ran[way] == 2 * WAYS * rounds, "way %d ran %d times", way, (int)ran[way]);
    return before;
}

int main(void) {
    handler_t before = all_ways(SIG_DFL, 1);
    CHECK(sigset(SIGUSR1, SIG_HOLD) == before, "sigset(SIG_HOLD)");
    CHECK(now() == before && raise(SIGUSR1) == 0 && ran[5] == 12, "held");
    ready();
    CHECK(now() == before && ran[5] == 12, "held still");
    CHECK(sigset(SIGUSR1, before) == SIG_HOLD && ran[5] == 13, "let in");
    ran[5] = 12;
    all_ways(before, 2);
    SAY("set_handlers: every way agrees");
    return finish(7);
}
