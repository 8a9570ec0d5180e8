/* A member that has become another user writes into the pod's table where its coordinator is to be found, and listens
 * there itself: nobody else has to give his memory away to it.
 *
 * In the first round a checkpoint must be refused, since the coordinator is not reached, and nobody may have connected
 * and stayed. In the second the table is as it was.
 */
#include "program.h"

#include <grp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The place of `door` in the table (docs/wire-protocol.md), and its length. */
#define DOOR 80
#define DOOR_LENGTH 8

static char *table(void) {
    static char line[8192];
    FILE *maps = fopen("/proc/self/maps", "r");
    char *found = NULL;
    MAKE(maps != NULL);
    while (found == NULL && fgets(line, sizeof line, maps) != NULL) {
        if (strstr(line, ".table") != NULL) found = (char *)strtoul(line, NULL, 16);
    }
    fclose(maps);
    return found != NULL && memcmp(found, "ZAPTABLE", 8) == 0 ? found : NULL;
}

int main(void) {
    if (geteuid() != 0) return SKIPPED;
    MAKE(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
    MAKE(listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
    MAKE(listen(listener, 5) == 0 && getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    /* The family, a NUL, the name. */
    size_t name = length - sizeof(sa_family_t) - 1;
    MAKE(name <= DOOR_LENGTH);
    char *place = table(), before[DOOR_LENGTH];
    if (place != NULL) {
        memcpy(before, place + DOOR, DOOR_LENGTH);
        memset(place + DOOR, 0, DOOR_LENGTH);
        memcpy(place + DOOR, address.sun_path + 1, name);
    }

    ready();

    int client;
    while ((client = accept(listener, NULL, NULL)) >= 0) {
        char byte;
        CHECK(recv(client, &byte, 1, MSG_DONTWAIT) == 0, "whoever connects says nothing, and hangs up");
        close(client);
    }
    if (place != NULL) memcpy(place + DOOR, before, DOOR_LENGTH);
    CHECK(close(listener) == 0, "close");
    SAY("redirected: nobody has said anything");

    ready();

    CHECK(getuid() == 65534, "who the program is: %d", (int)getuid());
    SAY("redirected: still the other user");
    return finish(7);
}
