/* A server as there are many: it writes its pid file, refuses to begin if there is one of another that lives, and listens at a socket
 * with a fixed name. A client of its own asks for its name.
 *
 * private_server DIRECTORY NAME
 */
#include "program.h"

#include <limits.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

int main(int argc, char **argv) {
    CHECK(argc == 3, "usage: private_server DIRECTORY NAME");
    char file[PATH_MAX], text[64];
    snprintf(file, sizeof file, "%s/server.pid", argv[1]);
    int descriptor = open(file, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK(descriptor >= 0, "%s: %s", file, strerror(errno));
    snprintf(text, sizeof text, "%d\n", (int)getpid());
    MAKE(write(descriptor, text, strlen(text)) > 0 && close(descriptor) == 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s/socket", argv[1]);
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(server, (struct sockaddr *)&name, sizeof name) == 0, "%s: %s", name.sun_path, strerror(errno));
    MAKE(listen(server, 4) == 0);
    ready();
    pid_t child = fork();
    if (child == 0) {
        char answer[64] = "";
        int client = socket(AF_UNIX, SOCK_STREAM, 0);
        CHECK(connect(client, (struct sockaddr *)&name, sizeof name) == 0, "%s: %s", name.sun_path, strerror(errno));
        MAKE(read(client, answer, sizeof answer - 1) > 0);
        printf("answered by %s\n", answer);
        fflush(stdout);
        _exit(0);
    }
    int accepted = accept(server, NULL, NULL), status;
    MAKE(accepted >= 0 && write(accepted, argv[2], strlen(argv[2])) > 0 && close(accepted) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the client");
    CHECK(unlink(file) == 0 && unlink(name.sun_path) == 0, "%s: %s", file, strerror(errno));
    puts("OK");
    return 0;
}
