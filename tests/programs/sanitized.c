/* Built with the address sanitizer, whose library insists on coming first; waits like any other. */
#include "program.h"

int main(void) {
    char *memory = malloc(100);
    memset(memory, 7, 100);
    ready();
    CHECK(memory[99] == 7, "the memory is there");
    free(memory);
    return finish(7);
}
