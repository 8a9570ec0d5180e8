/* A thread that sends numbered signals to many others all the time, by pthread_sigqueue, tgkill's kin and a timer of a thread.
 *
 * Wrong would be: a number that is left out or comes twice, as when a thread that stands already is sent one by a thread that
 * does not yet.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

enum { RECEIVERS = 30, OUTSTANDING = 20, END = -1 };
static struct receiver {
    pthread_t thread;
    volatile pid_t tid;
    volatile int sent, received;
} receivers[RECEIVERS];
static volatile long timer_count;

static void *receive(void *argument) {
    struct receiver *own = argument;
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    own->tid = gettid();
    for (;;) {
        CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 1, "a signal");
        if (info.si_value.sival_int == END) return argument;
        CHECK(info.si_value.sival_int == own->received, "number %d instead of %d", info.si_value.sival_int, own->received);
        own->received++;
    }
}

static void *count_timer(void *argument) {
    sigset_t set;
    siginfo_t info;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 2};
    struct itimerspec often = {{0, 1000000}, {0, 1000000}};
    event._sigev_un._tid = gettid();
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 2);
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &often, NULL) == 0, "a timer");
    do {
        CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 2 && info.si_code == SI_TIMER, "the timer's signal");
        timer_count++;
    } while (!told_to_go_on());
    CHECK(timer_delete(timer) == 0, "timer_delete");
    return argument;
}

static void send_to(struct receiver *to, int value, int way) {
    union sigval number = {.sival_int = value};
    if (way) {
        CHECK(pthread_sigqueue(to->thread, SIGRTMIN + 1, number) == 0, "pthread_sigqueue");
        return;
    }
    siginfo_t info = {.si_code = SI_QUEUE, .si_signo = SIGRTMIN + 1};
    info.si_pid = getpid();
    info.si_value = number;
    CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), to->tid, SIGRTMIN + 1, &info) == 0, "rt_tgsigqueueinfo");
}

int main(void) {
    sigset_t all;
    pthread_t timer;
    sigfillset(&all);
    MAKE(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    for (int i = 0; i < RECEIVERS; i++) {
        MAKE(pthread_create(&receivers[i].thread, NULL, receive, &receivers[i]) == 0);
        while (receivers[i].tid == 0) sched_yield();
    }
    say_ready();
    MAKE(pthread_create(&timer, NULL, count_timer, NULL) == 0);
    for (int round = 0; !told_to_go_on(); round++)
        for (int i = 0; i < RECEIVERS; i++) {
            struct receiver *to = &receivers[i];
            if (to->sent - to->received < OUTSTANDING) send_to(to, to->sent++, round % 2);
        }
    for (int i = 0; i < RECEIVERS; i++) send_to(&receivers[i], END, 1);
    for (int i = 0; i < RECEIVERS; i++) {
        CHECK(pthread_join(receivers[i].thread, NULL) == 0, "join");
        CHECK(receivers[i].received == receivers[i].sent, "%d sent, %d received", receivers[i].sent, receivers[i].received);
    }
    CHECK(pthread_join(timer, NULL) == 0 && timer_count > 0, "the timer");
    SAY("sent signals: all have come, each once, in order");
    return finish(7);
}
