/* Files that are written at their end, written in their middle, and read. What they hold after READY is said, not checked:
 * a restart decides what becomes of what was written after the checkpoint.
 */
#include "program.h"

static void say(const char *directory, const char *name) {
    char text[256] = {0};
    int file = open(in(directory, name), O_RDONLY);
    CHECK(file >= 0 && read(file, text, sizeof text - 1) >= 0, "%s", name);
    close(file);
    for (char *at = text; *at; at++)
        if (*at == '\n') *at = ' ';
    SAY("%s: %s", name, text);
}

int main(int argc, char **argv) {
    MAKE(argc == 2);
    int log = open(in(argv[1], "log"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    int out = open(in(argv[1], "out"), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int data = open(in(argv[1], "data"), O_RDWR | O_CREAT, 0640);
    int input = open(in(argv[1], "input"), O_RDWR | O_CREAT, 0644);
    MAKE(log >= 0 && out >= 0 && data >= 0 && write(input, "input\n", 6) == 6 && close(input) == 0);
    input = open(in(argv[1], "input"), O_RDONLY);
    MAKE(input >= 0 && dprintf(log, "before\n") == 7 && dprintf(out, "before\n") == 7);
    MAKE(pwrite(data, "before\n", 7, 0) == 7 && ftruncate(data, 300000) == 0);

    ready();

    say(argv[1], "data");
    say(argv[1], "input");
    CHECK(pwrite(data, "after!\n", 7, 0) == 7 && ftruncate(data, 400000) == 0, "data");
    CHECK(dprintf(log, "after\n") == 6 && dprintf(out, "after\n") == 6, "log and out");
    say(argv[1], "log");
    say(argv[1], "out");
    return finish(7);
}
