/* RLIMIT_SIGPENDING used up: no signal can be queued, by nobody of this user. Two threads, a timer and two signals that wait,
 * from before.
 *
 * Wrong would be: a checkpoint that is not taken since a signal cannot be queued, or that kills the program; a queued signal,
 * its value, or a timer that is lost when it has been read, or does not come back, since the limit comes back too; a limit
 * that is not what it was.
 *
 * usage: no_more_signals soft|hard: with the hard limit lowered too, signals that wait can be read by root alone; then they
 * are received, and the program waits once more.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

static pthread_barrier_t barrier;
static struct rlimit limit;

static void *waits(void *argument) {
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return argument;
}

static void none_can_be_queued(const char *when) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    union sigval value = {.sival_int = 9};
    timer_t timer;
    errno = 0;
    CHECK(sigqueue(getpid(), SIGRTMIN + 5, value) == -1 && errno == EAGAIN, "sigqueue %s", when);
    errno = 0;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == -1 && errno == EAGAIN, "timer_create %s", when);
    struct rlimit now;
    CHECK(getrlimit(RLIMIT_SIGPENDING, &now) == 0 && now.rlim_cur == 0 && now.rlim_max == limit.rlim_max, "limit %s", when);
}

int main(int argc, char **argv) {
    int hard = argc == 2 && strcmp(argv[1], "hard") == 0;
    if (hard && geteuid() == 0) {
        printf("root may raise its hard limit\n");
        return SKIPPED;
    }
    pthread_t threads[2];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 5);
    sigaddset(&set, SIGUSR2);
    MAKE(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    MAKE(pthread_barrier_init(&barrier, NULL, 3) == 0);
    for (int i = 0; i < 2; i++) MAKE(pthread_create(&threads[i], NULL, waits, NULL) == 0);
    pthread_barrier_wait(&barrier);

    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value = {.sival_int = 77}};
    struct itimerspec hour = {{0, 0}, {3600, 0}}, soon = {{0, 0}, {0, 1}};
    timer_t timer;
    MAKE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &hour, NULL) == 0);
    for (int i = 0; i < 2; i++) {
        union sigval value = {.sival_int = 40 + i};
        MAKE(sigqueue(getpid(), SIGRTMIN + 5, value) == 0);
    }
    MAKE(getrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    limit.rlim_cur = 0;
    if (hard) limit.rlim_max = 0;
    MAKE(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    none_can_be_queued("at first");

    ready();

    none_can_be_queued("later");
    siginfo_t info;
    for (int i = 0; i < 2; i++) {
        CHECK(sigtimedwait(&set, &info, &(struct timespec){0, 0}) == SIGRTMIN + 5, "signal %d waits", i);
        CHECK(info.si_code == SI_QUEUE && info.si_value.sival_int == 40 + i, "value of signal %d", i);
    }
    CHECK(sigtimedwait(&set, &info, &(struct timespec){0, 0}) == -1 && errno == EAGAIN, "two signals waited");
    if (hard) ready();
    struct itimerspec left;
    CHECK(timer_gettime(timer, &left) == 0 && left.it_value.tv_sec > 3400, "the timer runs");
    CHECK(timer_settime(timer, 0, &soon, NULL) == 0, "the timer is set");
    CHECK(sigwaitinfo(&set, &info) == SIGUSR2 && info.si_code == SI_TIMER && info.si_value.sival_int == 77, "timer");
    CHECK(timer_delete(timer) == 0, "the timer is deleted");
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0, "thread %d", i);
    SAY("no more signals: two queued ones, a timer, two threads, EAGAIN");
    return finish(7);
}
