/* Files in memory (memfd_create(2)), open, mapped, sealed, and shared with a child. With an argument: one of huge pages, which is
 * refused.
 *
 * Wrong would be: other contents, names, offsets, modes; a seal that is gone or new; memory that is writable and was not to be
 * made so; two files where there was one; a file that has become large where nothing had been written.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/wait.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif

enum { PAGES = 20, SPARSE = 1 << 30 };

static size_t page;

static int make(const char *name, unsigned flags, size_t length, int seed) {
    int file = memfd_create(name, flags);
    if (file < 0 && errno == EINVAL) return -1;
    MAKE(file >= 0 && ftruncate(file, length) == 0);
    unsigned char *bytes = malloc(length < (1 << 20) ? length : 1);
    for (size_t i = 0; i < length && length < (1 << 20); i++) bytes[i] = pattern_byte(seed, i);
    if (length < (1 << 20)) MAKE(pwrite(file, bytes, length, 0) == (ssize_t)length);
    free(bytes);
    return file;
}

static int holds(int file, size_t length, int seed) {
    unsigned char *bytes = malloc(length + 1);
    int same = pread(file, bytes, length + 1, 0) == (ssize_t)length && filled(bytes, length, seed);
    free(bytes);
    return same;
}

static int filled_from(const unsigned char *memory, size_t from, size_t length, int seed) {
    for (size_t i = from; i < length; i++)
        if (memory[i] != pattern_byte(seed, i)) return 0;
    return 1;
}

static int again(int file, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    int other = open(path, flags);
    MAKE(other >= 0);
    return other;
}

static const char *name_of(int file) {
    static char name[512];
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    ssize_t length = readlink(path, name, sizeof name - 1);
    MAKE(length > 0);
    name[length] = 0;
    return name;
}

static long mode_of(int file) {
    struct stat stat;
    MAKE(fstat(file, &stat) == 0);
    return stat.st_mode;
}

static void *map(int file, size_t length, int protection) {
    void *memory = mmap(NULL, length, protection, MAP_SHARED, file, 0);
    MAKE(memory != MAP_FAILED);
    return memory;
}

static int huge(void) {
    int file = memfd_create("huge", MFD_HUGETLB);
    if (file < 0) {
        printf("memory files: no huge pages here\n");
        return SKIPPED;
    }
    ready();
    MAKE(close(file) == 0);
    ready();
    SAY("memory files: one of huge pages");
    return finish(7);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) return huge();
    page = sysconf(_SC_PAGESIZE);
    size_t length = PAGES * page - 100;
    int plain = make("a name\nwith everything/ in it (deleted)", 0, length, 1), twin = dup(plain);
    int beside = again(plain, O_RDONLY | O_APPEND), path = again(plain, O_PATH);
    MAKE(lseek(twin, 1234, SEEK_SET) == 1234 && lseek(beside, 77, SEEK_SET) == 77 && fchmod(plain, 0640) == 0);
    int mapped = make("mapped", MFD_ALLOW_SEALING, length, 2);
    unsigned char *writable = map(mapped, length, PROT_READ | PROT_WRITE);
    unsigned char *private = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, mapped, 0);
    MAKE(private != MAP_FAILED);
    private[page] = 55;
    writable[0] = 44;
    MAKE(fcntl(mapped, F_ADD_SEALS, F_SEAL_SHRINK) == 0);

    int first = make("read only", MFD_ALLOW_SEALING, length, 3), only = again(first, O_RDONLY);
    MAKE(close(first) == 0);
    unsigned char *readable = map(only, length, PROT_READ);

    int closed = make("closed", MFD_ALLOW_SEALING, length, 10), closing = again(closed, O_RDONLY);
    unsigned char *fixed = map(closing, length, PROT_READ);
    MAKE(close(closed) == 0 && close(closing) == 0);
    MAKE(mprotect(fixed, page, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);

    int sealed = make("sealed", MFD_ALLOW_SEALING, length, 4), reader = again(sealed, O_RDONLY);
    unsigned char *constant = map(reader, length, PROT_READ);
    int all = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    MAKE(fcntl(sealed, F_ADD_SEALS, all) == 0);
    int alone = make("sealed, not mapped", MFD_ALLOW_SEALING, length, 5);
    MAKE(fcntl(alone, F_ADD_SEALS, all) == 0);
    int later = make("future", MFD_ALLOW_SEALING, length, 6);
    unsigned char *early = map(later, length, PROT_READ | PROT_WRITE);
    int future = fcntl(later, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0;
    int no_exec = make("no exec", MFD_NOEXEC_SEAL, length, 7);
    int seals_of_no_exec = no_exec < 0 ? 0 : fcntl(no_exec, F_GET_SEALS);

    int sparse = make("sparse", 0, SPARSE, 0);
    unsigned char *wide = map(sparse, SPARSE, PROT_READ | PROT_WRITE);
    fill(wide + SPARSE / 2, page, 8);

    int common = make("common", 0, length, 9), pipes[2], back[2];
    MAKE(pipe(pipes) == 0 && pipe(back) == 0 && lseek(common, 500, SEEK_SET) == 500);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        char byte;
        int own = again(common, O_RDWR);
        unsigned char *shown = map(own, length, PROT_READ | PROT_WRITE);
        MAKE(write(back[1], "x", 1) == 1);
        CHECK(read(pipes[0], &byte, 1) == 1, "the child is told");
        CHECK(shown[7] == 70 && lseek(common, 0, SEEK_CUR) == 600, "the child sees what its parent has done");
        shown[8] = 80;
        CHECK(writable[9] == 90, "and in memory that it has inherited");
        CHECK(fcntl(sealed, F_GET_SEALS) == all && pwrite(sealed, "x", 1, 0) == -1 && errno == EPERM, "seals in the child");
        _exit(6);
    }
    char byte;
    MAKE(read(back[0], &byte, 1) == 1);

    ready();

    CHECK(holds(plain, length, 1) && holds(beside, length, 1), "contents");
    CHECK(strcmp(name_of(plain), "/memfd:a name\nwith everything/ in it (deleted) (deleted)") == 0, "name %s", name_of(plain));
    CHECK(lseek(plain, 0, SEEK_CUR) == 1234 && lseek(beside, 0, SEEK_CUR) == 77, "offsets");
    CHECK(fcntl(plain, F_GETFL) == (O_RDWR | 0100000) && fcntl(beside, F_GETFL) == (O_RDONLY | O_APPEND | 0100000),
          "flags %x %x", fcntl(plain, F_GETFL), fcntl(beside, F_GETFL));
    CHECK(mode_of(plain) == (S_IFREG | 0640) && mode_of(path) == mode_of(plain), "mode %lo", mode_of(plain));
    CHECK(fcntl(plain, F_GET_SEALS) == F_SEAL_SEAL && fcntl(plain, F_ADD_SEALS, F_SEAL_GROW) == -1 && errno == EPERM,
          "seals of one that cannot be sealed: %x", fcntl(plain, F_GET_SEALS));
    CHECK(pwrite(twin, "now", 3, 10) == 3 && pread(beside, &byte, 1, 11) == 1 && byte == 'o', "one file");
    SAY("memory files: contents, names, offsets, modes");
    CHECK(writable[0] == 44 && pread(mapped, &byte, 1, 0) == 1 && byte == 44 && filled_from(writable, 1, length, 2), "mapped");
    CHECK(private[page] == 55 && private[page + 1] == writable[page + 1], "private memory of it");
    CHECK(fcntl(mapped, F_GET_SEALS) == F_SEAL_SHRINK && ftruncate(mapped, 1) == -1 && errno == EPERM, "a seal of what is mapped");
    CHECK(mode_of(mapped) == (S_IFREG | 0777), "mode %lo", mode_of(mapped));
    writable[9] = 90;
    CHECK(pread(mapped, &byte, 1, 9) == 1 && byte == 90, "what is written is in the file");
    CHECK(filled(readable, length, 3) && mprotect(readable, page, PROT_READ | PROT_WRITE) == -1 && errno == EACCES,
          "memory of a file that is open for reading");
    CHECK(filled(fixed, length, 10) && mprotect(fixed, page, PROT_READ | PROT_WRITE) == -1 && errno == EACCES,
          "memory of a file that has been closed");
    CHECK(fcntl(only, F_GET_SEALS) == 0, "nothing is sealed of it");
    CHECK(filled(constant, length, 4) && mprotect(constant, page, PROT_READ | PROT_WRITE) == -1 && errno == EACCES, "sealed memory");
    CHECK(fcntl(sealed, F_GET_SEALS) == all && pwrite(sealed, "x", 1, 0) == -1 && errno == EPERM, "seals of what is mapped");
    CHECK(fcntl(alone, F_GET_SEALS) == all && holds(alone, length, 5) && pwrite(alone, "x", 1, 0) == -1, "seals");
    early[0] = 66;
    CHECK(pread(later, &byte, 1, 0) == 1 && byte == 66 && filled_from(early, 1, length, 6), "memory from before it was sealed");
    if (future) CHECK(fcntl(later, F_GET_SEALS) == F_SEAL_FUTURE_WRITE && pwrite(later, "x", 1, 0) == -1, "future writes");
    if (no_exec >= 0)
        CHECK(fcntl(no_exec, F_GET_SEALS) == seals_of_no_exec && fchmod(no_exec, 0700) == -1 && mode_of(no_exec) == (S_IFREG | 0666),
              "seals %x, mode %lo", fcntl(no_exec, F_GET_SEALS), mode_of(no_exec));
    SAY("memory files: seals");
    struct stat stat;
    CHECK(fstat(sparse, &stat) == 0 && stat.st_size == SPARSE && stat.st_blocks < 16 << 10, "%ld blocks", (long)stat.st_blocks);
    CHECK(filled(wide + SPARSE / 2, page, 8) && zeroed(wide, page), "the sparse one");
    int status;
    CHECK(pwrite(common, "F", 1, 7) == 1 && lseek(common, 100, SEEK_CUR) == 600, "the common one");
    CHECK(write(pipes[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && status == 6 << 8, "the child: %x", status);
    CHECK(pread(common, &byte, 1, 8) == 1 && byte == 80, "what the child has written");
    SAY("memory files: one for parent and child");
    return finish(7);
}
