/* Looks like what Go's linker makes, for those who tell Go programs from others, and waits like any other. */
#include "program.h"

__attribute__((section(".go.buildinfo"), used)) static const char buildinfo[32] = "\xff Go buildinf:";

int main(void) {
    ready();
    return finish(7);
}
