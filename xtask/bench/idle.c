/* An idle C program. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    puts("READY");
    fflush(stdout);
    for (;;) pause();
}
