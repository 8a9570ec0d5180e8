/* A small file that is mapped shared, as a JVM's counters are: others may remove it at any time.
 *
 * Wrong would be: memory that has lost its contents, a restart that fails because the file is gone.
 */
#include "program.h"

#include <sys/mman.h>

#define LENGTH 8192

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: small_shared_file DIRECTORY");
    int file = open(in(argv[1], "counters"), O_RDWR | O_CREAT, 0600);
    MAKE(file >= 0 && ftruncate(file, LENGTH) == 0);
    char *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    MAKE(memory != MAP_FAILED && close(file) == 0);
    fill(memory, LENGTH, 3);

    ready();

    CHECK(filled(memory, LENGTH, 3), "the memory has its contents");
    fill(memory, LENGTH, 4);
    CHECK(filled(memory, LENGTH, 4), "the memory can be written");
    SAY("small shared file: memory is as it was");
    return finish(7);
}
