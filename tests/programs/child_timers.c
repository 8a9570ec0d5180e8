/* Timers of a process that is not the first: its alarm, its POSIX timer, its own timerfd and one that it shares with its
 * parent; and the alarm of one that has become another program.
 *
 * Wrong would be: one that never comes or comes at once, the shared one twice, an alarm that ends with exec.
 */
#include "program.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

static struct shared {
    volatile int stands, go_on;
} *shared;

static volatile sig_atomic_t rung, ticks;

static void ring(int number) {
    (void)number;
    rung++;
}

static void tick(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    if (info->si_code == SI_TIMER && info->si_value.sival_int == 9) ticks++;
}

static int child(int common, int64_t began) {
    struct sigaction alarmed = {.sa_handler = ring}, ticking = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 9};
    struct itimerspec often = {{0, 20 * MILLISECONDS}, {0, 20 * MILLISECONDS}};
    timer_t timer;
    uint64_t count;
    int own = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
    MAKE(sigaction(SIGALRM, &alarmed, NULL) == 0 && sigaction(SIGRTMIN, &ticking, NULL) == 0);
    MAKE(alarm(2) == 0 && own >= 0 && timerfd_settime(own, 0, &often, NULL) == 0);
    MAKE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &often, NULL) == 0);
    shared->stands = 1;
    while (!shared->go_on) usleep(1000);
    CHECK(read(own, &count, sizeof count) == sizeof count && count > 0, "its timerfd");
    int seen = ticks;
    for (int i = 0; i < 5000 && ticks < seen + 5; i++) usleep(1000);
    CHECK(ticks >= seen + 5, "its timer came %d times", (int)ticks - seen);
    for (int i = 0; i < 5000 && !rung; i++) usleep(1000);
    int64_t after = nanoseconds(CLOCK_MONOTONIC) - began;
    CHECK(rung == 1 && after > 1900 * MILLISECONDS, "its alarm came %d times, after %lld ns", (int)rung, (long long)after);
    CHECK(read(common, &count, sizeof count) == sizeof count && count == 1, "the timerfd of both");
    return 3;
}

int main(void) {
    struct itimerspec once = {{0, 0}, {1, 500 * MILLISECONDS}};
    uint64_t count;
    int status, common = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    int64_t began = nanoseconds(CLOCK_MONOTONIC);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(shared != MAP_FAILED && common >= 0 && timerfd_settime(common, 0, &once, NULL) == 0);
    pid_t with_timers = fork();
    MAKE(with_timers >= 0);
    if (with_timers == 0) _exit(child(common, began));
    while (!shared->stands) usleep(1000);
    pid_t other = fork();
    MAKE(other >= 0);
    if (other == 0) {
        alarm(2);
        execl("/bin/sh", "sh", "-c", "trap 'exit 33' ALRM; while :; do sleep 0.05; done", (char *)NULL);
    }

    ready();

    shared->go_on = 1;
    CHECK(waitpid(with_timers, &status, 0) == with_timers && WIFEXITED(status) && WEXITSTATUS(status) == 3, "the child: %x", status);
    CHECK(read(common, &count, sizeof count) == -1 && errno == EAGAIN, "the timerfd of both, which the child has read");
    CHECK(waitpid(other, &status, 0) == other && WIFEXITED(status) && WEXITSTATUS(status) == 33, "alarm through exec: %x", status);
    SAY("child timers: each in its time");
    return finish(7);
}
