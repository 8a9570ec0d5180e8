/* Stacks that have grown: the main thread's, and a mapping that grows downwards (MAP_GROWSDOWN).
 *
 * Wrong would be: frames that lost their bytes, a stack that cannot grow any more, or that grows into a mapping of
 * somebody else's, a limit (RLIMIT_STACK) that is another one.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>

/* Recurses `depth` frames of 16 KiB, does `work` at the bottom, and says whether each frame kept its bytes. */
__attribute__((noinline)) static int deep(int depth, int seed, void (*work)(void)) {
    unsigned char frame[16 * 1024];
    for (size_t i = 0; i < sizeof frame; i += 256) ((volatile unsigned char *)frame)[i] = pattern_byte(seed + depth, i);
    int good = 1;
    if (depth == 0) {
        if (work) work();
    } else {
        good = deep(depth - 1, seed, work);
    }
    for (size_t i = 0; i < sizeof frame; i += 256)
        if (((volatile unsigned char *)frame)[i] != pattern_byte(seed + depth, i)) good = 0;
    return good;
}

static unsigned char *growing;
static size_t length;
static ucontext_t back, other;
static int other_good;

/* Runs on the mapping that grows downwards. */
static void on_other_stack(void) { other_good = deep(60, 500, NULL); }

static void run_on_growing(void) {
    other_good = 0;
    MAKE(getcontext(&other) == 0);
    other.uc_stack.ss_sp = growing;
    other.uc_stack.ss_size = length;
    other.uc_link = &back;
    makecontext(&other, on_other_stack, 0);
    CHECK(swapcontext(&back, &other) == 0 && other_good, "frames on the mapping that grows");
}

static struct rlimit before;

static void at_the_bottom(void) {
    ready();
    SAY("stacks: at the bottom of 5 MiB of frames");
    CHECK(deep(120, 900, NULL), "2 MiB more below them");
    SAY("stacks: it grows further");
}

int main(void) {
    size_t page = sysconf(_SC_PAGESIZE);
    MAKE(getrlimit(RLIMIT_STACK, &before) == 0);
    /* Far below everything else, where there is room to grow. */
    length = 16 * page;
    void *place = (void *)(0x200000000000ul - length);
    growing = mmap(place, length, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_STACK | MAP_FIXED_NOREPLACE, -1, 0);
    MAKE(growing == place);
    fill(growing, length, 77);
    run_on_growing();
    /* What the frames have left there stays as it is until they come again. */
    unsigned char *low = growing - 40 * page;
    unsigned char kept = low[5];
    fill(growing + length - page, page, 78);
    low[5] = (unsigned char)(kept + 1);

    CHECK(deep(320, 100, at_the_bottom), "frames of the main stack");
    SAY("stacks: all frames kept their bytes");
    CHECK(deep(400, 1300, NULL), "6 MiB once more");
    CHECK(low[5] == (unsigned char)(kept + 1) && filled(growing + length - page, page, 78), "the mapping that grew");
    low[-1000 * (long)page] = 42;
    CHECK(low[-1000 * (long)page] == 42 && low[-999 * (long)page] == 0, "it grows by pages of zeroes");
    run_on_growing();
    SAY("stacks: a MAP_GROWSDOWN mapping grows further");
    struct rlimit now;
    CHECK(getrlimit(RLIMIT_STACK, &now) == 0 && now.rlim_cur == before.rlim_cur && now.rlim_max == before.rlim_max,
          "RLIMIT_STACK");
    return finish(7);
}
