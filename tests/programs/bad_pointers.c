/* Arguments that point to no memory, or to memory that must not be touched: of calls whose arguments the kernel reads, and
 * Zap before it.
 *
 * Wrong would be: a program that ends by SIGSEGV where the kernel answers EFAULT, another error, an argument that is good
 * and refused, also where it ends with the last page before memory that cannot be read.
 */
#include "program.h"

#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

/* An expression that returns -1 and sets errno; or one that returns the error. */
#define FAULTS(expression)                                                                                             \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        long result = (long)(expression);                                                                              \
        CHECK(result == -1 && errno == EFAULT, "%s, %s: %ld instead of EFAULT", #expression, name, result);            \
    } while (0)
#define FAULTS_BY_VALUE(expression)                                                                                    \
    do {                                                                                                               \
        int result = (expression);                                                                                     \
        CHECK(result == EFAULT, "%s, %s: %d instead of EFAULT", #expression, name, result);                            \
    } while (0)

static int ends[2], epoll, timer;
static aio_context_t context;
static timer_t posix_timer;
static uint32_t word = 1;
static sigset_t signals;
static char *last_page;

static int no_such_call(long result) { return result == -1 && errno == ENOSYS; }

static void check(void *bad, const char *name) {
    struct pollfd polled = {ends[0], POLLIN, 0};
    struct epoll_event event;
    struct timespec moment = {0, 1000};
    FAULTS_BY_VALUE(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, bad, NULL));
    FAULTS_BY_VALUE(clock_nanosleep(CLOCK_MONOTONIC, 0, bad, NULL));
    FAULTS(nanosleep(bad, NULL));
    FAULTS(ppoll(&polled, 1, &moment, bad));
    FAULTS(poll(bad, 1, 10));
    FAULTS(pselect(0, NULL, NULL, NULL, &moment, bad));
    FAULTS(epoll_pwait(epoll, &event, 1, 10, bad));
    if (!no_such_call(epoll_pwait2(epoll, &event, 1, &moment, NULL))) {
        FAULTS(epoll_pwait2(epoll, &event, 1, bad, NULL));
        FAULTS(epoll_pwait2(epoll, &event, 1, &moment, bad));
    }
    FAULTS(sigtimedwait(&signals, NULL, bad));
    FAULTS(sigtimedwait(bad, NULL, &moment));
    FAULTS(sigwaitinfo(bad, NULL));
    FAULTS_BY_VALUE(sigwait(bad, (int *)&word));
    FAULTS(sigsuspend(bad));
    FAULTS(signalfd(-1, bad, 0));
    FAULTS(sigaltstack(bad, NULL));
    FAULTS(sigaltstack(NULL, bad));
    FAULTS(syscall(SYS_sigaltstack, bad, NULL));
    FAULTS(syscall(SYS_sigaltstack, NULL, bad));
    FAULTS(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, bad, NULL, 0));
    FAULTS(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 2, bad, NULL, 0));
    FAULTS(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 1, bad, NULL, 1));
    FAULTS(syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 1, bad, NULL, 0));
    FAULTS(syscall(SYS_futex, &word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 1, bad, &word, 0));
    if (!no_such_call(syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0)))
        FAULTS(syscall(SYS_futex_waitv, &word, 1, 0, bad, CLOCK_MONOTONIC));
    FAULTS(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, bad, NULL));
    FAULTS(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, bad));
    FAULTS(syscall(SYS_timerfd_settime, timer, TFD_TIMER_ABSTIME, bad, NULL));
    FAULTS(timerfd_settime(timer, TFD_TIMER_ABSTIME, bad, NULL));
    FAULTS(timerfd_settime(timer, 0, bad, NULL));
    FAULTS(timer_settime(posix_timer, TIMER_ABSTIME, bad, NULL));
    struct iocb *requests[] = {bad};
    struct io_event completed;
    struct timespec none = {0, 0};
    aio_context_t *made = bad;
    FAULTS(syscall(SYS_io_setup, 1, made));
    FAULTS(syscall(SYS_io_submit, context, 1, bad));
    FAULTS(syscall(SYS_io_submit, context, 1, requests));
    FAULTS(syscall(SYS_io_getevents, context, 0, 1, &completed, bad));
    FAULTS(syscall(SYS_io_pgetevents, context, 0, 1, &completed, bad, NULL));
    FAULTS(syscall(SYS_io_pgetevents, context, 0, 1, &completed, &none, bad));
    char *words[] = {"true", NULL}, *variables[] = {"GOOD=1", bad, NULL};
    FAULTS(execve("/bin/true", words, bad));
    FAULTS(execve("/bin/true", words, variables));
    FAULTS(execve("/bin/true", bad, NULL));
    errno = 0;
    CHECK(execve("/no/such/file", words, bad) == -1 && errno == ENOENT, "%s: a file that is not there comes first", name);
    pid_t child;
    FAULTS_BY_VALUE(posix_spawn(&child, "/bin/true", NULL, NULL, words, bad));
}

/* The same arguments, good, in the last bytes before memory that cannot be read. */
static void check_good(void) {
    struct timespec *time = (struct timespec *)(last_page + 4096) - 1;
    sigset_t *set = (sigset_t *)(last_page + 4096 - 8);
    stack_t *stack = (stack_t *)(last_page + 4096) - 1;
    struct epoll_event event;
    *time = timespec_of(1000);
    CHECK(sigtimedwait(&signals, NULL, time) == -1 && errno == EAGAIN, "sigtimedwait");
    CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, time, NULL, 0) == -1 && errno == ETIMEDOUT, "futex");
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, time, NULL) == 0, "clock_nanosleep");
    memset(set, 0, 8);
    CHECK(epoll_pwait(epoll, &event, 1, 1, set) == 0, "epoll_pwait: a set of the kernel's size");
    struct iocb **list = (struct iocb **)(last_page + 4096) - 1, *request = (struct iocb *)(last_page + 4096 - 8) - 1;
    struct io_event completed;
    memset(request, 0, sizeof *request);
    request->aio_lio_opcode = IOCB_CMD_POLL;
    request->aio_fildes = (uint32_t)ends[1];
    request->aio_buf = POLLOUT;
    *list = request;
    CHECK(syscall(SYS_io_submit, context, 1, list) == 1, "io_submit");
    CHECK(syscall(SYS_io_getevents, context, 1, 1, &completed, NULL) == 1, "io_getevents");
    stack_t before;
    CHECK(sigaltstack(NULL, &before) == 0 && sigaltstack(NULL, stack) == 0, "sigaltstack");
    CHECK(stack->ss_sp == before.ss_sp && stack->ss_size == before.ss_size && stack->ss_flags == before.ss_flags,
          "sigaltstack tells the same");
    CHECK(sigaltstack(stack, NULL) == 0, "sigaltstack sets the same");
}

static void check_all(void) {
    check((void *)1, "no memory");
    check(last_page + 4096, "memory without permission");
    /* Half of it is there. */
    struct timespec *half = (struct timespec *)(last_page + 4096 - 8);
    errno = 0;
    CHECK(sigtimedwait(&signals, NULL, half) == -1 && errno == EFAULT, "half a time");
    CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, half, NULL, 0) == -1 && errno == EFAULT, "half a time");
    check_good();
    sigset_t mask;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0 && sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGHUP), "mask");
}

int main(void) {
    static char alternate[1 << 16];
    last_page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MAKE(last_page != MAP_FAILED && mprotect(last_page + 4096, 4096, PROT_NONE) == 0);
    MAKE(pipe(ends) == 0 && (epoll = epoll_create1(0)) >= 0 && (timer = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0);
    MAKE(syscall(SYS_io_setup, 8, &context) == 0);
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    MAKE(timer_create(CLOCK_MONOTONIC, &none, &posix_timer) == 0);
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    MAKE(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0);
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    MAKE(sigaltstack(&stack, NULL) == 0);
    check_all();

    ready();

    check_all();
    SAY("bad pointers: EFAULT from every call, and good ones are taken");
    return finish(7);
}
