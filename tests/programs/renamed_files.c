/* What has been renamed since it was opened: a file, and one that was in its place, a directory on the way to a file, the working
 * directory.
 *
 * Wrong would be: a refused checkpoint, or the file that has the old name now.
 */
#include "program.h"

static void compare(int descriptor, const char *name, const char *text) {
    struct stat own, there;
    char word[16] = "";
    CHECK(fstat(descriptor, &own) == 0 && stat(name, &there) == 0 && own.st_ino == there.st_ino, "%s: another file", name);
    CHECK(pread(descriptor, word, sizeof word - 1, 0) > 0 && strcmp(word, text) == 0, "%s: %s", name, word);
    CHECK(lseek(descriptor, 0, SEEK_CUR) == (off_t)strlen(text), "%s: offset", name);
}

static int made(const char *path, const char *text) {
    int file = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    MAKE(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    return file;
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: renamed_files DIRECTORY");
    MAKE(chdir(argv[1]) == 0);
    int oldest = made("log", "oldest");
    MAKE(rename("log", "log.1") == 0);
    int middle = made("log", "middle");
    MAKE(rename("log.1", "log.2") == 0 && rename("log", "log.1") == 0);
    int newest = made("log", "newest");
    /* The one below had the name before, and has none now; the one above has it. */
    int replaced = made("replaced", "below");
    int replacing = made("replacing", "above");
    MAKE(rename("replacing", "replaced") == 0);
    MAKE(mkdir("directory", 0700) == 0);
    int inner = made("directory/inner", "inner");
    MAKE(chdir("directory") == 0 && rename("../directory", "../moved") == 0 && mkdir("../directory", 0700) == 0);
    int other = made("../directory/inner", "other");

    ready();

    compare(inner, "inner", "inner");
    compare(other, "../directory/inner", "other");
    CHECK(chdir("..") == 0, "the way up");
    compare(inner, "moved/inner", "inner");
    compare(oldest, "log.2", "oldest");
    compare(middle, "log.1", "middle");
    compare(newest, "log", "newest");
    compare(replacing, "replaced", "above");
    struct stat gone;
    char word[16] = "";
    CHECK(fstat(replaced, &gone) == 0 && gone.st_nlink == 0 && pread(replaced, word, 15, 0) == 5, "the one below");
    CHECK(strcmp(word, "below") == 0, "the one below: %s", word);
    SAY("renamed files: where they have gone");
    return finish(8);
}
