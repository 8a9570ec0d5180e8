/* Reads the clock for ever, and notes in a shared file the longest time between two readings.
 *
 * usage: gap FILE MEGABYTES. The file holds five 64-bit numbers: see `struct notes`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct notes {
    int64_t ready;   /* 1 when the memory is there */
    int64_t reset;   /* set to 1: forget the longest gap */
    int64_t longest; /* nanoseconds */
    int64_t armed;   /* set to 1: note the next reading in `first` */
    int64_t first;   /* CLOCK_REALTIME, nanoseconds: the same before and after a restart, and to whoever looks on */
};

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int fd = open(argv[1], O_RDWR);
    volatile struct notes *notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (notes == MAP_FAILED) return 1;
    close(fd);
    size_t length = strtoul(argv[2], NULL, 10) << 20;
    char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 1;
    madvise(memory, length, MADV_NOHUGEPAGE);
    /* Noise; with GAP_ALIKE three quarters of each page are alike, as much of a program's memory is. */
    int alike = getenv("GAP_ALIKE") != NULL;
    for (size_t at = 0; at < length; at += 8)
        *(uint64_t *)(memory + at) = alike && at % 4096 < 3072 ? at >> 12 : at * 0x9e3779b97f4a7c15u;
    notes->ready = 1;
    for (int64_t last = now();;) {
        int64_t time = now();
        if (notes->reset) notes->reset = notes->longest = 0;
        else if (time - last > notes->longest) notes->longest = time - last;
        /* Read anew: `time` may be from before the checkpoint. */
        if (notes->armed) notes->first = now(), notes->armed = 0;
        last = time;
    }
}
