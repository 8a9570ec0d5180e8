/* Messages that wait in Unix sockets and tell who has sent them (SO_PASSCRED): a child, by its process id.
 *
 * Wrong would be: a checkpoint that takes them and puts them back as the program's own, also one that is refused.
 */
#include "program.h"

#include <sys/socket.h>
#include <sys/wait.h>

enum { PAIRS = 3 };
static const int kinds[PAIRS] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};

/* The process that has sent what is received. */
static pid_t sender(int socket) {
    char byte;
    union {
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr header;
    } control = {.header = {0}};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct ucred from;
    CHECK(recvmsg(socket, &message, MSG_DONTWAIT) == 1 && byte == 'x', "recvmsg");
    CHECK(control.header.cmsg_type == SCM_CREDENTIALS, "no credentials");
    memcpy(&from, CMSG_DATA(&control.header), sizeof from);
    CHECK(from.uid == getuid() && from.gid == getgid(), "user %d, group %d", (int)from.uid, (int)from.gid);
    return from.pid;
}

int main(void) {
    int pairs[PAIRS][2], sent[2], end[2], one = 1;
    char byte;
    MAKE(pipe(sent) == 0 && pipe(end) == 0);
    for (int i = 0; i < PAIRS; i++) {
        MAKE(socketpair(AF_UNIX, kinds[i], 0, pairs[i]) == 0);
        MAKE(setsockopt(pairs[i][1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0);
    }
    pid_t child = fork();
    MAKE(child != -1);
    if (child == 0) {
        close(end[1]);
        for (int i = 0; i < PAIRS; i++) MAKE(send(pairs[i][0], "x", 1, 0) == 1);
        MAKE(write(sent[1], "", 1) == 1 && read(end[0], &byte, 1) == 0);
        _exit(0);
    }
    MAKE(read(sent[0], &byte, 1) == 1);

    ready();

    for (int i = 0; i < PAIRS; i++) CHECK(sender(pairs[i][1]) == child, "kind %d: another process's", kinds[i]);
    SAY("credentials on their way: the child's");

    ready();

    for (int i = 0; i < PAIRS; i++) {
        MAKE(send(pairs[i][0], "x", 1, 0) == 1);
        CHECK(sender(pairs[i][1]) == getpid(), "kind %d: not the program's own", kinds[i]);
    }
    close(end[1]);
    CHECK(waitpid(child, NULL, 0) == child, "waitpid");
    SAY("credentials on their way: those of new messages");
    return finish(7);
}
