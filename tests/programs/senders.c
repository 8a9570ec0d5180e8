/* Signals that wait for the process and for threads, with who has sent them: by kill, pthread_kill, tgkill, sigqueue,
 * pthread_sigqueue and the system calls below them.
 *
 * Wrong would be: a signal without its code, value or sender, one that is told twice; after a restart, a call that sends
 * to nobody, or a sender that the program does not know.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static sem_t standing, look, looked;
static pid_t holder_id, other_process;
static volatile sig_atomic_t handled, code, pid, uid, value;

static void note(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    code = info->si_code, pid = info->si_pid, uid = info->si_uid, value = info->si_value.sival_int;
    handled++;
}

static siginfo_t own_info(int number, int code, int pid, int value) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = number;
    info.si_code = code;
    info.si_pid = pid;
    info.si_uid = 4711;
    info.si_value.sival_int = value;
    return info;
}

/* Takes `number`, which waits, and looks at it. */
static void expect(int number, int code, pid_t sender, uid_t user, int value) {
    sigset_t set;
    siginfo_t info;
    struct timespec none = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, number);
    memset(&info, 0, sizeof info);
    CHECK(sigtimedwait(&set, &info, &none) == number, "signal %d waits", number);
    CHECK(info.si_code == code, "signal %d: code %d instead of %d", number, info.si_code, code);
    CHECK(info.si_pid == sender && info.si_uid == user, "signal %d: sender %d of user %d instead of %d of %d", number,
          info.si_pid, info.si_uid, sender, user);
    if (code != SI_USER)
        CHECK(info.si_value.sival_int == value, "signal %d: value %d instead of %d", number, info.si_value.sival_int, value);
    if (number < SIGRTMIN) CHECK(sigtimedwait(&set, &info, &none) == -1 && errno == EAGAIN, "signal %d waits once", number);
}

static void send_to_thread(pthread_t thread, pid_t id) {
    siginfo_t info = own_info(SIGTRAP, SI_QUEUE, 12345, 99), message = own_info(SIGRTMIN + 2, SI_MESGQ, 54321, 98);
    union sigval value = {.sival_int = 97};
    CHECK(pthread_kill(thread, SIGUSR1) == 0, "pthread_kill");
    CHECK(syscall(SYS_tgkill, getpid(), id, SIGUSR2) == 0, "tgkill");
    CHECK(pthread_sigqueue(thread, SIGWINCH, value) == 0, "pthread_sigqueue");
    CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), id, SIGTRAP, &info) == 0, "rt_tgsigqueueinfo");
    CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), id, SIGRTMIN + 2, &message) == 0, "rt_tgsigqueueinfo, real-time");
    CHECK(syscall(SYS_tkill, id, SIGURG) == 0, "tkill");
}

static void expect_in_thread(void) {
    /* libc tells SI_TKILL as SI_USER here. */
    expect(SIGUSR1, SI_USER, getpid(), getuid(), 0);
    expect(SIGUSR2, SI_USER, getpid(), getuid(), 0);
    expect(SIGWINCH, SI_QUEUE, getpid(), getuid(), 97);
    expect(SIGTRAP, SI_QUEUE, 12345, 4711, 99);
    expect(SIGRTMIN + 2, SI_MESGQ, 54321, 4711, 98);
    expect(SIGURG, SI_USER, getpid(), getuid(), 0);
}

static void send_to_process(void) {
    siginfo_t info = own_info(SIGSYS, SI_QUEUE, 23456, 89), queued = own_info(SIGRTMIN + 3, -60, 34567, 88);
    union sigval value = {.sival_int = 87};
    CHECK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGSYS, &info) == 0, "rt_sigqueueinfo");
    CHECK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN + 3, &queued) == 0, "rt_sigqueueinfo, real-time");
    CHECK(sigqueue(getpid(), SIGXCPU, value) == 0 && sigqueue(getpid(), SIGRTMIN + 4, value) == 0, "sigqueue");
    CHECK(kill(getpid(), SIGIO) == 0, "kill");
}

static void expect_in_process(void) {
    expect(SIGSYS, SI_QUEUE, 23456, 4711, 89);
    expect(SIGRTMIN + 3, -60, 34567, 4711, 88);
    expect(SIGXCPU, SI_QUEUE, getpid(), getuid(), 87);
    expect(SIGRTMIN + 4, SI_QUEUE, getpid(), getuid(), 87);
    expect(SIGIO, SI_USER, getpid(), getuid(), 0);
}

static void *hold(void *argument) {
    holder_id = gettid();
    sem_post(&standing);
    for (int round = 0; round < 2; round++) {
        while (sem_wait(&look) != 0) continue;
        expect_in_thread();
        sem_post(&looked);
    }
    return argument;
}

static void check_handled(const char *what, int expected_code, int expected_value) {
    CHECK(handled == 1 && code == expected_code && pid == getpid() && uid == (int)getuid() && value == expected_value,
          "%s: taken %d times, code %d, sender %d, value %d", what, (int)handled, (int)code, (int)pid, (int)value);
    handled = 0;
}

int main(void) {
    pthread_t holder;
    sigset_t set;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = note;
    action.sa_flags = SA_SIGINFO;
    MAKE(sigaction(SIGHUP, &action, NULL) == 0);
    sigfillset(&set);
    sigdelset(&set, SIGHUP);
    MAKE(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&look, 0, 0) == 0 && sem_init(&looked, 0, 0) == 0);
    MAKE(pthread_create(&holder, NULL, hold, NULL) == 0 && sem_wait(&standing) == 0);
    /* By another process, which is gone then. */
    pid_t parent = getpid();
    other_process = fork();
    if (other_process == 0) _exit(kill(parent, SIGPROF) == 0 && kill(parent, SIGPWR) == 0 ? 0 : 1);
    int status;
    MAKE(other_process > 0 && waitpid(other_process, &status, 0) == other_process && status == 0);
    send_to_thread(holder, holder_id);
    send_to_process();
    send_to_thread(pthread_self(), gettid());
    MAKE(sigaction(SIGQUIT, &action, NULL) == 0 && pthread_kill(pthread_self(), SIGQUIT) == 0);

    ready();

    sigemptyset(&set);
    sigaddset(&set, SIGQUIT);
    CHECK(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0, "unblock");
    check_handled("pthread_kill of before", SI_TKILL, 0);

    expect(SIGPWR, SI_USER, other_process, getuid(), 0);
    sem_post(&look);
    while (sem_wait(&looked) != 0) continue;
    expect_in_thread();
    expect_in_process();
    SAY("senders: those of the signals that waited");
    send_to_thread(holder, holder_id);
    send_to_process();
    send_to_thread(pthread_self(), gettid());
    sem_post(&look);
    while (sem_wait(&looked) != 0) continue;
    expect_in_thread();
    expect_in_process();
    SAY("senders: those of new ones");
    union sigval sent = {.sival_int = 77};
    CHECK(raise(SIGHUP) == 0, "raise");
    check_handled("raise", SI_TKILL, 0);
    CHECK(kill(getpid(), SIGHUP) == 0, "kill");
    check_handled("kill", SI_USER, 0);
    CHECK(pthread_kill(pthread_self(), SIGHUP) == 0, "pthread_kill");
    check_handled("pthread_kill", SI_TKILL, 0);
    CHECK(sigqueue(getpid(), SIGHUP, sent) == 0, "sigqueue");
    check_handled("sigqueue", SI_QUEUE, 77);
    CHECK(pthread_sigqueue(pthread_self(), SIGHUP, sent) == 0, "pthread_sigqueue");
    check_handled("pthread_sigqueue", SI_QUEUE, 77);
    CHECK(pthread_sigqueue(pthread_self(), 65, sent) == EINVAL && pthread_sigqueue(pthread_self(), 0, sent) == 0, "no signal");
    CHECK(pthread_join(holder, NULL) == 0, "join");
    SAY("senders: what handlers are told");
    return finish(7);
}
