/* A large file without a name, mapped shared, of which a few pages are written: what is only reserved takes no room.
 *
 * Wrong would be: contents lost; holes that have become pages because a checkpoint read them, so that the program pays for
 * all that it has reserved (in a tmpfs), or pages of zeroes after a restart.
 */
#include "program.h"

#include <sys/mman.h>

enum { PAGE = 4096, LENGTH = 16 << 20 };

int main(int argc, char **argv) {
    CHECK(argc > 1, "usage: sparse_memory DIRECTORY");
    const char *path = in(argv[1], "sparse");
    int file = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    MAKE(file >= 0 && unlink(path) == 0 && ftruncate(file, LENGTH) == 0);
    unsigned char *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    MAKE(memory != MAP_FAILED);
    for (int i = 0; i < 4; i++) fill(memory + i * (LENGTH / 4) + 5 * PAGE, PAGE + 100, i + 1);

    ready();

    struct stat now;
    CHECK(fstat(file, &now) == 0 && now.st_size == LENGTH, "length %ld", (long)now.st_size);
    CHECK(now.st_blocks < (1 << 20) / 512, "it takes %ld KiB", (long)now.st_blocks / 2);
    for (int i = 0; i < 4; i++) CHECK(filled(memory + i * (LENGTH / 4) + 5 * PAGE, PAGE + 100, i + 1), "contents %d", i);
    CHECK(zeroed(memory + LENGTH / 2 - 10 * PAGE, 10 * PAGE), "zeroes");
    SAY("sparse memory: contents, and no room for what is only reserved");
    return finish(7);
}
