/* Traces the process of its first argument, which runs on, until the file of the second one exists; says so. */
#include "program.h"

#include <sys/ptrace.h>

int main(int argc, char **argv) {
    CHECK(argc == 3, "usage: tracer PID FILE");
    CHECK(ptrace(PTRACE_SEIZE, atoi(argv[1]), 0, 0) == 0, "PTRACE_SEIZE");
    printf("traces\n");
    fflush(stdout);
    while (access(argv[2], F_OK) != 0) usleep(10000);
    return 0;
}
