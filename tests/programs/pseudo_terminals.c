/* Pseudo terminals that are nobody's controlling terminal: fresh ones, with what waits in both directions, with one end closed, and
 * one whose slave a child reads.
 *
 * Wrong would be: another number or mode, a line that is lost, joined with another or no longer half typed, an echo that comes
 * twice, an end of file that is forgotten, a terminal that is closed and was not, or the other way round.
 */
#include "program.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

struct pair {
    int master, slave;
    char name[64];
    struct termios modes;
};

static struct pair make(int with_slave) {
    struct pair pair = {.slave = -1};
    pair.master = posix_openpt(O_RDWR | O_NOCTTY);
    MAKE(pair.master >= 0 && grantpt(pair.master) == 0 && unlockpt(pair.master) == 0);
    MAKE(ptsname_r(pair.master, pair.name, sizeof pair.name) == 0);
    if (with_slave) {
        pair.slave = open(pair.name, O_RDWR | O_NOCTTY);
        MAKE(pair.slave >= 0);
    }
    MAKE(tcgetattr(pair.master, &pair.modes) == 0);
    return pair;
}

static int events(int fd, short wanted, int patience) {
    struct pollfd entry = {fd, wanted, 0};
    CHECK(poll(&entry, 1, patience) >= 0, "poll");
    return entry.revents;
}

/* Reads give `text` in all. */
static void gives_in_parts(int fd, const char *text, const char *what) {
    static char buffer[4001];
    size_t length = 0, whole = strlen(text);
    while (length < whole) {
        CHECK(events(fd, POLLIN, 5000) & POLLIN, "%s: nothing to read after %zu bytes", what, length);
        ssize_t count = read(fd, buffer + length, whole - length);
        CHECK(count > 0, "%s: read", what);
        length += (size_t)count;
    }
    CHECK(memcmp(buffer, text, whole) == 0, "%s: read %.*s", what, length < 60 ? (int)length : 60, buffer);
}

/* The next read gives `text`, and no more. */
static void gives(int fd, const char *text, const char *what) {
    char buffer[9000];
    CHECK(events(fd, POLLIN, 5000) & POLLIN, "%s: nothing to read", what);
    ssize_t length = read(fd, buffer, sizeof buffer);
    CHECK(length == (ssize_t)strlen(text) && memcmp(buffer, text, length) == 0, "%s: read %zd bytes, %.*s", what, length,
          length > 0 ? (int)(length < 60 ? length : 60) : 0, buffer);
}

static void gives_nothing(int fd, const char *what) {
    CHECK((events(fd, POLLIN, 50) & (POLLIN | POLLHUP)) == 0, "%s: there is something to read", what);
}

/* Without waiting in the kernel, which wakes nobody when it has moved on what it has. */
static void types(int fd, const char *text) {
    int flags = fcntl(fd, F_GETFL);
    CHECK(fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0, "O_NONBLOCK");
    for (size_t length = strlen(text), done = 0; done < length;) {
        ssize_t count = write(fd, text + done, length - done);
        CHECK(count > 0 || errno == EAGAIN, "write");
        if (count < 0) usleep(1000);
        else done += (size_t)count;
    }
    CHECK(fcntl(fd, F_SETFL, flags) == 0, "the flags");
}

static void is_as_before(struct pair *pair, const char *what) {
    struct termios now = {0};
    char name[64];
    CHECK(ptsname_r(pair->master, name, sizeof name) == 0 && strcmp(name, pair->name) == 0, "%s: is %s", what, name);
    CHECK(tcgetattr(pair->master, &now) == 0 && memcmp(&now, &pair->modes, sizeof now) == 0, "%s: its modes", what);
    struct stat of_name, of_slave;
    int number;
    CHECK(stat(pair->name, &of_name) == 0 && S_ISCHR(of_name.st_mode) && access(pair->name, R_OK) == 0, "%s: stat", what);
    CHECK(ioctl(pair->master, TIOCGPTN, &number) == 0 && number == atoi(pair->name + strlen("/dev/pts/")), "%s: is number %d", what,
          number);
    if (pair->slave < 0) return;
    char path[64], link[64] = {0};
    snprintf(path, sizeof path, "/proc/self/fd/%d", pair->slave);
    CHECK(readlink(path, link, sizeof link - 1) == (ssize_t)strlen(pair->name) && strcmp(link, pair->name) == 0, "%s: leads to %s, not %s", what,
          link, pair->name);
    CHECK(strcmp(ttyname(pair->slave), pair->name) == 0 && strcmp(ptsname(pair->master), pair->name) == 0, "%s: ttyname", what);
    CHECK(ttyname_r(pair->slave, name, sizeof name) == 0 && strcmp(name, pair->name) == 0, "%s: ttyname_r", what);
    CHECK(fstat(pair->slave, &of_slave) == 0 && of_slave.st_rdev == of_name.st_rdev, "%s: its name leads elsewhere", what);
}

int main(void) {
    int locked;
    // A slave whose master is closed.
    struct pair orphan = make(1);
    MAKE(close(orphan.master) == 0);
    // One that nobody has unlocked, and one that nobody has opened.
    int fresh = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    MAKE(fresh >= 0);
    struct pair unopened = make(0);

    // Lines, one of them half typed; what was echoed has been read, what was printed has not.
    struct pair lines = make(1);
    struct winsize size = {33, 77, 5, 6}, found;
    MAKE(ioctl(lines.master, TIOCSWINSZ, &size) == 0 && fchmod(lines.slave, 0602) == 0);
    lines.modes.c_cc[VERASE] = '#';
    lines.modes.c_iflag |= IUTF8;
    MAKE(tcsetattr(lines.slave, TCSANOW, &lines.modes) == 0);
    types(lines.master, "one\n\ntwo\nhalb");
    gives_in_parts(lines.master, "one\r\n\r\ntwo\r\nhalb", "the echo");
    types(lines.slave, "printed\n");
    int copy = dup(lines.slave), other = open(lines.name, O_RDONLY | O_NOCTTY | O_NONBLOCK);
    MAKE(copy >= 0 && other >= 0);

    // An end of file after a line and in the middle of one.
    struct pair ends = make(1);
    ends.modes.c_lflag &= ~(tcflag_t)ECHO;
    MAKE(tcsetattr(ends.slave, TCSANOW, &ends.modes) == 0);
    types(ends.master, "a line\n\004no line\004\004typed \026\004 as it is\nrest");

    // Characters that end lines, as such and as characters of a line.
    struct pair odd = make(1);
    odd.modes.c_lflag &= ~(tcflag_t)ECHO;
    odd.modes.c_cc[VEOL] = ';';
    odd.modes.c_cc[VEOL2] = ':';
    MAKE(tcsetattr(odd.slave, TCSANOW, &odd.modes) == 0);
    types(odd.master, "a;b:c\n\026\nd\026;\026:\026\004\026\003\026\026x;last\004");

    // No lines: VMIN and VTIME are 0, a read waits for nothing.
    struct pair raw = make(1);
    cfmakeraw(&raw.modes);
    raw.modes.c_cc[VMIN] = raw.modes.c_cc[VTIME] = 0;
    MAKE(tcsetattr(raw.slave, TCSANOW, &raw.modes) == 0);
    types(raw.master, "\003\004\r\n\021typed");
    char much[3001];
    memset(much, 'm', 3000);
    memcpy(much, "\n\377out", 5);
    much[3000] = 0;
    types(raw.slave, much);

    // As much as a line discipline takes, both ways.
    struct pair full = make(1);
    cfmakeraw(&full.modes);
    full.modes.c_lflag |= ECHO;
    full.modes.c_iflag |= IXON;
    MAKE(tcsetattr(full.slave, TCSANOW, &full.modes) == 0);
    static char long_text[4001], echo[4001];
    memset(long_text, 'a', 4000);
    for (int i = 0; i < 4000; i += 100) snprintf(long_text + i, 9, "<%06d>", i), long_text[i + 8] = 'a';
    types(full.master, long_text);
    size_t echoed = 0;
    while (echoed < 4000) {
        ssize_t length = read(full.master, echo + echoed, 4000 - echoed);
        MAKE(length > 0);
        echoed += (size_t)length;
    }
    MAKE(memcmp(echo, long_text, 4000) == 0);
    gives_nothing(full.master, "no more of an echo");
    types(full.slave, long_text);

    // The slave has been closed, and what it printed is there.
    struct pair closed = make(1);
    types(closed.slave, "last words\n");
    MAKE(close(closed.slave) == 0);
    closed.slave = -1;

    // A child waits for a line.
    struct pair conversation = make(1);
    pid_t child = fork();
    if (child == 0) {
        char line[100];
        close(conversation.master);
        for (;;) {
            ssize_t length = read(conversation.slave, line, sizeof line);
            if (length <= 0 || write(conversation.slave, line, (size_t)length) != length || line[0] == 'q') _exit(length > 0 ? 3 : 4);
        }
    }
    MAKE(child > 0 && close(conversation.slave) == 0);
    conversation.slave = -1;
    types(conversation.master, "hello\n");
    gives_in_parts(conversation.master, "hello\r\nhello\r\n", "the echo and the child");
    types(conversation.master, "by");
    gives_in_parts(conversation.master, "by", "the echo");

    ready();

    CHECK(events(orphan.slave, POLLIN, 0) & POLLHUP, "the slave without a master");
    char byte;
    CHECK(read(orphan.slave, &byte, 1) == 0 && write(orphan.slave, "x", 1) == -1 && errno == EIO, "what it reads and writes");
    CHECK(ioctl(fresh, TIOCGPTLCK, &locked) == 0 && locked, "the fresh one is locked");
    is_as_before(&unopened, "the one that nobody has opened");
    gives_nothing(unopened.master, "the one that nobody has opened");
    unopened.slave = open(unopened.name, O_RDWR | O_NOCTTY);
    CHECK(unopened.slave >= 0, "its slave");
    types(unopened.slave, "now");
    gives(unopened.master, "now", "the one that nobody had opened");

    struct stat stat;
    is_as_before(&lines, "the one with lines");
    CHECK(ioctl(lines.slave, TIOCGWINSZ, &found) == 0 && memcmp(&found, &size, sizeof size) == 0, "its size");
    CHECK(fstat(lines.slave, &stat) == 0 && (stat.st_mode & 07777) == 0602, "its mode: %o", stat.st_mode);
    gives(lines.master, "printed\r\n", "what was printed");
    gives(lines.slave, "one\n", "the first line");
    gives(copy, "\n", "the second");
    gives(other, "two\n", "the third");
    CHECK(read(other, much, 1) == -1 && errno == EAGAIN, "what waits for nobody");
    gives_nothing(lines.slave, "half a line");
    types(lines.master, "#f a line\n");
    gives(lines.slave, "half a line\n", "the last line");
    gives_in_parts(lines.master, "\b \bf a line\r\n", "its echo");

    is_as_before(&ends, "the one with ends of files");
    gives(ends.slave, "a line\n", "the line before the end");
    CHECK(events(ends.slave, POLLIN, 1000) && read(ends.slave, much, 10) == 0, "the end of a file");
    gives(ends.slave, "no line", "what an end of file has ended");
    CHECK(events(ends.slave, POLLIN, 1000) && read(ends.slave, much, 10) == 0, "the second end");
    gives(ends.slave, "typed \004 as it is\n", "an end of file that is a character");
    gives_nothing(ends.slave, "the rest");
    types(ends.master, "\n");
    gives(ends.slave, "rest\n", "the rest");
    gives_nothing(ends.master, "an echo");

    is_as_before(&odd, "the one with odd ends");
    gives(odd.slave, "a;", "a line by VEOL");
    gives(odd.slave, "b:", "a line by VEOL2");
    gives(odd.slave, "c\n", "a line");
    gives(odd.slave, "\nd;:\004\003\026x;", "characters as they are");
    gives(odd.slave, "last", "an end of file that comes last");
    gives_nothing(odd.slave, "nothing more");

    is_as_before(&raw, "the one without lines");
    gives(raw.slave, "\003\004\r\n\021typed", "what was typed");
    CHECK(read(raw.slave, much, 10) == 0, "nothing is left");
    memset(much, 'm', 3000);
    memcpy(much, "\n\377out", 5);
    gives_in_parts(raw.master, much, "much that was printed");
    gives_nothing(raw.master, "what was printed twice");

    is_as_before(&full, "the full one");
    gives_in_parts(full.master, long_text, "much that was printed");
    gives_nothing(full.master, "more than was printed");
    gives_in_parts(full.slave, long_text, "much that was typed");
    gives_nothing(full.slave, "more than was typed");
    is_as_before(&closed, "the closed one");
    gives(closed.master, "last words\r\n", "the last words");
    CHECK(read(closed.master, much, 10) == -1 && errno == EIO, "after the last words");

    is_as_before(&conversation, "the one of a child");
    types(conversation.master, "e\n");
    gives_in_parts(conversation.master, "e\r\nbye\r\n", "the echo, and what the child says");
    types(conversation.master, "q\n");
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3, "the child: %x", status);
    // New ones have names of their own, and take nobody's.
    struct pair *all[] = {&unopened, &lines, &ends, &raw, &closed, &conversation};
    struct pair more[8];
    for (int i = 0; i < 8; i++) {
        more[i] = make(1);
        is_as_before(&more[i], "a new one");
        for (int j = 0; j < 6; j++) CHECK(strcmp(more[i].name, all[j]->name) != 0, "two are %s", more[i].name);
        for (int j = 0; j < i; j++) CHECK(strcmp(more[i].name, more[j].name) != 0, "two new ones are %s", more[i].name);
    }
    for (int i = 0; i < 8; i++) {
        types(more[i].slave, "mine");
        gives(more[i].master, "mine", "a new one");
    }
    SAY("pseudo terminals: lines, half a line, ends, bytes, both directions");
    return finish(7);
}
