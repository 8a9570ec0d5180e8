/* /proc by the program's ids: listings by every function, what stands in stat and status, links, threads; and that nobody
 * else is there.
 *
 * Wrong would be: the number of another host, a process that is none of the pod's, or one of the pod that is not there.
 */
#include "program.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/capability.h>

static sem_t started, finish_thread;
static pid_t worker_id, child, grandchild;
static int is_alone;

static void *work(void *argument) {
    worker_id = gettid();
    sem_post(&started);
    while (sem_wait(&finish_thread) != 0) continue;
    return argument;
}

/* Whether the pod is all that there is: not in a run without Zap. */
static int under_zap(void) {
    char line[4096];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    MAKE(maps != NULL);
    while (fgets(line, sizeof line, maps)) found |= strstr(line, "libzap.so") != NULL;
    fclose(maps);
    return found;
}

struct seen {
    int count, own, child, grandchild, worker, self, cpuinfo;
};

static void see(struct seen *seen, const char *name) {
    char *end;
    long id = strtol(name, &end, 10);
    if (*end == 0) {
        seen->count++;
        seen->own += id == getpid();
        seen->child += id == child;
        seen->grandchild += id == grandchild;
        seen->worker += id == worker_id;
    }
    seen->self += strcmp(name, "self") == 0;
    seen->cpuinfo += strcmp(name, "cpuinfo") == 0;
}

static void check_processes(struct seen seen, const char *how) {
    CHECK(seen.own == 1 && seen.child == 1 && seen.grandchild == 1 && seen.worker == 0, "/proc by %s: %d, %d, %d, %d", how, seen.own, seen.child, seen.grandchild, seen.worker);
    CHECK(seen.self == 1 && seen.cpuinfo == 1, "other names in /proc by %s", how);
    CHECK(!is_alone || seen.count == 3, "/proc by %s has %d processes", how, seen.count);
}

static void check_listings(void) {
    struct dirent *entry, **list, room, *next;
    struct seen seen = {0};
    DIR *all = opendir("/proc");
    CHECK(all != NULL, "opendir");
    while ((entry = readdir(all)) != NULL) see(&seen, entry->d_name);
    check_processes(seen, "readdir");
    rewinddir(all);
    memset(&seen, 0, sizeof seen);
    struct dirent64 *large;
    while ((large = readdir64(all)) != NULL) see(&seen, large->d_name);
    check_processes(seen, "readdir64");
    rewinddir(all);
    memset(&seen, 0, sizeof seen);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    while (readdir_r(all, &room, &next) == 0 && next != NULL) see(&seen, room.d_name);
#pragma GCC diagnostic pop
    check_processes(seen, "readdir_r");
    closedir(all);
    memset(&seen, 0, sizeof seen);
    int count = scandir("/proc", &list, NULL, alphasort);
    CHECK(count > 5, "scandir");
    for (int i = 0; i < count; i++) {
        see(&seen, list[i]->d_name);
        CHECK(i == 0 || strcmp(list[i - 1]->d_name, list[i]->d_name) <= 0, "the order of scandir");
    }
    for (int i = 0; i < count; i++) free(list[i]);
    free(list);
    check_processes(seen, "scandir");
    for (int by_number = 0; by_number < 2; by_number++) {
        /* Little room, so that it takes many calls. */
        char buffer[200];
        long length;
        int directory = open("/proc", O_RDONLY | O_DIRECTORY);
        memset(&seen, 0, sizeof seen);
        while ((length = by_number ? syscall(SYS_getdents64, directory, buffer, sizeof buffer) : getdents64(directory, buffer, sizeof buffer)) > 0)
            for (long at = 0; at < length; at += ((struct dirent64 *)(buffer + at))->d_reclen) see(&seen, ((struct dirent64 *)(buffer + at))->d_name);
        CHECK(length == 0, "getdents64");
        close(directory);
        check_processes(seen, by_number ? "SYS_getdents64" : "getdents64");
    }
    SAY("proc: listings");
}

static void check_threads(void) {
    char path[64];
    struct dirent *entry;
    for (int by_id = 0; by_id < 2; by_id++) {
        struct seen seen = {0};
        snprintf(path, sizeof path, by_id ? "/proc/%d/task" : "/proc/self/task", getpid());
        DIR *all = opendir(path);
        while ((entry = readdir(all)) != NULL) see(&seen, entry->d_name);
        closedir(all);
        CHECK(seen.count == 2 && seen.own == 1 && seen.worker == 1, "%s: %d, %d, %d", path, seen.count, seen.own, seen.worker);
    }
    struct seen seen = {0};
    snprintf(path, sizeof path, "/proc/%d/task", child);
    int directory = open(path, O_RDONLY | O_DIRECTORY);
    DIR *all = fdopendir(directory);
    while ((entry = readdir(all)) != NULL) see(&seen, entry->d_name);
    CHECK(seen.count == 1 && seen.child == 1, "threads of the child: %d, %d", seen.count, seen.child);
    char name[32];
    struct stat status;
    snprintf(name, sizeof name, "%d", child);
    CHECK(fstatat(directory, name, &status, 0) == 0 && S_ISDIR(status.st_mode), "its thread by a descriptor");
    closedir(all);
    SAY("proc: threads");
}

/* The text of a file, by one of several ways to open it. */
static const char *text_of(const char *path, int way) {
    static char text[8192];
    ssize_t length;
    if (way == 0) {
        FILE *file = fopen(path, "re");
        CHECK(file != NULL, "fopen of %s", path);
        length = (ssize_t)fread(text, 1, sizeof text - 1, file);
        fclose(file);
    } else {
        int expected = dup(0);
        close(expected);
        int fd = way == 1 ? open(path, O_RDONLY | O_CLOEXEC) : way == 2 ? openat(AT_FDCWD, path, O_RDONLY) : (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
        CHECK(fd == expected, "open of %s: %d instead of %d", path, fd, expected);
        CHECK(fcntl(fd, F_GETFD) == (way == 1 ? FD_CLOEXEC : 0) && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY, "flags of %s", path);
        length = read(fd, text, sizeof text - 1);
        char again[8];
        CHECK(pread(fd, again, 4, 0) == 4 && memcmp(again, text, 4) == 0, "pread of %s", path);
        CHECK(write(fd, "x", 1) == -1, "%s can be written to", path);
        close(fd);
    }
    CHECK(length > 0, "%s is empty", path);
    text[length] = 0;
    return text;
}

static long line_of(const char *text, const char *key) {
    const char *line = strstr(text, key);
    CHECK(line != NULL && (line == text || line[-1] == '\n'), "no %s", key);
    return strtol(line + strlen(key), NULL, 10);
}

/* `name` is what stands in /proc for it, and perhaps for a thread of it. */
static void check_texts(const char *name, pid_t id, pid_t process, pid_t parent, pid_t group, pid_t session) {
    char path[80];
    for (int way = 0; way < 4; way++) {
        long seen[5];
        char comm[32], state;
        snprintf(path, sizeof path, "/proc/%s/stat", name);
        CHECK(sscanf(text_of(path, way), "%ld (%31[^)]) %c %ld %ld %ld", &seen[0], comm, &state, &seen[1], &seen[2], &seen[3]) == 6, "%s", path);
        CHECK(seen[0] == id && seen[1] == parent, "%s: %ld, parent %ld instead of %d, %d", path, seen[0], seen[1], id, parent);
        CHECK(seen[2] == group && seen[3] == session, "%s: group %ld, session %ld instead of %d, %d", path, seen[2], seen[3], group, session);
        snprintf(path, sizeof path, "/proc/%s/status", name);
        const char *text = text_of(path, way);
        CHECK(line_of(text, "Pid:") == id && line_of(text, "Tgid:") == process, "%s: %ld, %ld", path, line_of(text, "Pid:"), line_of(text, "Tgid:"));
        CHECK(line_of(text, "PPid:") == parent && line_of(text, "TracerPid:") == 0, "%s: parent %ld", path, line_of(text, "PPid:"));
        CHECK(line_of(text, "NSpid:") == id && line_of(text, "NStgid:") == process, "%s: NSpid %ld", path, line_of(text, "NSpid:"));
        CHECK(line_of(text, "NSpgid:") == group && line_of(text, "NSsid:") == session, "%s: NSpgid %ld", path, line_of(text, "NSpgid:"));
        CHECK(strstr(text, "Threads:") != NULL && strstr(text, "SigBlk:") != NULL, "%s: the rest", path);
    }
}

static void check_contents(void) {
    char name[64];
    check_texts("self", getpid(), getpid(), getppid(), getpgrp(), getsid(0));
    check_texts("thread-self", getpid(), getpid(), getppid(), getpgrp(), getsid(0));
    snprintf(name, sizeof name, "%d", getpid());
    check_texts(name, getpid(), getpid(), getppid(), getpgrp(), getsid(0));
    snprintf(name, sizeof name, "self/task/%d", worker_id);
    check_texts(name, worker_id, getpid(), getppid(), getpgrp(), getsid(0));
    snprintf(name, sizeof name, "%d", child);
    check_texts(name, child, child, getpid(), child, getsid(child));
    snprintf(name, sizeof name, "%d/task/%d", child, child);
    check_texts(name, child, child, getpid(), child, getsid(child));
    snprintf(name, sizeof name, "%d", grandchild);
    check_texts(name, grandchild, grandchild, child, grandchild, grandchild);
    SAY("proc: contents");
}

static void check_links(void) {
    char link[128], expected[128], path[64];
    ssize_t length = readlink("/proc/self", link, sizeof link);
    snprintf(expected, sizeof expected, "%d", getpid());
    CHECK(length == (ssize_t)strlen(expected) && memcmp(link, expected, (size_t)length) == 0, "/proc/self is %.*s", (int)length, link);
    CHECK(readlinkat(AT_FDCWD, "/proc/self", link, 1) == 1 && link[0] == expected[0], "a short buffer");
    length = readlink("/proc/thread-self", link, sizeof link);
    snprintf(expected, sizeof expected, "%d/task/%d", getpid(), gettid());
    CHECK(length == (ssize_t)strlen(expected) && memcmp(link, expected, (size_t)length) == 0, "/proc/thread-self is %.*s", (int)length, link);
    snprintf(expected, sizeof expected, "/proc/%d/task/%d/fd", child, child);
    int fd = open(expected, O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0, "%s", expected);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    length = readlink(path, link, sizeof link);
    CHECK(length == (ssize_t)strlen(expected) && memcmp(link, expected, (size_t)length) == 0, "%s is %.*s", path, (int)length, link);
    close(fd);
    int root = open("/proc", O_RDONLY | O_DIRECTORY);
    snprintf(path, sizeof path, "%d/comm", child);
    fd = openat(root, path, O_RDONLY);
    CHECK(fd >= 0 && read(fd, link, sizeof link) > 0, "by a descriptor of /proc");
    close(fd), close(root);
    int here = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(chdir("/proc") == 0 && access(path, R_OK) == 0 && fchdir(here) == 0, "in /proc as working directory");
    close(here);
    SAY("proc: links and relative paths");
}

/* Somebody who lives and is none of the pod's. */
int capget(cap_user_header_t header, cap_user_data_t data);

static void check_masked(pid_t stranger) {
    char path[64];
    struct stat status;
    snprintf(path, sizeof path, "/proc/%d", stranger);
    CHECK(stat(path, &status) == -1 && errno == ENOENT, "stat of %s", path);
    CHECK(access(path, F_OK) == -1 && errno == ENOENT, "access of %s", path);
    CHECK(opendir(path) == NULL && errno == ENOENT, "opendir of %s", path);
    CHECK(chdir(path) == -1 && errno == ENOENT, "chdir to %s", path);
    CHECK(syscall(SYS_newfstatat, AT_FDCWD, path, &status, 0) == -1 && errno == ENOENT, "SYS_newfstatat of %s", path);
    snprintf(path, sizeof path, "//proc/%d/stat" + 1, stranger);
    int next = dup(0);
    close(next);
    CHECK(open(path, O_RDONLY) == -1 && errno == ENOENT && fopen(path, "r") == NULL && errno == ENOENT, "open of %s", path);
    CHECK(syscall(SYS_open, path, O_RDONLY) == -1 && errno == ENOENT, "SYS_open of %s", path);
    int again = dup(0);
    close(again);
    CHECK(next == again, "a descriptor is left");
    snprintf(path, sizeof path, "/proc/%d/environ", stranger);
    CHECK(open(path, O_RDONLY) == -1 && errno == ENOENT, "open of %s", path);
    CHECK(kill(stranger, SIGCONT) == -1 && errno == ESRCH, "kill");
    CHECK(killpg(stranger, 0) == -1 && errno == ESRCH, "killpg");
    CHECK(syscall(SYS_kill, stranger, 0) == -1 && errno == ESRCH, "SYS_kill");
    CHECK(syscall(SYS_tkill, stranger, 0) == -1 && errno == ESRCH, "SYS_tkill");
    CHECK(sigqueue(stranger, 0, (union sigval){0}) == -1 && errno == ESRCH, "sigqueue");
    CHECK(getpgid(stranger) == -1 && errno == ESRCH && getsid(stranger) == -1 && errno == ESRCH, "getpgid and getsid");
    CHECK(sched_getscheduler(stranger) == -1 && errno == ESRCH, "sched_getscheduler");
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, stranger};
    struct __user_cap_data_struct data[2];
    CHECK(syscall(SYS_capget, &header, data) == -1 && errno == ESRCH, "capget by number");
    CHECK(capget(&header, data) == -1 && errno == ESRCH, "capget");
    CHECK(syscall(SYS_pidfd_open, stranger, 0) == -1 && (errno == ESRCH || errno == ENOSYS || errno == EPERM), "pidfd_open");
}

static int stop[2];

static void await_end(void) {
    char byte;
    close(stop[1]);
    while (read(stop[0], &byte, 1) == -1 && errno == EINTR) continue;
}

int main(void) {
    int up[2];
    pthread_t worker;
    MAKE(sem_init(&started, 0, 0) == 0 && sem_init(&finish_thread, 0, 0) == 0 && pipe(stop) == 0 && pipe(up) == 0);
    child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        setpgid(0, 0);
        pid_t own = fork();
        if (own == 0) {
            setsid();
            own = getpid();
            MAKE(write(up[1], &own, sizeof own) == sizeof own);
            await_end();
            _exit(0);
        }
        await_end();
        int status;
        _exit(waitpid(own, &status, 0) == own && status == 0 ? 5 : 1);
    }
    close(stop[0]);
    MAKE(read(up[0], &grandchild, sizeof grandchild) == sizeof grandchild);
    while (getpgid(child) != child) usleep(500);
    MAKE(pthread_create(&worker, NULL, work, NULL) == 0 && sem_wait(&started) == 0);
    /* One that is half read, and goes on. */
    char early[64], late[64];
    int kept = open("/proc/self/status", O_RDONLY);
    MAKE(kept >= 0 && read(kept, early, 5) == 5 && memcmp(early, "Name:", 5) == 0);
    pid_t parent = getppid();
    int alone_before = under_zap();

    ready();

    is_alone = under_zap();
    CHECK(is_alone == alone_before && getppid() == parent, "the parent");
    CHECK(read(kept, late, 10) == 10 && memcmp(late, "\tproc_ids\n", 10) == 0, "what is half read: %.10s", late);
    close(kept);
    check_listings();
    check_threads();
    check_contents();
    check_links();
    CHECK(kill(parent, 0) == 0 || errno == EPERM, "the parent lives");
    if (is_alone) {
        if (parent != 1) check_masked(1);
        check_masked(2147483);
    }
    SAY("proc: others are not there");
    int status;
    CHECK(close(stop[1]) == 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5, "the child: %x", status);
    sem_post(&finish_thread);
    CHECK(pthread_join(worker, NULL) == 0, "join");
    return finish(7);
}
