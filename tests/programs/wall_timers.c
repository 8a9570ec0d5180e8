/* Timers that are set to a time of the wall (TIMER_ABSTIME, TFD_TIMER_ABSTIME): they expire then, or at once when it has
 * passed while the program did not exist. By signal, to a thread, and by descriptor; one that is set to a span beside
 * them, which goes on from where it stood. With an argument: the time of the wall has passed at the restart.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

static int64_t left = 900 * MILLISECONDS;

static volatile int64_t wall[4], own[4];
static pid_t thread_id;
static volatile int thread_runs = 1;

static void note(int which) {
    wall[which] = nanoseconds(CLOCK_REALTIME);
    own[which] = nanoseconds(CLOCK_MONOTONIC);
}

static void expired(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    if (info->si_code != SI_TIMER) return;
    if (info->si_value.sival_int == 1 && syscall(SYS_gettid) != thread_id) return;
    note(info->si_value.sival_int);
}

static void *life(void *nothing) {
    thread_id = syscall(SYS_gettid);
    while (thread_runs) usleep(1000);
    return nothing;
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) left = 4 * SECONDS;
    struct sigaction action = {.sa_sigaction = expired, .sa_flags = SA_SIGINFO | SA_RESTART};
    MAKE(sigaction(SIGRTMIN, &action, NULL) == 0);
    pthread_t thread;
    MAKE(pthread_create(&thread, NULL, life, NULL) == 0);
    while (*(volatile pid_t *)&thread_id == 0) usleep(1000);
    timer_t timers[3];
    for (int i = 0; i < 3; i++) {
        struct sigevent event = {.sigev_notify = i == 1 ? SIGEV_THREAD_ID : SIGEV_SIGNAL,
                                 .sigev_signo = SIGRTMIN,
                                 .sigev_value.sival_int = i};
        event._sigev_un._tid = thread_id;
        MAKE(timer_create(CLOCK_REALTIME, &event, &timers[i]) == 0);
    }
    int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    MAKE(fd >= 0);
    int64_t start_wall = nanoseconds(CLOCK_REALTIME), start_own = nanoseconds(CLOCK_MONOTONIC);
    int64_t deadline = start_wall + left;
    struct itimerspec at = {.it_value = timespec_of(deadline)}, span = {.it_value = timespec_of(left)};
    /* The last has been set to a time before, and is set to a span now. */
    for (int i = 0; i < 3; i++) MAKE(timer_settime(timers[i], TIMER_ABSTIME, &at, NULL) == 0);
    MAKE(timer_settime(timers[2], 0, &span, NULL) == 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, NULL) == 0);

    say_ready();
    /* The wall's clock leaves the program's own when it does not exist. */
    int64_t back = 0, before = start_wall - start_own;
    for (int expirations = 0; !(expirations && wall[0] && wall[1] && wall[2] && told_to_go_on()); usleep(1000)) {
        int64_t now = nanoseconds(CLOCK_REALTIME), difference = now - nanoseconds(CLOCK_MONOTONIC);
        if (difference - before > 20 * MILLISECONDS) back = now;
        before = difference;
        uint64_t count;
        if (!expirations && read(fd, &count, sizeof count) == sizeof count) {
            CHECK(count == 1, "the descriptor's expirations: %d", (int)count);
            expirations = 1;
            note(3);
        }
        CHECK(now - start_wall < 60 * SECONDS, "expired: %d %d %d %d", !!wall[0], !!wall[1], !!wall[2], expirations);
    }
    int64_t due = back > deadline ? back : deadline;
    for (int i = 0; i < 4; i++) {
        if (i == 2) continue;
        CHECK(wall[i] >= deadline, "timer %d: %d us early", i, (int)((deadline - wall[i]) / 1000));
        CHECK(wall[i] < due + 500 * MILLISECONDS, "timer %d: %d us late", i, (int)((wall[i] - due) / 1000));
    }
    CHECK(own[2] - start_own >= left - MILLISECONDS, "the span: %d us", (int)((own[2] - start_own) / 1000));
    if (argc > 1) {
        CHECK(back > deadline, "it was back before the time");
        /* The program's own time shows that nobody waited for what was left of it. */
        CHECK(own[0] - start_own < left && own[1] - start_own < left && own[3] - start_own < left, "at once");
        CHECK(own[2] > own[0] && wall[2] > wall[0], "the span takes its time");
    }
    thread_runs = 0;
    MAKE(pthread_join(thread, NULL) == 0);
    SAY("timers by the wall: at their time");
    return finish(8);
}
