/* POSIX timers on the CPU clocks of threads: the maker's own, another's by its name, and one of a thread that has ended. They
 * expire when that thread has used so much of the processor, however often it has come back.
 *
 * Wrong would be: one that is refused, that counts another thread's time or none, that begins anew.
 */
#include "program.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

static const int64_t tolerance = 150 * MILLISECONDS;
static volatile int64_t expired[3];
static volatile int count[3];
static timer_t timers[3];
static volatile int go;
static int64_t deadline[2];

static int64_t used(void) { return nanoseconds(CLOCK_THREAD_CPUTIME_ID); }

static void note(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    count[info->si_value.sival_int]++;
}

static void make(int which, clockid_t clock) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = which};
    MAKE(timer_create(clock, &event, &timers[which]) == 0);
}

static void set(int which, int64_t after, int flags, clockid_t clock) {
    int64_t now = nanoseconds(clock);
    struct itimerspec setting = {.it_value = timespec_of(flags == 0 ? after : now + after)};
    CHECK(timer_settime(timers[which], flags, &setting, NULL) == 0, "timer_settime of %d", which);
    deadline[which] = now + after;
}

/* Uses the processor until the timer has expired; it must by its deadline. */
static void burn(int which) {
    while (count[which] == 0 && used() < deadline[which] + tolerance) continue;
    expired[which] = used();
}

static void *work(void *none) {
    make(1, CLOCK_THREAD_CPUTIME_ID);
    set(1, 200 * MILLISECONDS, 0, CLOCK_THREAD_CPUTIME_ID);
    while (used() < deadline[1] - 170 * MILLISECONDS) continue;
    __atomic_store_n(&go, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&go, __ATOMIC_SEQ_CST) != 2) poll(NULL, 0, 1);
    burn(1);
    return none;
}

static void *ends(void *none) {
    clockid_t own;
    MAKE(pthread_getcpuclockid(pthread_self(), &own) == 0);
    make(2, own);
    struct itimerspec setting = {.it_value = timespec_of(1000000 * MILLISECONDS)};
    MAKE(timer_settime(timers[2], 0, &setting, NULL) == 0);
    return none;
}

int main(void) {
    pthread_t worker, short_lived;
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    MAKE(sigaction(SIGRTMIN, &action, NULL) == 0);
    MAKE(pthread_create(&short_lived, NULL, ends, NULL) == 0);
    MAKE(pthread_join(short_lived, NULL) == 0);
    MAKE(pthread_create(&worker, NULL, work, NULL) == 0);
    while (__atomic_load_n(&go, __ATOMIC_SEQ_CST) != 1) poll(NULL, 0, 1);
    make(0, CLOCK_THREAD_CPUTIME_ID);
    set(0, 100 * MILLISECONDS, TIMER_ABSTIME, CLOCK_THREAD_CPUTIME_ID);

    ready();

    __atomic_store_n(&go, 2, __ATOMIC_SEQ_CST);
    CHECK(pthread_join(worker, NULL) == 0, "join");
    CHECK(count[1] == 1, "the thread's timer has expired %d times", count[1]);
    CHECK(expired[1] >= deadline[1] && expired[1] < deadline[1] + tolerance, "the thread's: %ld ns late",
          (long)(expired[1] - deadline[1]));
    SAY("thread cpu timers: a thread's");
    burn(0);
    CHECK(count[0] == 1 && expired[0] >= deadline[0], "the main thread's has expired %d times, %ld ns late", count[0],
          (long)(expired[0] - deadline[0]));
    set(0, 30 * MILLISECONDS, TIMER_ABSTIME, CLOCK_THREAD_CPUTIME_ID);
    count[0] = 0;
    burn(0);
    CHECK(count[0] == 1 && expired[0] >= deadline[0], "set again: it has expired %d times", count[0]);
    SAY("thread cpu timers: the main thread's, again");
    struct itimerspec left;
    CHECK(timer_gettime(timers[2], &left) == 0 && nanoseconds_of(left.it_value) == 0, "an ended thread's");
    for (int i = 0; i < 3; i++) CHECK(timer_delete(timers[i]) == 0, "timer_delete of %d", i);
    SAY("thread cpu timers: that of a thread which has ended stands");
    return finish(7);
}
