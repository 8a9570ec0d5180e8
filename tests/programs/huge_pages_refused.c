/* Huge pages that others could see: shared ones, and those of a file. A checkpoint is refused by name while there are some.
 *
 * Reserved without being backed, so that the machine need not have set any aside.
 */
#include "program.h"

#include <sys/mman.h>

int main(int count, char **arguments) {
    size_t length = 4 << 20;
    int file = -1, flags = MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB;
    if (count == 2 && strcmp(arguments[1], "file") == 0) {
        file = memfd_create("huge", MFD_HUGETLB);
        flags = MAP_PRIVATE;
    }
    unsigned char *memory = MAP_FAILED;
    if (flags != MAP_PRIVATE || (file >= 0 && ftruncate(file, length) == 0))
        memory = mmap(NULL, length, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, file, 0);
    if (memory == MAP_FAILED) {
        printf("huge pages: not on this machine (%s)\n", strerror(errno));
        return SKIPPED;
    }
    if (file >= 0) close(file);
    ready();
    CHECK(munmap(memory, length) == 0, "munmap");
    ready();
    SAY("huge pages: refused while there were some");
    return finish(7);
}
