/* A file without a name that is both open and mapped shared, as multiprocessing's arenas are, by three processes: one has
 * the file open and mapped, one has it mapped only, one has it open only. It is longer than what is mapped, does not end
 * with a page, and has a mode that keeps its owner out. Another one in a directory of disks has been written by write(2), and
 * is mapped from its middle. A third one is mapped only, and but for one page it has been written out of memory.
 *
 * Wrong would be: contents lost, behind what is mapped too, another length or mode, a name, what is written by one way and
 * not seen by the other or by another process, one offset for two descriptions.
 */
#include "program.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/wait.h>

enum { PAGE = 4096, MAPPED = 20 * PAGE, LENGTH = 30 * PAGE + 100 };

static unsigned char bytes[LENGTH], there[LENGTH];

static int nameless(const char *directory, const char *name) {
    const char *path = in(directory, name);
    int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    MAKE(file >= 0 && unlink(path) == 0);
    return file;
}

static unsigned char *map(int file, size_t length, off_t offset) {
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, offset);
    MAKE(memory != MAP_FAILED);
    return memory;
}

/* Has all pages of a file written out of memory, and takes back one of those that are mapped. In a directory in memory they
 * stay. */
static void write_out(int file, unsigned char *memory) {
    unsigned char present[MAPPED / PAGE];
    int taken_back = 0;
    struct statfs kind;
    MAKE(fstatfs(file, &kind) == 0 && posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0);
    /* Else its neighbours come along. */
    MAKE(madvise(memory, MAPPED, MADV_RANDOM) == 0);
    memory[3 * PAGE] = 'W';
    MAKE(madvise(memory, MAPPED, MADV_NORMAL) == 0 && mincore(memory, MAPPED, present) == 0);
    for (size_t i = 0; i < sizeof present; i++) taken_back += present[i] & 1;
    CHECK(kind.f_type == TMPFS_MAGIC || taken_back == 1, "cannot make the state: %d pages in memory", taken_back);
}

static void step(int read_end, char wanted) {
    char word;
    CHECK(read(read_end, &word, 1) == 1 && word == wanted, "step %c", wanted);
}

static void mapped_only(unsigned char *memory, int go, int done) {
    step(go, '1');
    CHECK(filled(memory + 10 * PAGE, 5 * PAGE, 42) && memory[0] == 'A', "what is mapped only");
    memory[1] = 'B';
    CHECK(write(done, "m", 1) == 1, "word");
    _exit(12);
}

static void open_only(int file, int go, int done) {
    step(go, '1');
    char two[2];
    CHECK(pread(file, two, 2, 0) == 2 && two[0] == 'A' && two[1] == 'B', "what is open only: %c%c", two[0], two[1]);
    CHECK(pwrite(file, "C", 1, 2) == 1 && pwrite(file, "D", 1, LENGTH - 1) == 1, "writes");
    CHECK(write(done, "o", 1) == 1, "word");
    _exit(13);
}

int main(int argc, char **argv) {
    CHECK(argc > 1, "usage: open_memory DIRECTORY");
    char own[64];
    snprintf(own, sizeof own, "zap-open-memory-%d", getpid());
    int file = nameless("/dev/shm", own), go[2][2], done[2];
    fill(bytes, sizeof bytes, 41);
    MAKE(write(file, bytes, sizeof bytes) == sizeof bytes);
    unsigned char *memory = map(file, MAPPED, 0);
    fill(memory + 10 * PAGE, 5 * PAGE, 42);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    int again = open(path, O_RDWR | O_APPEND);
    MAKE(again >= 0 && lseek(file, 777, SEEK_SET) == 777 && lseek(again, 888, SEEK_SET) == 888);
    /* Nobody could open it to map it now. */
    MAKE(fchmod(file, 0400) == 0);

    int disk = nameless(argv[1], "on-disk");
    MAKE(write(disk, bytes, sizeof bytes) == sizeof bytes);
    unsigned char *middle = map(disk, 4 * PAGE, 6 * PAGE);
    middle[5] = 'M';
    int written = nameless(argv[1], "written-out");
    MAKE(write(written, bytes, sizeof bytes) == sizeof bytes && fsync(written) == 0);
    unsigned char *out = map(written, MAPPED, 0);
    write_out(written, out);
    MAKE(close(written) == 0);

    MAKE(pipe(go[0]) == 0 && pipe(go[1]) == 0 && pipe(done) == 0);
    fflush(stdout);
    pid_t pids[2];
    for (int i = 0; i < 2; i++) {
        MAKE((pids[i] = fork()) >= 0);
        if (pids[i] != 0) continue;
        close(again), close(disk), munmap(middle, 4 * PAGE);
        if (i == 0) close(file), mapped_only(memory, go[0][0], done[1]);
        munmap(memory, MAPPED), open_only(file, go[1][0], done[1]);
    }

    ready();

    struct stat now;
    CHECK(fstat(file, &now) == 0 && now.st_size == LENGTH && now.st_nlink == 0 && (now.st_mode & 0777) == 0400,
          "length %ld, %ld names, mode %o", (long)now.st_size, (long)now.st_nlink, now.st_mode);
    CHECK(lseek(file, 0, SEEK_CUR) == 777 && lseek(again, 0, SEEK_CUR) == 888, "two offsets");
    CHECK((fcntl(file, F_GETFL) & O_APPEND) == 0 && (fcntl(again, F_GETFL) & O_APPEND) != 0, "flags");
    fill(bytes, sizeof bytes, 41);
    fill(bytes + 10 * PAGE, 5 * PAGE, 42);
    CHECK(pread(file, there, LENGTH, 0) == LENGTH && memcmp(there, bytes, LENGTH) == 0, "contents of the file");
    CHECK(memcmp(memory, bytes, MAPPED) == 0, "contents of the memory");
    SAY("open memory: contents, length, mode, offsets");
    memory[0] = 'A';
    CHECK(pread(again, there, 1, 0) == 1 && there[0] == 'A', "what is written to memory is in the file");
    CHECK(write(go[0][1], "1", 1) == 1, "go");
    step(done[0], 'm');
    CHECK(write(go[1][1], "1", 1) == 1, "go");
    step(done[0], 'o');
    CHECK(memory[1] == 'B' && memory[2] == 'C' && pread(file, there, 1, LENGTH - 1) == 1 && there[0] == 'D',
          "what the others have written");
    SAY("open memory: one object for three processes, open, mapped, or both");
    CHECK(fstat(disk, &now) == 0 && now.st_size == LENGTH && now.st_nlink == 0, "the file on disk");
    fill(bytes, sizeof bytes, 41);
    bytes[6 * PAGE + 5] = 'M';
    CHECK(pread(disk, there, LENGTH, 0) == LENGTH && memcmp(there, bytes, LENGTH) == 0, "its contents");
    CHECK(memcmp(middle, bytes + 6 * PAGE, 4 * PAGE) == 0, "its memory");
    CHECK(pwrite(disk, "N", 1, 7 * PAGE) == 1 && middle[PAGE] == 'N', "what is written to it is in memory");
    SAY("open memory: a file on a disk, mapped from its middle");
    fill(bytes, sizeof bytes, 41);
    bytes[3 * PAGE] = 'W';
    CHECK(memcmp(out, bytes, MAPPED) == 0, "what had been written out of memory");
    SAY("open memory: a file on a disk, written there");
    static const int statuses[] = {12, 13};
    for (int i = 0; i < 2; i++) {
        int status;
        CHECK(waitpid(pids[i], &status, 0) == pids[i] && WEXITSTATUS(status) == statuses[i], "child %d ends", i);
    }
    return finish(7);
}
