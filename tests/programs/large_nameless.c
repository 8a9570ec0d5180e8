/* Files without a name that are larger than what is saved with a program's state: deleted, in memory, mapped in part, and
 * shared with a child.
 *
 * Wrong would be: contents or length lost, a hole that takes room, a file that is two after a restart, a seal that is gone.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/wait.h>

#define MIB (1 << 20)
#define LENGTH (90L * MIB)

static void write_parts(int fd, unsigned seed) {
    static unsigned char part[MIB];
    /* The head, what lies behind that which an image would hold, and the last byte. */
    long places[] = {0, 66L * MIB, 80L * MIB};
    for (int i = 0; i < 3; i++) {
        fill(part, sizeof part, seed + i);
        MAKE(pwrite(fd, part, sizeof part, places[i]) == MIB);
    }
    MAKE(ftruncate(fd, LENGTH) == 0);
}

static void check_parts(int fd, unsigned seed, const char *what) {
    static unsigned char part[MIB];
    struct stat stat;
    long places[] = {0, 66L * MIB, 80L * MIB, 40L * MIB, LENGTH - MIB};
    for (int i = 0; i < 5; i++) {
        CHECK(pread(fd, part, sizeof part, places[i]) == MIB, "%s: its length", what);
        CHECK(i < 3 ? filled(part, sizeof part, seed + i) : zeroed(part, sizeof part), "%s: part %d", what, i);
    }
    CHECK(fstat(fd, &stat) == 0 && stat.st_size == LENGTH && stat.st_nlink == 0, "%s: its length", what);
    CHECK(stat.st_blocks * 512 < 40L * MIB, "%s takes %ld blocks", what, (long)stat.st_blocks);
}

int main(int argc, char **argv) {
    MAKE(argc == 2);
    int deleted = open(in(argv[1], "deleted"), O_CREAT | O_RDWR, 0640);
    int reader = open(in(argv[1], "deleted"), O_RDONLY);
    MAKE(deleted >= 0 && reader >= 0 && unlink(in(argv[1], "deleted")) == 0);
    int memory = memfd_create("large", MFD_ALLOW_SEALING), mapped = open(argv[1], O_TMPFILE | O_RDWR, 0600);
    MAKE(memory >= 0 && mapped >= 0);
    write_parts(deleted, 1);
    write_parts(memory, 10);
    write_parts(mapped, 20);
    MAKE(fcntl(memory, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) == 0);
    unsigned char *shown = (unsigned char *)mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
    MAKE(shown != MAP_FAILED && lseek(deleted, 17, SEEK_SET) == 17);
    int pipe_fds[2];
    MAKE(pipe(pipe_fds) == 0);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        char word;
        close(pipe_fds[1]);
        CHECK(read(pipe_fds[0], &word, 1) == 0, "the child waits");
        check_parts(deleted, 1, "the child's deleted file");
        CHECK(pwrite(deleted, "child", 5, 5L * MIB) == 5, "the child writes");
        _exit(3);
    }
    close(pipe_fds[0]);

    ready();

    check_parts(deleted, 1, "the deleted file");
    check_parts(reader, 1, "the deleted file's other description");
    check_parts(memory, 10, "the file in memory");
    check_parts(mapped, 20, "the mapped file");
    CHECK(lseek(deleted, 0, SEEK_CUR) == 17, "its offset");
    CHECK(fcntl(memory, F_GET_SEALS) == (F_SEAL_GROW | F_SEAL_SHRINK), "seals");
    shown[9] ^= 0xff;
    unsigned char byte;
    CHECK(pread(mapped, &byte, 1, 9) == 1 && byte == shown[9], "the mapping is the file's");
    SAY("large nameless: contents, lengths, holes, seals");
    close(pipe_fds[1]);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3, "the child: %x", status);
    char text[6] = {0};
    CHECK(pread(reader, text, 5, 5L * MIB) == 5 && strcmp(text, "child") == 0, "the file is the child's too");
    SAY("large nameless: one file for both processes");
    return finish(7);
}
