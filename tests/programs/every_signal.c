/* A program that uses every real-time signal: for each a handler, values that wait for the process, values that wait for one
 * thread, and a thread that sends each to itself all the time.
 *
 * Wrong would be: a value that is lost, comes twice, out of order or with another sender; a number that cannot be used.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>

#define FIRST SIGRTMIN
#define COUNT 65
#define EACH 2

static sem_t begun, go;
static volatile int handled[COUNT], values[COUNT][EACH], senders[COUNT][EACH], codes[COUNT][EACH];
static volatile long sent, received;

static void handle(int number, siginfo_t *info, void *context) {
    (void)context;
    int at = handled[number]++;
    if (at >= EACH) return;
    values[number][at] = info->si_value.sival_int;
    senders[number][at] = info->si_pid;
    codes[number][at] = info->si_code;
}

static void *has_its_own(void *argument) {
    CHECK(sem_post(&begun) == 0 && sem_wait(&go) == 0, "waiting");
    for (int number = FIRST; number <= SIGRTMAX; number++) {
        sigset_t one;
        siginfo_t info;
        sigemptyset(&one);
        sigaddset(&one, number);
        for (int i = 0; i < EACH; i++) {
            CHECK(sigwaitinfo(&one, &info) == number, "signal %d of the thread", number);
            CHECK(info.si_value.sival_int == number * 100 + i, "the thread's value %d of %d: %d", i, number, info.si_value.sival_int);
            CHECK(info.si_code == SI_QUEUE && info.si_pid == getpid(), "the thread's sender of %d", number);
        }
    }
    return argument;
}

static void *sends_to_itself(void *argument) {
    while (!told_to_go_on()) {
        for (int number = FIRST; number <= SIGRTMAX; number++) {
            sigset_t one;
            siginfo_t info;
            struct timespec long_time = {60, 0};
            union sigval value = {.sival_int = (int)++sent};
            sigemptyset(&one);
            sigaddset(&one, number);
            CHECK(pthread_sigqueue(pthread_self(), number, value) == 0, "sending %d", number);
            CHECK(sigtimedwait(&one, &info, &long_time) == number, "signal %d is there", number);
            CHECK(info.si_value.sival_int == value.sival_int, "its value: %d, not %d", info.si_value.sival_int, value.sival_int);
            received++;
        }
    }
    return argument;
}

int main(void) {
    sigset_t all, none, old;
    sigfillset(&all);
    sigemptyset(&none);
    MAKE(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO}, known;
    sigfillset(&action.sa_mask);
    for (int number = FIRST; number <= SIGRTMAX; number++) MAKE(sigaction(number, &action, NULL) == 0);
    MAKE(sem_init(&begun, 0, 0) == 0 && sem_init(&go, 0, 0) == 0);
    pthread_t own, busy;
    MAKE(pthread_create(&own, NULL, has_its_own, NULL) == 0 && sem_wait(&begun) == 0);
    for (int number = FIRST; number <= SIGRTMAX; number++)
        for (int i = 0; i < EACH; i++) {
            MAKE(sigqueue(getpid(), number, (union sigval){.sival_int = number * 10 + i}) == 0);
            MAKE(pthread_sigqueue(own, number, (union sigval){.sival_int = number * 100 + i}) == 0);
        }
    say_ready();
    MAKE(pthread_create(&busy, NULL, sends_to_itself, NULL) == 0);
    wait_for_go();

    CHECK(pthread_join(busy, NULL) == 0 && sent == received, "the busy thread has received all");
    CHECK(sem_post(&go) == 0 && pthread_join(own, NULL) == 0, "the thread has received all");
    for (int number = FIRST; number <= SIGRTMAX; number++) {
        CHECK(sigaction(number, NULL, &known) == 0 && known.sa_sigaction == handle, "the handler of %d", number);
        CHECK((known.sa_flags & ~0x04000000) == SA_SIGINFO, "its flags"); /* SA_RESTORER is libc's */
        CHECK(handled[number] == 0, "signal %d has waited", number);
    }
    CHECK(sigprocmask(SIG_SETMASK, &none, &old) == 0, "no signal blocked");
    for (int number = FIRST; number <= SIGRTMAX; number++) {
        CHECK(sigismember(&old, number), "signal %d was blocked", number);
        CHECK(handled[number] == EACH, "signal %d has come %d times", number, handled[number]);
        for (int i = 0; i < EACH; i++) {
            CHECK(values[number][i] == number * 10 + i, "value %d of %d: %d", i, number, values[number][i]);
            CHECK(codes[number][i] == SI_QUEUE && senders[number][i] == getpid(), "the sender of %d", number);
        }
        CHECK(raise(number) == 0 && handled[number] == EACH + 1, "signal %d can be raised", number);
        CHECK(kill(getpid(), number) == 0 && handled[number] == EACH + 2, "signal %d can be sent", number);
    }
    /* libc's own: nobody sets a handler for them, nor blocks them. */
    for (int number = 32; number < FIRST; number++) {
        CHECK(sigaction(number, &action, NULL) == -1 && errno == EINVAL, "libc's own signal %d", number);
        CHECK(!sigismember(&all, number), "a full set is without %d", number);
    }
    /* As a runtime does that asks the kernel: what is there, and the same once more. */
    uint64_t kernels[4];
    CHECK(syscall(SYS_rt_sigaction, 33, NULL, kernels, 8) == 0 && kernels[0] > 1, "libc has a handler of its own");
    CHECK(syscall(SYS_rt_sigaction, 33, kernels, NULL, 8) == 0, "it can be set again");
    SAY("every signal from %d to %d: values in order, none lost", FIRST, SIGRTMAX);
    return finish(7);
}
