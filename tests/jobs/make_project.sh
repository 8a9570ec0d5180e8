# A project in C of 48 sources, a library and a program, built by make with four jobs: a jobserver's pipe, compilers that
# make compilers by vfork, recursive makes. Objects and the program's output are the same every time.

set -e
dir=$1
mkdir -p "$dir/src" "$dir/lib"
cd "$dir"
generate() {
    awk -v part="$1" 'BEGIN {
        print "#include <stdio.h>\n#include <string.h>\n#include <stdlib.h>\n"
        for (f = 0; f < 40; f++) {
            printf "unsigned part_%s_%d(unsigned x) {\n", part, f
            printf "    unsigned table[64], sum = %d;\n", f * 77
            printf "    for (unsigned i = 0; i < 64; i++) table[i] = (x + i) * %du;\n", f * 2654435761 % 65521 + 3
            printf "    for (unsigned i = 0; i < 64; i++) sum = sum * 31 + (table[i] ^ table[(i * 7) %% 64]) %% %du;\n", f + 11
            print "    char text[32];\n    snprintf(text, sizeof text, \"%u\", sum);"
            print "    switch (strlen(text)) {"
            for (c = 1; c < 12; c++) printf "    case %d: return sum + %d;\n", c, c * f
            print "    default: return sum;\n    }\n}\n"
        }
        printf "unsigned part_%s(unsigned x) {\n", part
        for (f = 0; f < 40; f++) printf "    x = part_%s_%d(x);\n", part, f
        print "    return x;\n}"
    }'
}
parts="01 02 03 04 05 06 07 08 09 10 11 12"
for part in $parts; do generate $part > src/part_$part.c; done
for part in $parts; do generate lib_$part > lib/part_lib_$part.c; done
{
    echo '#include <stdio.h>'
    for part in $parts; do echo "unsigned part_$part(unsigned), part_lib_$part(unsigned);"; done
    echo 'int main(void) {'
    echo '    unsigned x = 1;'
    for part in $parts; do
        printf '    x = part_lib_%s(part_%s(x)), printf("%%u\\n", x);\n' $part $part
    done
    echo '    return 0;'
    echo '}'
} > src/main.c
cat > Makefile <<'END'
objects = $(sort $(patsubst %.c,%.o,$(wildcard src/*.c)))
program: $(objects) lib/libparts.a
	$(CC) -o $@ $^
lib/libparts.a:
	+$(MAKE) -s --no-print-directory -C lib libparts.a
src/main.o: src/main.c
	$(CC) -pipe -O2 -c -o $@ $<
%.o: %.c
	$(CC) -O2 -c -o $@ $<
.PHONY: lib/libparts.a
END
cat > lib/Makefile <<'END'
objects = $(sort $(patsubst %.c,%.o,$(wildcard *.c)))
libparts.a: $(objects)
	ar crD $@ $^
%.o: %.c
	$(CC) -O2 -c -o $@ $<
END
make -s -j4 CC=gcc
echo "make: $?"
cat src/*.o lib/*.o lib/libparts.a | sha256sum
./program
make -q CC=gcc || echo "make -q: $?"
exit 46
