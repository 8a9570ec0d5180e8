/* POSIX timers: timer_create with a signal for the process or for one thread, or with none.
 *
 * Wrong would be: a timer id that is unknown or another timer's, a timer that starts anew or never fires, a lost
 * interval, a signal that goes to the wrong thread or without its value.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static sem_t standing, done;
static pthread_t worker;
static volatile sig_atomic_t by_process, by_thread, wrong;
static pid_t worker_id;

static void fire(int number, siginfo_t *info, void *context) {
    (void)context;
    if (info->si_code != SI_TIMER) wrong = 1;
    if (number == SIGRTMIN + 1) {
        if (info->si_value.sival_int != 111) wrong = 2;
        by_process++;
    } else {
        if (info->si_value.sival_int != 222) wrong = 3;
        if (gettid() != worker_id) wrong = 4;
        by_thread++;
    }
}

static void *work(void *argument) {
    worker_id = gettid();
    sem_post(&standing);
    while (sem_wait(&done) != 0) continue;
    return argument;
}

/* When the timer ends, by the clock that it runs on, between two looks at the clock. */
struct end {
    int64_t earliest, latest, interval;
};

static struct end end_of(timer_t timer, clockid_t clock) {
    struct itimerspec value;
    int64_t before = nanoseconds(clock);
    CHECK(timer_gettime(timer, &value) == 0, "timer_gettime");
    int64_t after = nanoseconds(clock), left = nanoseconds_of(value.it_value);
    return (struct end){before + left, after + left, nanoseconds_of(value.it_interval)};
}

/* `after` ends when `before` did. On the wall's clock it may do so later by the time for which the program was gone: a
 * timer goes on with what was left of it. */
static int same_end(struct end after, struct end before, clockid_t clock) {
    int64_t tolerance = 20 * MILLISECONDS, gone = clock == CLOCK_REALTIME ? 20 * SECONDS : tolerance;
    return after.latest + tolerance >= before.earliest && after.earliest <= before.latest + gone && after.interval == before.interval;
}

static timer_t make(clockid_t clock, struct sigevent *event, int flags, int64_t value, int64_t interval) {
    timer_t timer;
    struct itimerspec spec = {.it_value = timespec_of(value), .it_interval = timespec_of(interval)};
    MAKE(timer_create(clock, event, &timer) == 0 && timer_settime(timer, flags, &spec, NULL) == 0);
    return timer;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = fire;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    MAKE(sigaction(SIGRTMIN + 1, &action, NULL) == 0 && sigaction(SIGRTMIN + 2, &action, NULL) == 0);
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&done, 0, 0) == 0);
    MAKE(pthread_create(&worker, NULL, work, NULL) == 0 && sem_wait(&standing) == 0);

    struct sigevent process = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 111};
    struct sigevent thread = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 2};
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    thread.sigev_value.sival_int = 222;
    thread.sigev_notify_thread_id = worker_id;
    timer_t gone = make(CLOCK_MONOTONIC, &none, 0, SECONDS, 0);
    timer_t far_away = make(CLOCK_MONOTONIC, &process, 0, 1000 * SECONDS, 3 * SECONDS);
    MAKE(timer_delete(gone) == 0);
    timer_t wall = make(CLOCK_REALTIME, &process, TIMER_ABSTIME, nanoseconds(CLOCK_REALTIME) + 100000 * SECONDS, 0);
    timer_t silent = make(CLOCK_BOOTTIME, &none, 0, 500 * SECONDS, 0);
    timer_t disarmed = make(CLOCK_MONOTONIC, &process, 0, 0, 0);
    timer_t ticking = make(CLOCK_MONOTONIC, &process, 0, 20 * MILLISECONDS, 20 * MILLISECONDS);
    timer_t ticking_thread = make(CLOCK_MONOTONIC, &thread, 0, 20 * MILLISECONDS, 20 * MILLISECONDS);
    while (by_process < 1 || by_thread < 1) continue;
    struct end far_end = end_of(far_away, CLOCK_MONOTONIC), wall_end = end_of(wall, CLOCK_REALTIME);
    struct end silent_end = end_of(silent, CLOCK_BOOTTIME);

    ready();

    CHECK(same_end(end_of(far_away, CLOCK_MONOTONIC), far_end, CLOCK_MONOTONIC), "the relative timer ends when it did");
    CHECK(same_end(end_of(wall, CLOCK_REALTIME), wall_end, CLOCK_REALTIME), "the absolute timer ends when it did");
    CHECK(same_end(end_of(silent, CLOCK_BOOTTIME), silent_end, CLOCK_BOOTTIME), "the timer without a signal ends when it did");
    struct itimerspec value;
    CHECK(timer_gettime(disarmed, &value) == 0 && nanoseconds_of(value.it_value) == 0, "the disarmed timer");
    SAY("timers: what remains of a relative, an absolute, a silent one, and intervals");

    int process_before = by_process, thread_before = by_thread;
    while (by_process < process_before + 5 || by_thread < thread_before + 5) continue;
    CHECK(timer_gettime(ticking, &value) == 0 && nanoseconds_of(value.it_interval) == 20 * MILLISECONDS, "interval");
    CHECK(timer_delete(ticking) == 0 && timer_delete(ticking_thread) == 0, "timer_delete");
    CHECK(wrong == 0, "signals carry SI_TIMER and their value, to the right thread (%d)", (int)wrong);
    SAY("timers: intervals tick on, for the process and for one thread, with their values");

    value.it_value = timespec_of(5 * MILLISECONDS);
    value.it_interval = timespec_of(0);
    process_before = by_process;
    CHECK(timer_settime(disarmed, 0, &value, NULL) == 0, "arm the disarmed one");
    while (by_process == process_before) continue;
    timer_t fresh = make(CLOCK_MONOTONIC, &process, 0, 5 * MILLISECONDS, 0);
    while (by_process < process_before + 2) continue;
    CHECK(timer_delete(fresh) == 0 && timer_delete(far_away) == 0 && timer_delete(wall) == 0 &&
              timer_delete(silent) == 0 && timer_delete(disarmed) == 0,
          "timer_delete");
    errno = 0;
    CHECK(timer_delete(far_away) == -1 && errno == EINVAL, "a deleted timer is gone");
    CHECK(wrong == 0, "signals carry SI_TIMER and their value");
    sem_post(&done);
    CHECK(pthread_join(worker, NULL) == 0, "join");
    SAY("timers: armed again, made anew, deleted");
    return finish(7);
}
