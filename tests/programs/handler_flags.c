/* What the flags of sigaction(2) do, not only what they read as: handlers that are nested or are not, that run once, that are not
 * told of stops, children that nobody need wait for.
 *
 * Wrong would be: a handler in which its own signal comes although it is blocked there, or does not come although it is not; one
 * that runs a second time; a SIGCHLD for a stop; a zombie.
 */
#include "program.h"

#include <signal.h>
#include <sys/wait.h>

static volatile sig_atomic_t depth, deepest, runs, resets, children, on_stack, masked;
static char stack[1 << 16];

static void nest(int number) {
    depth++;
    runs++;
    if (depth > deepest) deepest = depth;
    if (runs < 3) raise(number);
    depth--;
}

static void look(int number) {
    sigset_t now;
    char here;
    (void)number;
    sigprocmask(SIG_BLOCK, NULL, &now);
    masked = sigismember(&now, SIGUSR1) && sigismember(&now, SIGTERM) && !sigismember(&now, SIGHUP);
    on_stack = &here >= stack && &here < stack + sizeof stack;
}

static void reset(int number) {
    (void)number;
    resets++;
}

static void of_child(int number) {
    (void)number;
    children++;
}

static void set(int number, void (*handler)(int), int flags, int also) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    if (also) sigaddset(&action.sa_mask, also);
    MAKE(sigaction(number, &action, NULL) == 0);
}

/* A child that stops, and ends when it is continued. */
static pid_t stopping(void) {
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        raise(SIGSTOP);
        _exit(3);
    }
    return child;
}

int main(void) {
    struct sigaction now;
    int status;
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    MAKE(sigaltstack(&alternate, NULL) == 0);
    set(SIGUSR1, nest, SA_NODEFER, 0);
    set(SIGUSR2, nest, 0, 0);
    set(SIGALRM, look, SA_ONSTACK, SIGTERM);
    set(SIGVTALRM, reset, SA_RESETHAND, 0);
    set(SIGCHLD, of_child, SA_NOCLDSTOP, 0);
    pid_t before = stopping();
    siginfo_t info;
    MAKE(waitid(P_PID, before, &info, WSTOPPED | WNOWAIT) == 0);

    ready();

    CHECK(children == 0, "SIGCHLD for a stop before");
    CHECK(kill(before, SIGCONT) == 0 && waitpid(before, &status, 0) == before && WEXITSTATUS(status) == 3, "the child's end");
    while (children == 0) usleep(100);
    pid_t after = stopping();
    CHECK(waitpid(after, &status, WUNTRACED) == after && WIFSTOPPED(status), "the other one's stop");
    CHECK(children == 1, "SIGCHLD for a stop");
    CHECK(kill(after, SIGCONT) == 0 && waitpid(after, &status, 0) == after && WEXITSTATUS(status) == 3, "the other one's end");
    while (children == 1) usleep(100);
    SAY("handler flags: SIGCHLD for ends alone");
    raise(SIGUSR1);
    CHECK(runs == 3 && deepest == 3 && depth == 0, "SA_NODEFER: %d runs, %d deep", (int)runs, (int)deepest);
    runs = deepest = 0;
    raise(SIGUSR2);
    CHECK(runs == 3 && deepest == 1, "without it: %d runs, %d deep", (int)runs, (int)deepest);
    set(SIGUSR1, SIG_DFL, 0, 0);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0 && raise(SIGALRM) == 0, "raise");
    CHECK(masked && on_stack, "in the handler: mask %d, stack %d", (int)masked, (int)on_stack);
    CHECK(raise(SIGVTALRM) == 0 && resets == 1, "SA_RESETHAND: %d", (int)resets);
    CHECK(sigaction(SIGVTALRM, NULL, &now) == 0 && now.sa_handler == SIG_DFL, "the default afterwards");
    SAY("handler flags: nested, masked, reset");
    set(SIGCHLD, SIG_DFL, SA_NOCLDWAIT, 0);
    pid_t forgotten = fork();
    if (forgotten == 0) _exit(4);
    CHECK(waitpid(forgotten, &status, 0) == -1 && errno == ECHILD, "a child that nobody need wait for");
    return finish(7);
}
