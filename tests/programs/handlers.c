/* Handlers that run while the checkpoint comes, and signals that wait.
 *
 * Main stands in a handler, on an alternate stack, inside of another one, inside of a call that a signal has interrupted.
 * Others send signals all the time, touch memory whose handler repairs it, and leave handlers by siglongjmp.
 *
 * Wrong would be: a frame that is lost, a mask that is not put back, a queued signal that is lost, doubled, out of order
 * or without its value and sender, a signal that goes to another thread, an alternate stack that is forgotten.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define STACK (1 << 16)
#define QUEUED 20

static char *stack;
static volatile sig_atomic_t depth, outer_done, inner_done, wrong;
static volatile int stop;

static int on_stack(void *place) { return (char *)place >= stack && (char *)place < stack + STACK; }

static sigset_t mask_now(void) {
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    return mask;
}

static void inner(int number, siginfo_t *info, void *context) {
    int local;
    (void)context;
    if (number != SIGUSR2 || info->si_pid != getpid() || !on_stack(&local)) wrong = 1;
    sigset_t mask = mask_now();
    if (!sigismember(&mask, SIGUSR1) || !sigismember(&mask, SIGUSR2) || !sigismember(&mask, SIGHUP)) wrong = 2;
    depth = 2;
    ready();
    mask = mask_now();
    if (!sigismember(&mask, SIGUSR1) || !sigismember(&mask, SIGUSR2) || !sigismember(&mask, SIGHUP)) wrong = 3;
    if (!on_stack(&local)) wrong = 4;
    inner_done = 1;
}

static void outer(int number, siginfo_t *info, void *context) {
    int local, kept = errno;
    (void)context;
    if (number != SIGUSR1 || info->si_value.sival_int != 4711 || !on_stack(&local)) wrong = 5;
    depth = 1;
    raise(SIGUSR2);
    sigset_t mask = mask_now();
    if (!sigismember(&mask, SIGUSR1) || sigismember(&mask, SIGUSR2)) wrong = 6;
    stack_t now;
    if (sigaltstack(NULL, &now) != 0 || now.ss_sp != stack || now.ss_flags != SS_ONSTACK) wrong = 7;
    outer_done = inner_done;
    errno = kept;
}

/* Each value once, in order. */
static volatile int next_value, received;
static void count(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    if (info->si_value.sival_int != next_value) wrong = 8;
    next_value++;
    received++;
}

static volatile int sent;
static void *send(void *argument) {
    while (!stop) {
        union sigval value = {.sival_int = sent};
        if (sigqueue(getpid(), SIGRTMIN + 3, value) == 0)
            sent++;
        usleep(200);
    }
    return argument;
}

/* Takes SIGRTMIN+3, which all others block. */
static void *receive(void *argument) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    while (!stop || received < sent) usleep(1000);
    return argument;
}

/* Memory that its handler makes accessible. */
static char *faulty;
static volatile int faults;
static void repair(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    char *page = (char *)((uintptr_t)info->si_addr & ~(uintptr_t)4095);
    if (page < faulty || page >= faulty + 4096 || mprotect(page, 4096, PROT_READ | PROT_WRITE) != 0) _exit(99);
    faults++;
}
static volatile int touched;
static void *touch(void *argument) {
    while (!stop) {
        mprotect(faulty, 4096, PROT_NONE);
        ((volatile char *)faulty)[touched % 4096]++;
        touched++;
    }
    return argument;
}

static __thread sigjmp_buf back;
static volatile int jumps;
static void jump(int number) {
    (void)number;
    siglongjmp(back, 1);
}
static void *leave(void *argument) {
    while (!stop) {
        if (sigsetjmp(back, 1) == 0) {
            pthread_kill(pthread_self(), SIGRTMIN + 5);
            wrong = 9;
        }
        jumps++;
    }
    sigset_t mask = mask_now();
    if (sigismember(&mask, SIGRTMIN + 5)) wrong = 10;
    return argument;
}

/* Signals that wait for one thread, and for the process. */
static sem_t standing, take;
static pid_t holder_id;
static void *hold(void *argument) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 7);
    holder_id = gettid();
    sem_post(&standing);
    while (sem_wait(&take) != 0) continue;
    for (int i = 0; i < 2 * QUEUED; i++) {
        siginfo_t info;
        struct timespec none = {0, 0};
        int number = sigtimedwait(&set, &info, &none);
        CHECK(number == SIGRTMIN + 7, "%d of %d queued signals wait for the thread, then %d", i, 2 * QUEUED, number);
        /* The thread's own come first. */
        int expected = i < QUEUED ? 1000 + i : 2000 + i - QUEUED;
        CHECK(info.si_value.sival_int == expected && info.si_code == SI_QUEUE && info.si_pid == getpid(), "value %d instead of %d",
              info.si_value.sival_int, expected);
    }
    return argument;
}

static void install(int number, void (*handler)(int, siginfo_t *, void *), int flags, int blocked) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = flags | SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    if (blocked) sigaddset(&action.sa_mask, blocked);
    MAKE(sigaction(number, &action, NULL) == 0);
}

int main(void) {
    stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    faulty = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t alternate = {.ss_sp = stack, .ss_size = STACK};
    MAKE(stack != MAP_FAILED && faulty != MAP_FAILED && sigaltstack(&alternate, NULL) == 0);
    install(SIGUSR1, outer, SA_ONSTACK, 0);
    install(SIGUSR2, inner, SA_ONSTACK, SIGHUP);
    install(SIGRTMIN + 3, count, SA_RESTART, 0);
    install(SIGSEGV, repair, SA_NODEFER, 0);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = jump;
    MAKE(sigaction(SIGRTMIN + 5, &action, NULL) == 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    sigaddset(&set, SIGRTMIN + 7);
    MAKE(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&take, 0, 0) == 0);
    pthread_t threads[4], holder;
    void *(*const work[])(void *) = {receive, send, touch, leave};
    for (int i = 0; i < 4; i++) MAKE(pthread_create(&threads[i], NULL, work[i], NULL) == 0);
    MAKE(pthread_create(&holder, NULL, hold, NULL) == 0 && sem_wait(&standing) == 0);
    for (int i = 0; i < QUEUED; i++) {
        union sigval mine = {.sival_int = 1000 + i}, all = {.sival_int = 2000 + i};
        MAKE(pthread_sigqueue(holder, SIGRTMIN + 7, mine) == 0 && sigqueue(getpid(), SIGRTMIN + 7, all) == 0);
    }
    union sigval value = {.sival_int = 4711};
    errno = 0;
    CHECK(pthread_sigqueue(pthread_self(), SIGUSR1, value) == 0, "pthread_sigqueue");
    /* Both handlers have run in between, the inner one waits to be told to go on. */
    CHECK(outer_done && errno == 0, "the outer handler has ended after the inner one");
    CHECK(!wrong, "a handler found something wrong: %d", (int)wrong);
    sigset_t mask = mask_now();
    CHECK(!sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGHUP) && sigismember(&mask, SIGRTMIN + 7), "the mask is as it was");
    stack_t now;
    CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == stack && now.ss_size == STACK && now.ss_flags == 0, "the alternate stack");
    SAY("handlers: nested, on an alternate stack");
    int moved[] = {touched, jumps, received};
    while (touched == moved[0] || jumps == moved[1] || received == moved[2]) usleep(1000);
    stop = 1;
    for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0, "join");
    CHECK(received == sent && next_value == sent && !wrong, "%d of %d signals came, wrong %d", received, sent, (int)wrong);
    CHECK(faults >= touched - 1 && faults <= touched + 1, "%d faults of %d were repaired", faults, touched);
    SAY("handlers: every queued signal once and in order, faults repaired, handlers left by siglongjmp");
    sem_post(&take);
    CHECK(pthread_join(holder, NULL) == 0, "join");
    SAY("handlers: what waits for a thread and for the process, with values and sender");
    return finish(7);
}
