/* Clocks: to the program no time passes while it does not exist.
 *
 * Wrong would be: a monotonic clock that leaps by the time of absence or by the difference between two hosts' boots, or
 * that goes back; CPU time that begins anew; a wall clock that does not tell the true time; a deadline that is met too
 * early or too late; clocks that disagree with each other by the way they are read.
 */
#include "program.h"

#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/wait.h>

static const struct {
    const char *name;
    clockid_t clock;
} boots[] = {
    {"monotonic", CLOCK_MONOTONIC},
    {"monotonic, coarse", CLOCK_MONOTONIC_COARSE},
    {"monotonic, raw", CLOCK_MONOTONIC_RAW},
    {"boot time", CLOCK_BOOTTIME},
};
enum { BOOTS = sizeof boots / sizeof *boots };

static int64_t by_number(clockid_t clock) {
    struct timespec now;
    CHECK(syscall(SYS_clock_gettime, clock, &now) == 0, "clock_gettime by number");
    return nanoseconds_of(now);
}

static int64_t used(int who) {
    struct rusage usage;
    CHECK(getrusage(who, &usage) == 0, "getrusage");
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * SECONDS + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static int64_t ticks_of_children(void) {
    struct tms times_;
    times(&times_);
    return (times_.tms_cutime + times_.tms_cstime) * 10 * MILLISECONDS;
}

static int64_t ticks(int64_t *now) {
    struct tms times_;
    *now = times(&times_) * 10 * MILLISECONDS;
    return (times_.tms_utime + times_.tms_stime) * 10 * MILLISECONDS;
}

static void burn(int64_t ns) {
    int64_t end = nanoseconds(CLOCK_THREAD_CPUTIME_ID) + ns;
    while (nanoseconds(CLOCK_THREAD_CPUTIME_ID) < end) continue;
}

static void burn_in_child(void) {
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        burn(60 * MILLISECONDS);
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child, "waitpid");
}

static sem_t standing, leave;
static clockid_t worker_clock;
static int64_t worker_before;

static void *work(void *argument) {
    burn(30 * MILLISECONDS);
    CHECK(pthread_getcpuclockid(pthread_self(), &worker_clock) == 0, "pthread_getcpuclockid");
    worker_before = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    sem_post(&standing);
    while (sem_wait(&leave) != 0) continue;
    int64_t now = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    CHECK(now >= worker_before && now < worker_before + 30 * SECONDS, "a thread's CPU time goes on: %lld then, %lld now",
          (long long)worker_before, (long long)now);
    return argument;
}

/* Waits that began before: each ends when its own clock says so. */
enum { WAITS = 5 };
static int64_t wait_end[WAITS], wait_ended[WAITS];
static const char *const wait_names[WAITS] = {"clock_nanosleep", "boot time clock_nanosleep", "pthread_cond_clockwait", "sem_clockwait",
                                       "futex"};
static clockid_t wait_clock(int which) { return which == 1 ? CLOCK_BOOTTIME : CLOCK_MONOTONIC; }

static void *wait_for(void *argument) {
    int which = (int)(intptr_t)argument;
    struct timespec end = timespec_of(wait_end[which]);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    sem_t semaphore;
    uint32_t word = 5;
    sem_init(&semaphore, 0, 0);
    pthread_mutex_lock(&mutex);
    long result = which == 0   ? clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL)
                  : which == 1 ? clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &end, NULL)
                  : which == 2 ? pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &end)
                  : which == 3 ? sem_clockwait(&semaphore, CLOCK_MONOTONIC, &end)
                               : syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 5, &end, NULL, ~0u);
    int expected = which < 2 ? 0 : which == 2 ? ETIMEDOUT : -1;
    CHECK(result == expected && (result != -1 || errno == ETIMEDOUT), "%s: %ld", wait_names[which], result);
    wait_ended[which] = nanoseconds(wait_clock(which));
    return NULL;
}

int main(void) {
    int64_t before[BOOTS], wall = nanoseconds(CLOCK_REALTIME);
    burn(60 * MILLISECONDS);
    burn_in_child();
    pthread_t worker, waiters[WAITS];
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&leave, 0, 0) == 0);
    MAKE(pthread_create(&worker, NULL, work, NULL) == 0 && sem_wait(&standing) == 0);
    for (int i = 0; i < WAITS; i++) {
        wait_end[i] = nanoseconds(wait_clock(i)) + 2 * SECONDS;
        MAKE(pthread_create(&waiters[i], NULL, wait_for, (void *)(intptr_t)i) == 0);
    }
    struct timeval day;
    struct sysinfo info;
    sysinfo(&info);
    int64_t uptime = info.uptime * SECONDS, ticks_before, ticks_used = ticks(&ticks_before);
    int64_t process = nanoseconds(CLOCK_PROCESS_CPUTIME_ID), thread = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    int64_t usage_of_children = used(RUSAGE_CHILDREN), children_ticks = ticks_of_children();
    MAKE(usage_of_children >= 60 * MILLISECONDS);
    int64_t usage = used(RUSAGE_SELF), own_usage = used(RUSAGE_THREAD), clock_before = clock();
    for (int i = 0; i < BOOTS; i++) before[i] = nanoseconds(boots[i].clock);
    wall = nanoseconds(CLOCK_REALTIME);

    ready();

    int64_t wall_passed = nanoseconds(CLOCK_REALTIME) - wall;
    for (int i = 0; i < BOOTS; i++) {
        int64_t passed = nanoseconds(boots[i].clock) - before[i];
        /* The coarse clock is behind by up to a tick. */
        CHECK(passed >= 0 && passed <= wall_passed + 20 * MILLISECONDS, "%s: %lld ns have passed, %lld on the wall", boots[i].name,
              (long long)passed, (long long)wall_passed);
        int64_t direct = nanoseconds(boots[i].clock), numbered = by_number(boots[i].clock);
        CHECK(numbered - direct >= 0 && numbered - direct < 500 * MILLISECONDS, "%s: by number %lld later", boots[i].name,
              (long long)(numbered - direct));
        SAY("clocks: %s goes on", boots[i].name);
    }
    gettimeofday(&day, NULL);
    int64_t day_ns = day.tv_sec * SECONDS + day.tv_usec * 1000, now = nanoseconds(CLOCK_REALTIME);
    CHECK(now - day_ns >= 0 && now - day_ns < SECONDS && time(NULL) - now / SECONDS <= 1, "the wall clock's readings agree");
    int64_t number = by_number(CLOCK_REALTIME) - now;
    CHECK(number >= 0 && number < SECONDS, "the wall clock by number");
    struct timespec resolution;
    CHECK(clock_getres(CLOCK_MONOTONIC, &resolution) == 0 && resolution.tv_sec == 0, "clock_getres");
    sysinfo(&info);
    CHECK(info.uptime * SECONDS - uptime >= 0 && info.uptime * SECONDS - uptime <= wall_passed + 2 * SECONDS, "uptime");
    int64_t ticks_now, ticks_then = ticks_used;
    ticks_used = ticks(&ticks_now);
    CHECK(ticks_now >= ticks_before && ticks_now - ticks_before <= wall_passed + 100 * MILLISECONDS, "times: %lld",
          (long long)(ticks_now - ticks_before));
    /* USER_HZ is coarse, and a sum of two that are rounded down. */
    CHECK(ticks_used >= ticks_then - 30 * MILLISECONDS && ticks_used < ticks_then + 30 * SECONDS, "times: CPU %lld then, %lld now",
          (long long)ticks_then, (long long)ticks_used);
    SAY("clocks: the wall's is right, uptime and times go on");

    int64_t later = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    CHECK(later >= process && later < process + 30 * SECONDS, "process CPU time: %lld then, %lld now", (long long)process, (long long)later);
    later = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    CHECK(later >= thread && later < thread + 30 * SECONDS, "thread CPU time: %lld then, %lld now", (long long)thread, (long long)later);
    later = used(RUSAGE_SELF);
    CHECK(later >= usage && later < usage + 30 * SECONDS, "getrusage: %lld then, %lld now", (long long)usage, (long long)later);
    later = used(RUSAGE_THREAD);
    CHECK(later >= own_usage - MILLISECONDS && later < own_usage + 30 * SECONDS, "getrusage of the thread: %lld then, %lld now",
          (long long)own_usage, (long long)later);
    later = used(RUSAGE_CHILDREN);
    CHECK(later >= usage_of_children && later < usage_of_children + SECONDS, "getrusage of children: %lld then, %lld now", (long long)usage_of_children, (long long)later);
    later = ticks_of_children();
    CHECK(later >= children_ticks && later < children_ticks + SECONDS, "times of children: %lld then, %lld now", (long long)children_ticks, (long long)later);
    burn_in_child();
    later = used(RUSAGE_CHILDREN) - usage_of_children;
    CHECK(later >= 60 * MILLISECONDS && later < 30 * SECONDS, "getrusage of one more child: %lld", (long long)later);
    later = clock();
    CHECK(later >= clock_before, "clock()");
    later = nanoseconds(worker_clock);
    CHECK(later >= worker_before && later < worker_before + 30 * SECONDS, "another thread's CPU time: %lld then, %lld now",
          (long long)worker_before, (long long)later);
    sem_post(&leave);
    CHECK(pthread_join(worker, NULL) == 0, "join");
    SAY("clocks: CPU time goes on");

    for (int i = 0; i < WAITS; i++) {
        CHECK(pthread_join(waiters[i], NULL) == 0, "join");
        int64_t late = wait_ended[i] - wait_end[i];
        CHECK(late >= 0 && late < 30 * SECONDS, "%s: %lld ns late", wait_names[i], (long long)late);
        SAY("clocks: %s ended in time", wait_names[i]);
    }
    /* And waits that begin now. */
    struct timespec soon = timespec_of(nanoseconds(CLOCK_MONOTONIC) + 20 * MILLISECONDS);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &soon, NULL) == 0, "clock_nanosleep");
    int64_t late = nanoseconds(CLOCK_MONOTONIC) - nanoseconds_of(soon);
    CHECK(late >= 0 && late < 30 * SECONDS, "a new wait: %lld ns late", (long long)late);
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    uint64_t expirations = 0;
    soon = timespec_of(nanoseconds(CLOCK_MONOTONIC) + 20 * MILLISECONDS);
    struct itimerspec setting = {.it_value = soon};
    CHECK(timerfd_settime(timer, TFD_TIMER_ABSTIME, &setting, NULL) == 0 && read(timer, &expirations, 8) == 8, "timerfd");
    late = nanoseconds(CLOCK_MONOTONIC) - nanoseconds_of(soon);
    CHECK(expirations == 1 && late >= 0 && late < 30 * SECONDS, "a new timerfd: %lld ns late", (long long)late);
    SAY("clocks: new deadlines are met");
    return finish(7);
}
