/* Standard input, output and error, and what was made of them by dup.
 *
 * After a restart the streams are zap-restart's own. Wrong would be: standard error that was a dup of standard output
 * and now goes elsewhere, copies under other numbers that point to streams of long ago, text that stood in stdio's
 * buffer and is lost or comes twice, lines out of order.
 */
#include "program.h"

int main(void) {
    MAKE(dup2(1, 2) == 2);
    MAKE(dup2(1, 60) == 60);
    int cloexec = fcntl(1, F_DUPFD_CLOEXEC, 61);
    MAKE(cloexec == 61);
    int input_copy = dup(0);
    MAKE(input_copy >= 0);
    say_ready();
    /* Waits in stdio's buffer from here on. */
    static char space[1 << 16];
    setvbuf(stdout, space, _IOFBF, sizeof space);
    printf("standard streams: this stood in stdio's buffer\n");

    wait_for_go();

    struct stat output, now;
    CHECK(fstat(1, &output) == 0, "fstat of standard output");
    int copies[] = {2, 60, 61};
    for (int i = 0; i < 3; i++) {
        CHECK(fstat(copies[i], &now) == 0 && now.st_dev == output.st_dev && now.st_ino == output.st_ino,
              "descriptor %d is standard output", copies[i]);
        CHECK(fcntl(copies[i], F_GETFL) == fcntl(1, F_GETFL), "flags of descriptor %d", copies[i]);
    }
    CHECK(fcntl(60, F_GETFD) == 0 && fcntl(61, F_GETFD) == FD_CLOEXEC, "close-on-exec of the copies");
    fflush(stdout);
    CHECK(write(2, "standard streams: by standard error\n", 36) == 36, "writing to standard error");
    CHECK(write(60, "standard streams: by descriptor 60\n", 35) == 35, "writing to 60");
    CHECK(write(61, "standard streams: by descriptor 61\n", 35) == 35, "writing to 61");
    fprintf(stderr, "standard streams: by stderr\n");
    char byte;
    CHECK(read(0, &byte, 1) == 0 && read(input_copy, &byte, 1) == 0, "standard input is at its end");
    CHECK(fstat(0, &output) == 0 && fstat(input_copy, &now) == 0 && now.st_dev == output.st_dev &&
              now.st_ino == output.st_ino,
          "the copy of standard input is standard input");
    SAY("standard streams: input at its end, error and copies are the output");
    return finish(7);
}
