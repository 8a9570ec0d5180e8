/* Memory of huge pages (MAP_HUGETLB): a checkpoint is refused by name as long as there is some.
 *
 * Reserved without being backed, so that the machine need not have set any aside.
 */
#include "program.h"

#include <sys/mman.h>

int main(void) {
    size_t length = 4 << 20;
    unsigned char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        printf("huge pages: not on this machine (%s)\n", strerror(errno));
        return SKIPPED;
    }
    ready();
    CHECK(munmap(memory, length) == 0, "munmap");
    ready();
    SAY("huge pages: refused while there were some");
    return finish(7);
}
