/* Writes the input of the compressing jobs to standard output: as many MiB as asked for, always the same bytes, of
 * which a part repeats and a part does not, so that a compressor has something to do and finds something.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (1 << 20)

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

int main(int argc, char **argv) {
    static char words[4096][12], piece[PIECE + 4096];
    const char *scale = getenv("ZAP_JOB_SCALE");
    int mebibytes = argc == 2 ? (int)(atoi(argv[1]) * (scale ? atof(scale) : 1.0)) : 0;
    if (mebibytes <= 0) return fprintf(stderr, "usage: make_input MEBIBYTES\n"), 2;
    for (int i = 0; i < 4096; i++)
        for (int k = 0, length = 2 + next() % 9; k < length; k++) words[i][k] = "etaoinshrdlucmfwyp"[next() % 18];
    for (int i = 0; i < mebibytes; i++) {
        size_t length = 0;
        while (length < PIECE) {
            uint64_t number = next();
            if (number % 64 == 0)
                length += sprintf(piece + length, "%016llx\n", (unsigned long long)next());
            else if (number % 64 == 1 && length > 5000) {
                size_t from = next() % (length - 300);
                memmove(piece + length, piece + from, 200);
                length += 200;
            } else
                /* Short words are more frequent than others. */
                length += sprintf(piece + length, "%s ", words[(number >> 8) % (1 + (number >> 32) % 4096)]);
        }
        if (fwrite(piece, 1, PIECE, stdout) != PIECE) return perror("make_input"), 1;
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
