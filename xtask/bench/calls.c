/* Nanoseconds per call, one line `name nanoseconds` each. usage: calls [ROUNDS [FILE]]: makes FILE.ready, and begins when FILE
 * is there.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* The best of nine: what disturbs only makes it slower. */
#define MEASURE(name, rounds, ...)                                                                                     \
    do {                                                                                                               \
        double best = 1e18;                                                                                            \
        for (int take = 0; take < 9; take++) {                                                                         \
            int64_t start = now();                                                                                     \
            for (int round = 0; round < (rounds); round++) { __VA_ARGS__; }                                            \
            double each = (double)(now() - start) / (rounds);                                                          \
            if (each < best) best = each;                                                                              \
        }                                                                                                              \
        printf("%s %.1f\n", name, best);                                                                               \
        fflush(stdout);                                                                                                \
    } while (0)

static void *nothing(void *argument) { return argument; }

/* On one processor, always the same: on two, what a fork costs tells where the child came to run. */
static void stay(void) {
    cpu_set_t allowed, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    for (int number = 0; number < CPU_SETSIZE; number++) {
        if (!CPU_ISSET(number, &allowed)) continue;
        CPU_ZERO(&one);
        CPU_SET(number, &one);
    }
    sched_setaffinity(0, sizeof one, &one);
}

int main(int argc, char **argv) {
    /* The rows of exec: this program replaces itself until the count has run out. */
    if (argc == 4 && strcmp(argv[1], "exec") == 0) {
        int left = atoi(argv[2]);
        if (left == 0) {
            printf("execve %.1f\n", (double)(now() - atoll(argv[3])) / 200);
            return 0;
        }
        char count[16];
        snprintf(count, sizeof count, "%d", left - 1);
        execl(argv[0], argv[0], "exec", count, argv[3], NULL);
        return 1;
    }
    if (argc == 2 && strcmp(argv[1], "nothing") == 0) return 0;
    if (argc == 3) {
        char ready[4096];
        snprintf(ready, sizeof ready, "%s.ready", argv[2]);
        close(open(ready, O_CREAT | O_WRONLY, 0600));
        while (access(argv[2], F_OK) != 0) usleep(1000);
    }
    stay();
    int rounds = argc > 1 ? atoi(argv[1]) : 100000;
    int pipes[2], zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY), set = epoll_create1(0);
    if (pipe(pipes) != 0) return 1;
    char byte = 0;
    struct pollfd wait = {pipes[0], POLLIN, 0};
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(set, EPOLL_CTL_ADD, pipes[0], &event);
    struct timespec none = {0, 0}, time;
    struct sigevent no_event = {.sigev_notify = SIGEV_NONE};
    struct stat status;
    char path[4096];
    int word = 0;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    MEASURE("getpid", rounds, getpid());
    MEASURE("gettid", rounds, gettid());
    MEASURE("getppid", rounds, getppid());
    MEASURE("getuid", rounds, getuid());
    MEASURE("getpgid(0)", rounds, getpgid(0));
    MEASURE("kill(self,0)", rounds, kill(getpid(), 0));
    MEASURE("pthread_kill(self,0)", rounds, pthread_kill(pthread_self(), 0));
    MEASURE("waitpid(WNOHANG)", rounds, waitpid(-1, NULL, WNOHANG));
    MEASURE("read", rounds, if (read(zero, &byte, 1) != 1) return 1);
    MEASURE("write", rounds, if (write(null, &byte, 1) != 1) return 1);
    MEASURE("pipe:write+read", rounds, if (write(pipes[1], &byte, 1) != 1 || read(pipes[0], &byte, 1) != 1) return 1);
    MEASURE("poll", rounds, poll(&wait, 1, 0));
    MEASURE("epoll_wait", rounds, epoll_wait(set, &event, 1, 0));
    MEASURE("epoll_ctl", rounds, epoll_ctl(set, EPOLL_CTL_MOD, pipes[0], &event));
    MEASURE("nanosleep(0)", rounds / 100, nanosleep(&none, NULL));
    MEASURE("clock_nanosleep(0)", rounds / 100, clock_nanosleep(CLOCK_MONOTONIC, 0, &none, NULL));
    MEASURE("clock_nanosleep(past)", rounds, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &none, NULL));
    MEASURE("sigprocmask", rounds, sigprocmask(SIG_BLOCK, &signals, NULL));
    MEASURE("sigaction", rounds, sigaction(SIGUSR1, NULL, NULL));
    MEASURE("clock_gettime", rounds, clock_gettime(CLOCK_MONOTONIC, &time));
    MEASURE("open+close", rounds / 10, close(open("/dev/null", O_RDONLY)));
    MEASURE("dup+close", rounds / 10, close(dup(null)));
    MEASURE("fcntl(F_GETFL)", rounds, fcntl(null, F_GETFL));
    MEASURE("access", rounds / 10, access("/dev/null", R_OK));
    MEASURE("stat", rounds / 10, stat("/dev/null", &status));
    MEASURE("fstat", rounds, fstat(null, &status));
    MEASURE("readlink", rounds / 10, if (readlink("/proc/self/exe", path, sizeof path) < 1) return 1);
    MEASURE("socketpair+close", rounds / 10, int ends[2]; if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 1;
            close(ends[0]); close(ends[1]));
    MEASURE("timer_create+delete", rounds / 10, timer_t timer;
            if (timer_create(CLOCK_MONOTONIC, &no_event, &timer)) return 1; timer_delete(timer));
    MEASURE("futex-wake", rounds, syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    MEASURE("mmap+munmap", rounds / 10,
            munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096));
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    MEASURE("mutex", rounds, pthread_mutex_lock(&mutex); pthread_mutex_unlock(&mutex));
    MEASURE("pthread_create+join", rounds / 500, pthread_t thread; if (pthread_create(&thread, NULL, nothing, NULL)) return 1;
            pthread_join(thread, NULL));
    MEASURE("fork+exit+wait", rounds / 1000, pid_t child = fork(); if (child == 0) _exit(0); waitpid(child, NULL, 0));
    MEASURE("fork+exec+wait", rounds / 2000, pid_t child = fork();
            if (child == 0) execl(argv[0], argv[0], "nothing", NULL), _exit(1);
            waitpid(child, NULL, 0));
    char start[32];
    snprintf(start, sizeof start, "%lld", (long long)now());
    fflush(stdout);
    execl(argv[0], argv[0], "exec", "200", start, NULL);
    return 1;
}
