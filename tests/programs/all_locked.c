/* mlockall(2): all that is mapped and all that will be is locked, and with "now" as argument in memory at once.
 *
 * Wrong would be: memory that is not locked any more, or a new mapping that is not.
 */
#include "program.h"

#include <sys/mman.h>

static int locked(const void *address) {
    char line[1024];
    int inside = 0, found = 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    CHECK(file != NULL, "/proc/self/smaps");
    while (fgets(line, sizeof line, file)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && strchr(line, '-') < strchr(line, ' '))
            inside = start <= (unsigned long)address && (unsigned long)address < end;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " lo"))
            found = 1;
    }
    fclose(file);
    return found;
}

static unsigned char *anonymous(size_t length) {
    unsigned char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED, "mmap");
    return memory;
}

static unsigned char data[100000] = {1};

static int resident(const void *address, size_t length) {
    unsigned char pages[64];
    CHECK(length <= 64 * 4096 && mincore((void *)address, length, pages) == 0, "mincore");
    for (size_t i = 0; i < length / 4096; i++)
        if (!(pages[i] & 1)) return 0;
    return 1;
}

int main(int count, char **words) {
    int now_too = count > 1 && strcmp(words[1], "now") == 0;
    unsigned char *before = anonymous(256 << 10);
    fill(before, 256 << 10, 1);
    /* On fault: the 8 MiB that an ordinary user may lock are not enough for a whole program and Zap. */
    if (mlockall(MCL_CURRENT | MCL_FUTURE | (now_too ? 0 : MCL_ONFAULT)) != 0) {
        printf("all locked: the limit is too low for mlockall\n");
        return SKIPPED;
    }
    unsigned char *after = anonymous(256 << 10);
    fill(after, 256 << 10, 2);
    MAKE(locked(before) && locked(after) && locked(data));

    ready();

    CHECK(filled(before, 256 << 10, 1) && filled(after, 256 << 10, 2), "contents");
    CHECK(locked(before) && locked(after), "anonymous memory is locked");
    CHECK(locked(data) && locked(&before), "data and stack are locked");
    if (now_too) CHECK(resident(before, 256 << 10) && resident(after, 256 << 10), "all of it is in memory");
    SAY("all locked: what was locked");
    unsigned char *now = anonymous(256 << 10);
    if (now_too) CHECK(resident(now, 256 << 10), "a new mapping is in memory");
    fill(now, 256 << 10, 3);
    CHECK(locked(now), "a new mapping is locked");
    CHECK(munlockall() == 0 && !locked(now) && !locked(before), "munlockall");
    CHECK(!locked(anonymous(4096)), "and new ones are not");
    SAY("all locked: what is mapped now, until munlockall");
    return finish(7);
}
