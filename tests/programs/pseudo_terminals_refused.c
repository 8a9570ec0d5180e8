/* Pseudo terminals that cannot be made again as they are, one kind for each argument; the program goes on with what it has.
 *
 *     session    it is the controlling terminal of a child's session
 *     packet     its master is read in packet mode
 *     stopped    its output is stopped
 */
#include "program.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "";
    int master = posix_openpt(O_RDWR | O_NOCTTY), on = 1, status;
    MAKE(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    MAKE(slave >= 0);
    pid_t child = 0;
    char text[100];
    if (strcmp(kind, "session") == 0) {
        int wait_for[2];
        MAKE(pipe(wait_for) == 0);
        child = fork();
        if (child == 0) {
            if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) != 0 || write(wait_for[1], "x", 1) != 1) _exit(1);
            char byte;
            _exit(read(slave, &byte, 1) == 1 && byte == 'y' ? 3 : 4);
        }
        MAKE(child > 0 && read(wait_for[0], text, 1) == 1);
    } else if (strcmp(kind, "packet") == 0) {
        MAKE(ioctl(master, TIOCPKT, &on) == 0);
    } else if (strcmp(kind, "stopped") == 0) {
        MAKE(write(slave, "printed", 7) == 7 && tcflow(slave, TCOOFF) == 0);
    }

    ready();

    if (strcmp(kind, "session") == 0) {
        CHECK(write(master, "y\n", 2) == 2, "write");
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3, "the child: %x", status);
    } else if (strcmp(kind, "packet") == 0) {
        CHECK(write(slave, "data", 4) == 4 && read(master, text, sizeof text) == 5 && memcmp(text, "\0data", 5) == 0, "a packet");
    } else if (strcmp(kind, "stopped") == 0) {
        CHECK(tcflow(slave, TCOON) == 0 && read(master, text, sizeof text) == 7, "what was printed");
    }
    SAY("%s: as before", kind);
    // Now it is given up.
    MAKE(close(master) == 0 && close(slave) == 0);
    ready();
    SAY("%s: given up", kind);
    return finish(7);
}
