/* Runs a command with an environment that few have: entries without a name, or without a value, a variable twice, and one
 * of the loader's that is there and empty.
 *
 *     odd_environment COMMAND [ARGUMENT]...
 */
#include <stdio.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
    char *list[1024] = {"TWICE=1", "=x", "alone", "", "LD_PRELOAD=", "TWICE=2", "==", "EMPTY="};
    int count = 8;
    if (argc < 2) return 2;
    for (char **one = environ; *one && count < 1023; one++) list[count++] = *one;
    environ = list;
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 127;
}
