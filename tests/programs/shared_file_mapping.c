/* Files mapped MAP_SHARED.
 *
 * Wrong would be: a mapping that became private, so that what is written never reaches the file, or what others write
 * to the file is never seen; two mappings of one file that no longer show the same bytes; a mapping at another offset;
 * one that became writable; the file's newer content replaced by what it was at the checkpoint.
 */
#include "program.h"

#include <sys/mman.h>

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: shared_file_mapping DIRECTORY");
    size_t page = sysconf(_SC_PAGESIZE);
    int file = open(in(argv[1], "mapped"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    MAKE(file >= 0 && ftruncate(file, 16 * page) == 0);
    unsigned char *whole = mmap(NULL, 16 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    unsigned char *second = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 4 * page);
    int read_only = open(in(argv[1], "mapped"), O_RDONLY);
    unsigned char *reading = mmap(NULL, 16 * page, PROT_READ, MAP_SHARED, read_only, 0);
    MAKE(whole != MAP_FAILED && second != MAP_FAILED && reading != MAP_FAILED);
    /* The last page of this file is partly behind its end; the mapping outlives the descriptor. */
    int small = open(in(argv[1], "small"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    MAKE(small >= 0 && write(small, "short file", 10) == 10);
    char *tail = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, small, 0);
    MAKE(tail != MAP_FAILED && close(small) == 0);
    fill(whole, 8 * page, 1);
    MAKE(close(read_only) == 0);

    ready();

    CHECK(filled(whole, 8 * page, 1) && zeroed(whole + 8 * page, 8 * page), "contents");
    CHECK(memcmp(whole + 4 * page, second, 4 * page) == 0, "the second mapping shows its part of the file");
    CHECK(memcmp(whole, reading, 16 * page) == 0, "the read-only mapping shows the file");
    SAY("shared file mapping: contents of 3 mappings");

    unsigned char bytes[16];
    memcpy(second + 100, "through memory", 14);
    CHECK(pread(file, bytes, 14, 4 * page + 100) == 14 && memcmp(bytes, "through memory", 14) == 0,
          "what is written to memory is in the file");
    CHECK(memcmp(whole + 4 * page + 100, "through memory", 14) == 0, "and in the other mapping");
    CHECK(memcmp(reading + 4 * page + 100, "through memory", 14) == 0, "and in the read-only mapping");
    CHECK(pwrite(file, "through the file", 16, 9 * page) == 16, "writing to the file");
    CHECK(memcmp(whole + 9 * page, "through the file", 16) == 0, "what is written to the file is in memory");
    CHECK(memcmp(reading + 9 * page, "through the file", 16) == 0, "and in the read-only mapping");
    SAY("shared file mapping: memory and file are one, both ways");

    int zero = open("/dev/zero", O_RDONLY);
    errno = 0;
    CHECK(read(zero, reading, 1) == -1 && errno == EFAULT, "the read-only mapping cannot be written");
    SAY("shared file mapping: the read-only one is read-only");

    CHECK(memcmp(tail, "short file", 10) == 0 && zeroed(tail + 10, page - 10), "the short file's contents");
    memcpy(tail, "SHORT", 5);
    CHECK(msync(tail, page, MS_SYNC) == 0, "msync");
    small = open(in(argv[1], "small"), O_RDONLY);
    CHECK(read(small, bytes, sizeof bytes) == 10 && memcmp(bytes, "SHORT file", 10) == 0,
          "a mapping whose descriptor was closed writes through");
    SAY("shared file mapping: writes through after its descriptor was closed");

    /* Dropping the pages shows the file again, nothing older. */
    CHECK(madvise(whole, 16 * page, MADV_DONTNEED) == 0, "madvise");
    CHECK(memcmp(whole + 4 * page + 100, "through memory", 14) == 0, "dropped pages come back from the file");
    SAY("shared file mapping: dropped pages come back from the file");
    return finish(7);
}
