/* Nanoseconds per call, one line `name nanoseconds` each. usage: calls [ROUNDS [FILE]]: makes FILE.ready, and begins when FILE
 * is there.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
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
    int ends[2], room = 1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return 1;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    MEASURE("send+recv", rounds, if (send(ends[0], &byte, 1, 0) != 1 || recv(ends[1], &byte, 1, 0) != 1) return 1);
    MEASURE("sendmsg+recvmsg", rounds, if (sendmsg(ends[0], &message, 0) != 1 || recvmsg(ends[1], &message, 0) != 1) return 1);
    MEASURE("writev+readv", rounds, if (writev(ends[0], &part, 1) != 1 || readv(ends[1], &part, 1) != 1) return 1);
    MEASURE("setsockopt", rounds, setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &room, sizeof room));
    MEASURE("getsockopt", rounds, socklen_t length = sizeof room; getsockopt(ends[0], SOL_SOCKET, SO_TYPE, &room, &length));
    MEASURE("ioctl(FIONREAD)", rounds, ioctl(ends[0], FIONREAD, &room));
    fd_set readable;
    MEASURE("select", rounds, FD_ZERO(&readable); FD_SET(pipes[0], &readable); struct timeval now_ = {0};
            select(pipes[0] + 1, &readable, NULL, NULL, &now_));
    MEASURE("pselect", rounds, FD_ZERO(&readable); FD_SET(pipes[0], &readable);
            pselect(pipes[0] + 1, &readable, NULL, NULL, &none, NULL));
    MEASURE("ppoll", rounds, ppoll(&wait, 1, &none, NULL));
    MEASURE("sigtimedwait", rounds, sigtimedwait(&signals, NULL, &none));
    MEASURE("sigqueue+sigtimedwait", rounds, sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 1});
            sigtimedwait(&signals, NULL, &none));
    MEASURE("sigaltstack", rounds, stack_t stack; sigaltstack(NULL, &stack));
    MEASURE("prctl(PR_GET_NAME)", rounds, char name[16]; prctl(PR_GET_NAME, name));
    MEASURE("sched_getaffinity", rounds, cpu_set_t cpus; sched_getaffinity(0, sizeof cpus, &cpus));
    MEASURE("getpriority", rounds, getpriority(PRIO_PROCESS, 0));
    MEASURE("getrlimit", rounds, struct rlimit limit; getrlimit(RLIMIT_NOFILE, &limit));
    int timerfd = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec later = {.it_value = {3600, 0}};
    timer_t timer_id;
    if (timer_create(CLOCK_MONOTONIC, &no_event, &timer_id) != 0) return 1;
    MEASURE("timerfd_settime", rounds, timerfd_settime(timerfd, 0, &later, NULL));
    MEASURE("timer_settime", rounds, timer_settime(timer_id, 0, &later, NULL));
    MEASURE("getdents(/proc/self/task)", rounds / 100, DIR *tasks = opendir("/proc/self/task"); while (readdir(tasks)) continue;
            closedir(tasks));
    sem_t posted;
    sem_init(&posted, 0, 0);
    MEASURE("sem_post+wait", rounds, sem_post(&posted); sem_wait(&posted));
    pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    MEASURE("cond_signal", rounds, pthread_cond_signal(&condition));
    pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
    MEASURE("rwlock", rounds, pthread_rwlock_rdlock(&rwlock); pthread_rwlock_unlock(&rwlock));
    sigjmp_buf jump;
    MEASURE("sigsetjmp+siglongjmp", rounds, if (sigsetjmp(jump, 1) == 0) siglongjmp(jump, 1));
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    MEASURE("mutex", rounds, pthread_mutex_lock(&mutex); pthread_mutex_unlock(&mutex));
    MEASURE("pthread_create+join", rounds / 500, pthread_t thread; if (pthread_create(&thread, NULL, nothing, NULL)) return 1;
            pthread_join(thread, NULL));
    MEASURE("fork+exit+wait", rounds / 1000, pid_t child = fork(); if (child == 0) _exit(0); waitpid(child, NULL, 0));
    MEASURE("fork+exec+wait", rounds / 2000, pid_t child = fork();
            if (child == 0) execl(argv[0], argv[0], "nothing", NULL), _exit(1);
            waitpid(child, NULL, 0));
    char *const words[] = {argv[0], (char *)"nothing", NULL};
    MEASURE("posix_spawn+wait", rounds / 2000, pid_t child; if (posix_spawn(&child, argv[0], NULL, NULL, words, environ)) return 1;
            waitpid(child, NULL, 0));
    char start[32];
    snprintf(start, sizeof start, "%lld", (long long)now());
    fflush(stdout);
    execl(argv[0], argv[0], "exec", "200", start, NULL);
    return 1;
}
