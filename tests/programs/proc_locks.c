/* /proc/locks: own locks, a child's, and one that it waits for, under the ids that the program knows.
 *
 * Wrong would be: the kernel's ids after a restart; a lock of somebody outside of the pod, who does not exist for it.
 */
#include "program.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

static int under_zap(void) {
    char line[4096];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    MAKE(maps != NULL);
    while (fgets(line, sizeof line, maps)) found |= strstr(line, "libzap.so") != NULL;
    fclose(maps);
    return found;
}

/* How many locks of the kind on the file a process has, or waits for. */
static int count(FILE *locks, const char *kind, ino_t inode, pid_t holder, int waits) {
    char line[256], all[4096] = "";
    int found = 0, alone = under_zap();
    while (fgets(line, sizeof line, locks)) {
        strncat(all, line, sizeof all - strlen(all) - 1);
        char *arrow = strstr(line, "-> "), *text = arrow ? arrow + 3 : strchr(line, ' ') + 1;
        char what[16];
        int pid;
        unsigned long number;
        CHECK(sscanf(text, "%15s %*s %*s %d %*x:%*x:%lu", what, &pid, &number) == 3, "a line of /proc/locks: %s", line);
        CHECK(!alone || pid <= 0 || kill(pid, 0) == 0, "process %d, which is not there, has a lock: %s", pid, line);
        found += strcmp(what, kind) == 0 && pid == holder && number == inode && waits == (arrow != NULL);
    }
    if (found != 1) fprintf(stderr, "no %s lock of %d on %lu in:\n%s", kind, holder, inode, all);
    return found;
}

/* Whether there is one such lock. What the kernel tells in two reads is of two moments: a lock of others that came or went between them
 * shows the last line twice, or hides one. */
static int is_one(int by_open, const char *kind, ino_t inode, pid_t holder, int waits) {
    int found = 0;
    for (int round = 0; found != 1 && round < 20; round++) {
        int fd = by_open ? open("/proc/locks", O_RDONLY | O_CLOEXEC) : -1;
        FILE *locks = by_open ? fdopen(fd, "r") : fopen("/proc/locks", "r");
        CHECK(locks != NULL, "/proc/locks");
        found = count(locks, kind, inode, holder, waits);
        fclose(locks);
    }
    return found == 1;
}

static void check(ino_t records, ino_t flocked, pid_t child) {
    CHECK(is_one(0, "POSIX", records, getpid(), 0), "the own lock");
    CHECK(is_one(0, "FLOCK", flocked, child, 0), "the child's lock");
    CHECK(is_one(0, "POSIX", records, child, 1), "what the child waits for");
    CHECK(is_one(1, "POSIX", records, getpid(), 0), "the own lock, by open");
}

int main(int argc, char **argv) {
    MAKE(argc == 2);
    int records = open(in(argv[1], "records"), O_RDWR | O_CREAT, 0600);
    int flocked = open(in(argv[1], "flocked"), O_RDWR | O_CREAT, 0600), ends[2];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
    struct stat one, other;
    MAKE(records >= 0 && flocked >= 0 && fcntl(records, F_SETLK, &lock) == 0 && pipe(ends) == 0);
    MAKE(fstat(records, &one) == 0 && fstat(flocked, &other) == 0);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        int own = open(in(argv[1], "flocked"), O_RDWR);
        MAKE(flock(own, LOCK_EX) == 0 && write(ends[1], "x", 1) == 1);
        CHECK(fcntl(records, F_SETLKW, &lock) == 0, "the child gets the lock");
        _exit(5);
    }
    char word;
    MAKE(read(ends[0], &word, 1) == 1);
    usleep(20000);

    ready();

    /* The child may be about to wait again. */
    usleep(50000);
    check(one.st_ino, other.st_ino, child);
    SAY("locks: own, a child's, one that is waited for");
    int status;
    lock.l_type = F_UNLCK;
    CHECK(fcntl(records, F_SETLK, &lock) == 0 && waitpid(child, &status, 0) == child, "the child");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5, "the child: %x", status);
    SAY("locks: the child had it then");
    return finish(7);
}
