/* Locks on files: fcntl's record locks, open file description locks, flock.
 *
 * Wrong would be: a lock that is gone, so that another process gets it (a database that two processes now write); a
 * record lock lost because something opened the file and closed it again in this process, which drops them all; a lock
 * that belongs to a process that is no more, so that nobody ever gets it.
 */
#include "program.h"

#include <sys/file.h>
#include <sys/wait.h>

static struct flock range(short type, off_t start, off_t length) {
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = start;
    lock.l_len = length;
    return lock;
}

static char outcome(int result) { return result == 0 ? '+' : errno == EAGAIN || errno == EACCES ? '-' : '?'; }

static char flock_outcome(const char *path, int operation) {
    int file = open(path, O_RDWR);
    char letter = outcome(flock(file, operation | LOCK_NB));
    close(file);
    return letter;
}

/* What another process sees. Each letter is an attempt that it makes: '+' granted, '-' refused, '?' another error. */
static const char *seen_by_another_process(const char *directory, int inherited_open_file, int inherited_flock) {
    static char result[64];
    int ends[2];
    memset(result, 0, sizeof result);
    CHECK(pipe(ends) == 0, "pipe");
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        char answer[64];
        int count = 0;
        int records = open(in(directory, "records"), O_RDWR);
        static const struct {
            short type;
            off_t start, length;
        } attempts[] = {
            {F_WRLCK, 10, 5}, {F_RDLCK, 10, 5},  {F_WRLCK, 14, 10},     {F_WRLCK, 0, 10},
            {F_RDLCK, 100, 1}, {F_WRLCK, 100, 1}, {F_WRLCK, 3 << 20, 1}, {F_WRLCK, 50, 1},
        };
        for (unsigned i = 0; i < sizeof attempts / sizeof *attempts; i++) {
            struct flock lock = range(attempts[i].type, attempts[i].start, attempts[i].length);
            answer[count++] = outcome(fcntl(records, F_SETLK, &lock));
        }
        answer[count++] = ' ';
        struct flock lock = range(F_WRLCK, 0, 4);
        int file = open(in(directory, "described"), O_RDWR);
        answer[count++] = outcome(fcntl(file, F_OFD_SETLK, &lock));
        close(file);
        lock = range(F_WRLCK, 0, 4);
        answer[count++] = outcome(fcntl(inherited_open_file, F_OFD_SETLK, &lock));
        answer[count++] = ' ';
        answer[count++] = flock_outcome(in(directory, "exclusive"), LOCK_SH);
        answer[count++] = flock_outcome(in(directory, "shared"), LOCK_SH);
        answer[count++] = flock_outcome(in(directory, "shared"), LOCK_EX);
        answer[count++] = outcome(flock(inherited_flock, LOCK_EX | LOCK_NB));
        ssize_t written = write(ends[1], answer, count);
        _exit(written == count ? 0 : 1);
    }
    close(ends[1]);
    CHECK(read(ends[0], result, sizeof result - 1) > 0, "the other process answers");
    close(ends[0]);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the other process ends well");
    return result;
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: file_locks DIRECTORY");
    const char *directory = argv[1];

    /* 10 to 19 and everything from 1 MiB on, however long the file grows, for writing; 100 to 199 for reading. */
    int records = open(in(directory, "records"), O_RDWR | O_CREAT, 0600);
    MAKE(records >= 0 && ftruncate(records, 2 << 20) == 0);
    struct flock lock = range(F_WRLCK, 10, 10);
    MAKE(fcntl(records, F_SETLK, &lock) == 0);
    lock = range(F_RDLCK, 100, 100);
    MAKE(fcntl(records, F_SETLK, &lock) == 0);
    lock = range(F_WRLCK, 1 << 20, 0);
    MAKE(fcntl(records, F_SETLK, &lock) == 0);

    int described = open(in(directory, "described"), O_RDWR | O_CREAT, 0600);
    lock = range(F_WRLCK, 0, 4);
    MAKE(described >= 0 && fcntl(described, F_OFD_SETLK, &lock) == 0);
    int exclusive = open(in(directory, "exclusive"), O_RDWR | O_CREAT, 0600);
    MAKE(exclusive >= 0 && flock(exclusive, LOCK_EX) == 0);
    int exclusive_copy = dup(exclusive);
    int shared = open(in(directory, "shared"), O_RDWR | O_CREAT, 0600);
    MAKE(exclusive_copy >= 0 && shared >= 0 && flock(shared, LOCK_SH) == 0);

    char before[64];
    snprintf(before, sizeof before, "%s", seen_by_another_process(directory, described, exclusive_copy));
    MAKE(strcmp(before, "---++--+ -+ -+-+") == 0);

    ready();

    const char *after = seen_by_another_process(directory, described, exclusive_copy);
    CHECK(strcmp(after, before) == 0, "another process gets \"%s\", was \"%s\"", after, before);
    SAY("file locks: another process gets %s", after);

    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        lock = range(F_WRLCK, 0, 0);
        _exit(fcntl(records, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_start == 10 &&
                      lock.l_len == 10 && lock.l_pid > 0
                  ? 0
                  : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "F_GETLK names the range");
    SAY("file locks: F_GETLK names the range");

    lock = range(F_WRLCK, 0, 4);
    errno = 0;
    CHECK(fcntl(open(in(directory, "described"), O_RDWR), F_OFD_SETLK, &lock) == -1 && errno == EAGAIN,
          "another open of the same process is refused");
    SAY("file locks: an open file description's lock is refused to another open of the same process");

    /* Locks that are the program's own can be taken again, and given back. */
    lock = range(F_WRLCK, 10, 10);
    CHECK(fcntl(records, F_SETLK, &lock) == 0, "the owner may lock again");
    lock = range(F_UNLCK, 0, 0);
    CHECK(fcntl(records, F_SETLK, &lock) == 0, "unlock records");
    lock = range(F_UNLCK, 0, 0);
    CHECK(fcntl(described, F_OFD_SETLK, &lock) == 0, "unlock the open file description");
    CHECK(flock(exclusive, LOCK_UN) == 0 && flock(shared, LOCK_UN) == 0, "unlock flock");
    after = seen_by_another_process(directory, described, exclusive_copy);
    CHECK(strcmp(after, "++++++++ ++ ++++") == 0, "unlocked, another process gets \"%s\"", after);
    SAY("file locks: given back, another process gets them all");
    return finish(7);
}
