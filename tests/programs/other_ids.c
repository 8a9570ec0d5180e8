/* Ids in calls that are about something else: scheduling, priorities, limits, memory of another process, owners of
 * descriptors, locks, peers of sockets, pidfds, System V IPC, timers for a thread, /proc; by name and by number; of a child, of
 * a thread, of the program itself; forks by vfork, clone and system call.
 *
 * Wrong would be: a call that does not find whom the program means, a result by which the program does not know whom it has.
 */
#include "program.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <linux/capability.h>
#include <linux/sched.h>

extern char **environ;
static sem_t started, finish_thread;
static pid_t worker_id;
static volatile sig_atomic_t timer_came_to;
static char secret[32] = "the parent's";
static const char *directory;

/* libc has them, and no header of its own does. */
int capget(cap_user_header_t header, cap_user_data_t data);

static void note_timer(int signal) {
    (void)signal;
    timer_came_to = gettid();
}

static void *work(void *argument) {
    worker_id = gettid();
    sem_post(&started);
    while (sem_wait(&finish_thread) != 0) continue;
    return argument;
}

static int pages[2], up[2];

/* The child answers to what its parent does to it; it ends when the pipe does. */
static void serve(void) {
    char byte;
    strcpy(secret, "the child's");
    close(pages[1]);
    if (write(up[1], "!", 1) != 1) _exit(1);
    while (read(pages[0], &byte, 1) == -1 && errno == EINTR) continue;
    _exit(6);
}

static void check_scheduling(pid_t child, pid_t thread) {
    pid_t all[] = {child, thread, getpid(), 0};
    for (int i = 0; i < 4; i++) {
        pid_t id = all[i];
        struct sched_param parameter = {0};
        struct timespec interval;
        cpu_set_t set;
        struct rlimit limit, same;
        CHECK(sched_getscheduler(id) == SCHED_OTHER && sched_getparam(id, &parameter) == 0, "scheduler of %d", i);
        CHECK(sched_setscheduler(id, SCHED_OTHER, &parameter) == 0 && sched_setparam(id, &parameter) == 0, "set scheduler of %d", i);
        CHECK(sched_rr_get_interval(id, &interval) == 0, "interval of %d", i);
        CHECK(sched_getaffinity(id, sizeof set, &set) == 0 && sched_setaffinity(id, sizeof set, &set) == 0, "affinity of %d", i);
        CHECK(syscall(SYS_sched_getscheduler, id) == SCHED_OTHER && syscall(SYS_sched_getaffinity, id, sizeof set, &set) > 0, "by number, %d", i);
        CHECK(prlimit(id, RLIMIT_NOFILE, NULL, &limit) == 0 && syscall(SYS_prlimit64, id, RLIMIT_NOFILE, NULL, &same) == 0, "prlimit of %d", i);
        errno = 0;
        int nice = getpriority(PRIO_PROCESS, id);
        CHECK(errno == 0 && syscall(SYS_getpriority, PRIO_PROCESS, id) == 20 - nice, "priority of %d", i);
        CHECK(setpriority(PRIO_PROCESS, id, nice) == 0, "set priority of %d", i);
        CHECK(syscall(SYS_ioprio_get, 1, id) >= 0, "ioprio of %d", i);
    }
    CHECK(setpriority(PRIO_PROCESS, child, getpriority(PRIO_PROCESS, child) + 1) == 0, "nicer child");
    CHECK(getpriority(PRIO_PROCESS, child) == getpriority(PRIO_PROCESS, 0) + 1, "the child alone is nicer");
    CHECK(setpriority(PRIO_PGRP, child, getpriority(PRIO_PGRP, child)) == 0, "its group");
    for (int i = 0; i < 2; i++) {
        struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, i ? thread : child};
        struct __user_cap_data_struct data[2], by_number[2];
        CHECK(capget(&header, data) == 0 && syscall(SYS_capget, &header, by_number) == 0, "capabilities of %d", i);
        CHECK(memcmp(data, by_number, sizeof data) == 0 && header.pid == (i ? thread : child), "the same capabilities of %d", i);
    }
    struct __user_cap_header_struct odd = {1, child};
    CHECK(capget(&odd, NULL) == 0 && odd.version == _LINUX_CAPABILITY_VERSION_3, "the kernel's version: %x", odd.version);
    clockid_t clock;
    struct timespec used = {-1, -1}, step = {-1, -1};
    CHECK(clock_getcpuclockid(child, &clock) == 0, "CPU clock of the child");
    CHECK(clock_gettime(clock, &used) == 0 && used.tv_sec >= 0 && clock_getres(clock, &step) == 0 && step.tv_sec == 0, "its time");
    void *head;
    size_t length;
    CHECK(syscall(SYS_get_robust_list, thread, &head, &length) == 0, "get_robust_list");
    long same = syscall(SYS_kcmp, getpid(), child, 0 /* KCMP_FILE */, 1, 1);
    CHECK(same == 0 || errno == EPERM || errno == ENOSYS, "kcmp");
    SAY("other ids: scheduling, priorities, limits");
}

static void check_memory(pid_t child) {
    char seen[32] = {0};
    struct iovec own = {seen, sizeof seen}, theirs = {secret, sizeof secret};
    CHECK(process_vm_readv(child, &own, 1, &theirs, 1, 0) == sizeof seen && strcmp(seen, "the child's") == 0, "its memory: %s", seen);
    strcpy(seen, "told by me");
    CHECK(process_vm_writev(child, &own, 1, &theirs, 1, 0) == sizeof seen, "write to its memory");
    memset(seen, 0, sizeof seen);
    CHECK(syscall(SYS_process_vm_readv, child, &own, 1, &theirs, 1, 0) == sizeof seen && strcmp(seen, "told by me") == 0, "by number");
    strcpy(seen, "the child's");
    CHECK(process_vm_writev(child, &own, 1, &theirs, 1, 0) == sizeof seen && strcmp(secret, "the parent's") == 0, "back");
    SAY("other ids: memory");
}

static void check_owners(pid_t child, pid_t thread) {
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0, "socketpair");
    CHECK(fcntl(ends[0], F_SETOWN, child) == 0 && fcntl(ends[0], F_GETOWN) == child, "F_SETOWN");
    int owner = 0;
    CHECK(ioctl(ends[0], FIOGETOWN, &owner) == 0 && owner == child, "FIOGETOWN: %d", owner);
    CHECK(fcntl(ends[0], F_SETOWN, -child) == 0 && fcntl(ends[0], F_GETOWN) == -child, "F_SETOWN, group: %d", fcntl(ends[0], F_GETOWN));
    owner = getpid();
    CHECK(ioctl(ends[0], FIOSETOWN, &owner) == 0 && fcntl(ends[0], F_GETOWN) == getpid(), "FIOSETOWN");
    struct f_owner_ex ex = {F_OWNER_TID, thread};
    CHECK(fcntl(ends[0], F_SETOWN_EX, &ex) == 0, "F_SETOWN_EX");
    ex.pid = 0;
    CHECK(fcntl(ends[0], F_GETOWN_EX, &ex) == 0 && ex.type == F_OWNER_TID && ex.pid == thread, "F_GETOWN_EX: %d", ex.pid);
    ex = (struct f_owner_ex){F_OWNER_PGRP, child};
    CHECK(syscall(SYS_fcntl, ends[0], F_SETOWN_EX, &ex) == 0 && fcntl(ends[0], F_GETOWN_EX, &ex) == 0 && ex.pid == child, "a group");
    int file = open(in(directory, "locked"), O_RDWR | O_CREAT, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
    CHECK(file >= 0 && fcntl(file, F_SETLK, &lock) == 0, "F_SETLK");
    pid_t parent = getpid(), asks = fork();
    if (asks == 0) {
        struct flock found = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
        _exit(fcntl(file, F_GETLK, &found) == 0 && found.l_type == F_WRLCK && found.l_pid == parent ? 0 : 1);
    }
    int status;
    CHECK(waitpid(asks, &status, 0) == asks && status == 0, "F_GETLK");
    struct ucred peer;
    socklen_t length = sizeof peer;
    CHECK(getsockopt(ends[0], SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == getpid(), "SO_PEERCRED: %d", peer.pid);
    int one = 1;
    CHECK(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0, "SO_PASSCRED");
    pid_t sends = fork();
    if (sends == 0) {
        union {
            char bytes[CMSG_SPACE(sizeof(struct ucred))];
            struct cmsghdr head;
        } control = {0};
        char byte = 'x';
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        struct ucred self = {getpid(), getuid(), getgid()};
        control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof self), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS};
        memcpy(CMSG_DATA(&control.head), &self, sizeof self);
        _exit(sendmsg(ends[0], &message, 0) == 1 && send(ends[0], "y", 1, 0) == 1 ? 0 : 1);
    }
    for (int i = 0; i < 2; i++) {
        union {
            char bytes[CMSG_SPACE(sizeof(struct ucred))];
            struct cmsghdr head;
        } control = {0};
        char byte;
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        CHECK(recvmsg(ends[1], &message, 0) == 1 && control.head.cmsg_type == SCM_CREDENTIALS, "recvmsg");
        memcpy(&peer, CMSG_DATA(&control.head), sizeof peer);
        CHECK(peer.pid == sends, "SCM_CREDENTIALS: %d instead of %d", peer.pid, sends);
    }
    CHECK(waitpid(sends, &status, 0) == sends && status == 0, "sendmsg with credentials");
    close(ends[0]), close(ends[1]), close(file);
    SAY("other ids: owners, locks, peers");
}

static void check_pidfd(pid_t child) {
    int fd = (int)syscall(SYS_pidfd_open, child, 0);
    CHECK(fd >= 0, "pidfd_open");
    CHECK(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) == 0, "pidfd_send_signal");
    close(fd);
    pid_t ends = fork();
    if (ends == 0) _exit(8);
    fd = (int)syscall(SYS_pidfd_open, ends, 0);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    CHECK(fd >= 0 && waitid((idtype_t)3 /* P_PIDFD */, fd, &info, WEXITED) == 0 && info.si_pid == ends && info.si_status == 8, "waitid of a pidfd: %d", info.si_pid);
    close(fd);
    SAY("other ids: pidfds");
}

static void check_system_v(void) {
    int memory = shmget(IPC_PRIVATE, 4096, 0600), queue = msgget(IPC_PRIVATE, 0600), set = semget(IPC_PRIVATE, 1, 0600);
    CHECK(memory >= 0 && queue >= 0 && set >= 0, "System V objects");
    pid_t uses = fork();
    if (uses == 0) {
        struct {
            long type;
            char text[4];
        } message = {1, "abc"};
        struct sembuf up = {0, 1, 0};
        void *at = shmat(memory, NULL, 0);
        _exit(at != (void *)-1 && shmdt(at) == 0 && msgsnd(queue, &message, 4, 0) == 0 && semop(set, &up, 1) == 0 ? 0 : 1);
    }
    int status;
    CHECK(waitpid(uses, &status, 0) == uses && status == 0, "their use");
    struct shmid_ds shm;
    struct msqid_ds msg;
    CHECK(shmctl(memory, IPC_STAT, &shm) == 0 && shm.shm_cpid == getpid() && shm.shm_lpid == uses, "shmctl: %d, %d", shm.shm_cpid, shm.shm_lpid);
    CHECK(msgctl(queue, IPC_STAT, &msg) == 0 && msg.msg_lspid == uses && msg.msg_lrpid == 0, "msgctl: %d", msg.msg_lspid);
    CHECK(semctl(set, 0, GETPID) == uses && syscall(SYS_semctl, set, 0, GETPID, 0) == uses, "semctl");
    shmctl(memory, IPC_RMID, NULL), msgctl(queue, IPC_RMID, NULL), semctl(set, 0, IPC_RMID);
    SAY("other ids: System V");
}

static void check_timer(pid_t thread) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGRTMIN;
    event._sigev_un._tid = thread;
    struct itimerspec soon = {{0, 0}, {0, 1000000}};
    timer_t timer;
    timer_came_to = 0;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &soon, NULL) == 0, "timer_create");
    while (timer_came_to == 0) usleep(500);
    CHECK(timer_came_to == thread && timer_delete(timer) == 0, "a timer for a thread");
    SAY("other ids: a timer");
}

static void check_paths(pid_t child, pid_t thread) {
    char path[64], text[4096], link[4096], own[4096];
    struct stat status;
    ssize_t length;
    snprintf(path, sizeof path, "/proc/%d/comm", child);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL && fgets(text, sizeof text, file) != NULL && fclose(file) == 0, "comm of the child");
    snprintf(path, sizeof path, "/proc/%d", child);
    CHECK(access(path, F_OK) == 0 && stat(path, &status) == 0 && S_ISDIR(status.st_mode), "its directory");
    DIR *entries = opendir(path);
    CHECK(entries != NULL && readdir(entries) != NULL && closedir(entries) == 0, "opendir");
    snprintf(path, sizeof path, "/proc/%d/exe", child);
    CHECK((length = readlink(path, link, sizeof link)) > 0, "readlink");
    CHECK(readlinkat(AT_FDCWD, path, link, sizeof link) == length && syscall(SYS_readlink, path, link, sizeof link) == length, "readlinkat");
    CHECK(readlink("/proc/self/exe", own, sizeof own) == length && memcmp(own, link, length) == 0, "the same program");
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", getpid(), thread);
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, sizeof text) > 0 && close(fd) == 0, "stat of the thread");
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", thread);
    fd = openat(AT_FDCWD, path, O_RDWR);
    CHECK(fd >= 0 && write(fd, "renamed", 7) == 7 && close(fd) == 0, "comm of the thread");
    snprintf(path, sizeof path, "/proc/%d/cwd/locked", child);
    CHECK(fstatat(AT_FDCWD, path, &status, 0) == 0 && S_ISREG(status.st_mode), "a file in its directory");
    snprintf(path, sizeof path, "/proc/%d/none", child);
    CHECK(open(path, O_RDONLY) == -1 && errno == ENOENT, "no such file");
    CHECK(open("/proc/uptime", O_RDONLY) >= 0 && access("/proc/4444444", F_OK) == -1, "other files");
    SAY("other ids: paths");
}

static int cloned(void *argument) { return getppid() == *(pid_t *)argument ? 21 : 22; }

static void expect_end(pid_t child, int status, const char *what) {
    int found;
    CHECK(child > 0 && waitpid(child, &found, 0) == child && WIFEXITED(found) && WEXITSTATUS(found) == status, "%s: %d, %x", what, child, found);
}

static void check_forks(void) {
    pid_t parent = getpid(), child = vfork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", "exit 20", NULL);
        _exit(1);
    }
    expect_end(child, 20, "vfork");
    child = vfork();
    if (child == 0) _exit(19);
    expect_end(child, 19, "vfork and end");
    static char stack[65536] __attribute__((aligned(16)));
    expect_end(clone(cloned, stack + sizeof stack, SIGCHLD, &parent), 21, "clone");
    pid_t known = 0, *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    child = (pid_t)syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, 0, &known, NULL, 0);
    if (child == 0) {
        *own = getpid();
        _exit(getppid() == parent ? 23 : 24);
    }
    expect_end(child, 23, "SYS_clone");
    CHECK(known == child && *own == child, "the words of SYS_clone: %d, %d, %d", known, *own, child);
    struct clone_args arguments = {.flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, .exit_signal = SIGCHLD, .parent_tid = (uintptr_t)&known, .child_tid = (uintptr_t)(own + 1)};
    known = own[1] = 0;
    child = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child == 0) _exit(own[1] == getpid() && syscall(SYS_getppid) == parent ? 25 : 26);
    CHECK(child > 0 || errno == ENOSYS || errno == EPERM, "SYS_clone3");
    if (child > 0) {
        expect_end(child, 25, "SYS_clone3");
        CHECK(known == child && own[1] == child, "the words of SYS_clone3");
    }
    child = (pid_t)syscall(SYS_fork);
    if (child == 0) _exit(kill(getpid(), 0) == 0 && getppid() == parent ? 27 : 28);
    expect_end(child, 27, "SYS_fork");
    child = _Fork();
    if (child == 0) _exit(getppid() == parent ? 29 : 30);
    expect_end(child, 29, "_Fork");
    char *words[] = {"sh", "-c", "exit 31", NULL};
    CHECK(posix_spawn(&child, "/bin/sh", NULL, NULL, words, environ) == 0, "posix_spawn");
    expect_end(child, 31, "posix_spawn");
    char script[100];
    snprintf(script, sizeof script, "test $PPID = %d || exit 1; sh -c 'test $PPID = '$$ && kill -0 %d", parent, parent);
    CHECK(system(script) == 0, "what a shell knows");
    SAY("other ids: forks");
}

int main(int argc, char **argv) {
    MAKE(argc == 2 && chdir(argv[1]) == 0);
    directory = argv[1];
    pthread_t worker;
    signal(SIGRTMIN, note_timer);
    MAKE(sem_init(&started, 0, 0) == 0 && sem_init(&finish_thread, 0, 0) == 0 && pipe(pages) == 0 && pipe(up) == 0);
    MAKE(pthread_create(&worker, NULL, work, NULL) == 0 && sem_wait(&started) == 0);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        setpgid(0, 0);
        serve();
    }
    setpgid(child, child);
    close(pages[0]);
    char byte;
    MAKE(read(up[0], &byte, 1) == 1);

    ready();

    check_scheduling(child, worker_id);
    check_memory(child);
    check_owners(child, worker_id);
    check_pidfd(child);
    check_system_v();
    check_timer(worker_id);
    check_paths(child, worker_id);
    check_forks();
    CHECK(close(pages[1]) == 0, "close");
    expect_end(child, 6, "the child");
    sem_post(&finish_thread);
    CHECK(pthread_join(worker, NULL) == 0, "join");
    return finish(7);
}
