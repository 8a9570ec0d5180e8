/* A file that is mapped shared by a name that it has lost, and has another one, as programs make it that publish a file
 * when it is ready: made and mapped as one name, link(2) to the other, unlink(2) of the first. Brought back, the mapping
 * would be another file than the one with the name. A checkpoint is refused by name while it is mapped so.
 *
 * Which process knows the other name: with `open` this one has it open; with `child` a child has, and this process has the
 * mapping only; with `mapped` a child has it mapped by the other name; with `unused` nobody has it.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/wait.h>

enum { PAGE = 4096, LENGTH = 100 * PAGE };

static unsigned char *map(int file) {
    void *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    MAKE(memory != MAP_FAILED);
    return memory;
}

int main(int argc, char **argv) {
    CHECK(argc > 2, "usage: published_file open|child|mapped|unused DIRECTORY");
    const char *way = argv[1];
    char first[4096], second[4096];
    snprintf(first, sizeof first, "%s/being-made", argv[2]);
    snprintf(second, sizeof second, "%s/there", argv[2]);
    MAKE(mkdir(second, 0700) == 0 || errno == EEXIST);
    /* Who may not ask for the number of names looks for one in the same directory. */
    snprintf(second, sizeof second, "%s/%spublished", argv[2], strcmp(way, "unused") == 0 ? "" : "there/");
    unlink(second);
    int file = open(first, O_RDWR | O_CREAT | O_EXCL, 0600), told[2], other = -1;
    MAKE(file >= 0 && ftruncate(file, LENGTH) == 0);
    unsigned char *memory = map(file);
    fill(memory, LENGTH, 5);
    MAKE(close(file) == 0 && link(first, second) == 0 && unlink(first) == 0 && pipe(told) == 0);
    pid_t child = -1;
    if (strcmp(way, "open") == 0) {
        MAKE((other = open(second, O_RDWR)) >= 0);
    } else if (strcmp(way, "unused") != 0) {
        int begun[2];
        char word;
        MAKE(pipe(begun) == 0 && (child = fork()) >= 0);
        if (child == 0) {
            munmap(memory, LENGTH), close(told[1]);
            if ((other = open(second, O_RDWR)) < 0) _exit(1);
            if (strcmp(way, "mapped") == 0) memory = map(other), close(other), other = -1;
            if (write(begun[1], "b", 1) != 1) _exit(2);
            /* Until the parent has closed its end. */
            while (read(told[0], &word, 1) < 0) continue;
            if (other >= 0 && (pread(other, &word, 1, 77) != 1 || word != 'P')) _exit(3);
            _exit(other >= 0 || memory[77] == 'P' ? 0 : 4);
        }
        MAKE(close(told[0]) == 0 && read(begun[0], &word, 1) == 1 && close(begun[0]) == 0 && close(begun[1]) == 0);
    }

    ready();

    memory[77] = 'P';
    CHECK(munmap(memory, LENGTH) == 0, "munmap");

    ready();

    unsigned char seen = 0;
    if (other < 0) other = open(second, O_RDWR);
    CHECK(other >= 0 && pread(other, &seen, 1, 77) == 1 && seen == 'P', "what was written to memory is in the file");
    close(told[1]);
    int status = 0;
    CHECK(child < 0 || (waitpid(child, &status, 0) == child && status == 0), "the child's status is %x", status);
    CHECK(unlink(second) == 0, "unlink");
    SAY("published file: refused while it was mapped by the name that is gone");
    return finish(7);
}
