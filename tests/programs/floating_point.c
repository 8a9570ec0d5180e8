/* Registers of a computation that makes no system call: x87, SSE, AVX, AVX-512, and how they round.
 *
 * Wrong would be: any register that differs after the checkpoint, a rounding mode or flush-to-zero bit at its default.
 * The whole time between READY and the end is spent in the computation, so that checkpoints fall into it; its result
 * must be bit by bit the one from before.
 */
#include "program.h"

#include <fenv.h>

#if defined __x86_64__
#include <immintrin.h>
#endif

enum { ROUNDS = 40 * 1000 * 1000 };

struct result {
    double scalar[4];
    long double x87[2];
    double wide[8];
    int64_t integers[4];
    unsigned control, rounding;
};

#if defined __x86_64__

/* Each keeps its values in registers of its kind for all of its rounds. */
__attribute__((target("avx512f"), noinline)) static void compute_512(double *out) {
    __m512d a = _mm512_set_pd(1, 2, 3, 4, 5, 6, 7, 8), b = _mm512_set1_pd(1.0000001), c = _mm512_set1_pd(1e-9);
    for (long i = 0; i < ROUNDS; i++) a = _mm512_add_pd(_mm512_mul_pd(a, b), c), b = _mm512_sub_pd(b, c);
    _mm512_storeu_pd(out, a);
}

__attribute__((target("avx"), noinline)) static void compute_256(double *out) {
    __m256d a = _mm256_set_pd(1, 2, 3, 4), b = _mm256_set1_pd(1.0000001), c = _mm256_set1_pd(1e-9);
    __m256d d = _mm256_set_pd(5, 6, 7, 8);
    for (long i = 0; i < ROUNDS; i++) {
        a = _mm256_add_pd(_mm256_mul_pd(a, b), c);
        d = _mm256_add_pd(_mm256_mul_pd(d, b), c);
        b = _mm256_sub_pd(b, c);
    }
    _mm256_storeu_pd(out, a);
    _mm256_storeu_pd(out + 4, d);
}
#endif

__attribute__((noinline)) static void compute_scalar(struct result *result) {
    double a = 1, b = 1.0000001, c = 1e-9, d = 3;
    long double x = 1, y = 1.0000001L;
    uint64_t p = 1, q = 2;
    for (long i = 0; i < ROUNDS; i++) {
        a = a * b + c;
        d = d / b - c;
        b = b - c;
        x = x * y + 1e-12L;
        y = y - 1e-16L;
        p = p * 6364136223846793005u + 1442695040888963407u;
        q ^= p >> 17;
    }
    result->scalar[0] = a, result->scalar[1] = b, result->scalar[2] = d;
    result->x87[0] = x, result->x87[1] = y;
    result->integers[0] = (int64_t)p, result->integers[1] = (int64_t)q;
}

static void compute(struct result *result) {
    memset(result, 0, sizeof *result);
    compute_scalar(result);
#if defined __x86_64__
    if (__builtin_cpu_supports("avx512f"))
        compute_512(result->wide);
    else if (__builtin_cpu_supports("avx"))
        compute_256(result->wide);
    result->control = _mm_getcsr() & ~0x3fu; /* without the flags of what has happened */
#endif
    result->rounding = fegetround();
}

static int same(const struct result *a, const struct result *b) {
    /* A long double has 10 bytes and padding that is nobody's. */
    for (int i = 0; i < 2; i++)
        if (memcmp(&a->x87[i], &b->x87[i], 10) != 0) return 0;
    return memcmp(a->scalar, b->scalar, sizeof a->scalar) == 0 && memcmp(a->wide, b->wide, sizeof a->wide) == 0 &&
           memcmp(a->integers, b->integers, sizeof a->integers) == 0 && a->control == b->control &&
           a->rounding == b->rounding;
}

int main(void) {
    struct result expected, nearest, now;
    compute(&nearest);
    MAKE(fesetround(FE_UPWARD) == 0);
#if defined __x86_64__
    _mm_setcsr(_mm_getcsr() | 0x8040); /* flush to zero, denormals are zero */
#endif
    compute(&expected);
    MAKE(!same(&expected, &nearest) && expected.rounding == FE_UPWARD);
    say_ready();
    do {
        compute(&now);
        CHECK(same(&now, &expected), "the result is bit by bit the same");
    } while (!told_to_go_on());
    compute(&now);
    CHECK(same(&now, &expected), "the result is bit by bit the same");
    SAY("floating point: scalar, x87 and vector results bit by bit the same, rounding upward, denormals as zero");
    return finish(7);
}
