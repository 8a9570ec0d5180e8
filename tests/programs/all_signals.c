/* Every signal as the program sees it: all at their defaults, none pending, all that it blocks and no other blocked; and
 * no child but its own.
 *
 * Wrong would be: a handler or a blocked signal that the program has not made, a number that it may not use, a child that
 * waitpid(__WALL) finds.
 */
#include "program.h"

#include <signal.h>
#include <sys/single_threaded.h>
#include <sys/wait.h>

static void look(const sigset_t *mask) {
    for (int number = 1; number <= SIGRTMAX; number++) {
        struct sigaction action;
        if (number == 32 || number == 33) continue; /* libc's own */
        CHECK(sigaction(number, NULL, &action) == 0, "sigaction of %d", number);
        CHECK(action.sa_handler == SIG_DFL && action.sa_flags == 0, "signal %d is at its default", number);
    }
    sigset_t now, pending;
    CHECK(sigprocmask(SIG_SETMASK, NULL, &now) == 0 && sigpending(&pending) == 0, "masks");
    for (int number = 1; number <= SIGRTMAX; number++) {
        CHECK(sigismember(&now, number) == sigismember(mask, number), "whether signal %d is blocked", number);
        CHECK(!sigismember(&pending, number), "signal %d is not pending", number);
    }
    CHECK(waitpid(-1, NULL, __WALL | WNOHANG) == -1 && errno == ECHILD, "no child");
    CHECK(wait(NULL) == -1 && errno == ECHILD, "no child to wait for");
    CHECK(__libc_single_threaded, "libc knows of one thread");
}

int main(void) {
    sigset_t none, some, all;
    sigemptyset(&none);
    sigemptyset(&some);
    sigfillset(&all);
    sigaddset(&some, SIGINT);
    sigaddset(&some, SIGRTMIN + 3);
    MAKE(sigprocmask(SIG_SETMASK, &none, NULL) == 0);
    /* Bits that no program may set. */
    MAKE(sigprocmask(SIG_SETMASK, &all, NULL) == 0 && sigprocmask(SIG_SETMASK, &none, &all) == 0);
    say_ready();
    do {
        look(&none);
        CHECK(sigprocmask(SIG_SETMASK, &some, NULL) == 0, "some");
        look(&some);
        CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0, "all");
        look(&all);
        CHECK(sigprocmask(SIG_SETMASK, &none, NULL) == 0, "none");
    } while (!told_to_go_on());
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
        CHECK(sigismember(&all, number) == 1, "signal %d could be blocked", number);
    SAY("all signals: at their defaults, none pending, no child, all the time");
    return finish(7);
}
