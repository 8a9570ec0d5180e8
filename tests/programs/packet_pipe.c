/* A pipe of packets between two processes, of which one only writes and the other only reads: the flag that makes it one is the
 * writer's alone.
 *
 * Wrong would be: packets that are joined, or of which a part is lost.
 */
#include "program.h"

#include <sys/wait.h>

int main(void) {
    int ends[3][2], go[2];
    MAKE(pipe(go) == 0);
    for (int i = 0; i < 3; i++) MAKE(pipe2(ends[i], O_DIRECT | O_NONBLOCK) == 0);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        close(go[1]);
        char byte;
        for (int i = 0; i < 3; i++) {
            close(ends[i][0]);
            /* No packet, one, or several. */
            for (int k = 0; k < i * i; k++) MAKE(write(ends[i][1], "abcd", 1 + k) == 1 + k);
        }
        CHECK(read(go[0], &byte, 1) == 0, "go");
        for (int i = 0; i < 3; i++) CHECK(write(ends[i][1], "last", 4) == 4, "one more");
        _exit(5);
    }
    for (int i = 0; i < 3; i++) close(ends[i][1]);
    char text[16];

    ready();

    int status;
    CHECK(close(go[1]) == 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5, "the writer: %x", status);
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < i * i; k++)
            CHECK(read(ends[i][0], text, sizeof text) == 1 + k && memcmp(text, "abcd", 1 + k) == 0, "packet %d of pipe %d", k, i);
        CHECK(read(ends[i][0], text, 2) == 2 && read(ends[i][0], text, 2) == 0, "what is left of a packet is thrown away");
    }
    SAY("packet pipe: each packet by itself");
    return finish(7);
}
