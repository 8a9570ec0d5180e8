/* C++: threads that throw exceptions through callbacks of the C library, catch them elsewhere with exception_ptr and
 * futures, and allocate all the time.
 *
 * Wrong would be a thread that ends in terminate(), a lost destructor, another sum.
 */
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

static std::atomic<long> living{0};

struct Guard {
    Guard() { living++; }
    ~Guard() { living--; }
};

struct Found : std::runtime_error {
    uint64_t number;
    explicit Found(uint64_t number) : std::runtime_error("found " + std::to_string(number)), number(number) {}
};

static thread_local int comparisons, throw_at;

static int compare(const void *a, const void *b) {
    Guard guard;
    uint64_t left = *static_cast<const uint64_t *>(a), right = *static_cast<const uint64_t *>(b);
    if (++comparisons == throw_at) throw Found(left ^ (right << 1));
    return left < right ? -1 : left > right;
}

/* Sorts until a comparison throws; the number that it throws, or the middle of what was sorted. */
static uint64_t sort_and_catch(uint64_t seed) {
    std::vector<uint64_t> numbers(100);
    for (auto &number : numbers) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        number = seed;
    }
    comparisons = 0;
    throw_at = 1 + static_cast<int>(seed % 1000);
    try {
        qsort(numbers.data(), numbers.size(), sizeof numbers[0], compare);
    } catch (const Found &found) {
        return found.number ^ std::string(found.what()).size();
    }
    return numbers[numbers.size() / 2];
}

static uint64_t work(int item) {
    uint64_t sum = item + 1;
    std::map<std::string, std::unique_ptr<uint64_t>> kept;
    for (int k = 0; k < 150; k++) {
        uint64_t number = sort_and_catch(sum * 0x9e3779b97f4a7c15u + k + 1);
        kept[std::to_string(number % 64)] = std::make_unique<uint64_t>(number);
        sum = sum * 1000003 ^ number;
    }
    for (const auto &[name, number] : kept) sum = sum * 31 + *number + name.size();
    if (item % 7 == 3) throw Found(sum);
    return sum;
}

int main() {
    const char *text = std::getenv("ZAP_JOB_SCALE");
    int items = static_cast<int>(1200 * (text ? std::atof(text) : 1.0));
    const int at_once = 4;
    uint64_t total = 0;
    int thrown = 0;
    for (int first = 0; first < items; first += at_once) {
        std::vector<std::future<uint64_t>> futures;
        for (int item = first; item < first + at_once && item < items; item++)
            futures.push_back(std::async(std::launch::async, work, item));
        for (auto &future : futures) {
            try {
                total = total * 1000003 ^ future.get();
            } catch (const Found &found) {
                thrown++;
                total = total * 1000003 ^ found.number;
            }
        }
        if ((first / at_once + 1) % (items / at_once / 10 + 1) == 0) {
            std::printf("%d items, %d thrown, %016" PRIx64 "\n", first + at_once, thrown, total);
            std::fflush(stdout);
        }
    }
    if (living != 0) {
        std::printf("FAIL: %ld destructors did not run\n", living.load());
        return 1;
    }
    std::printf("result: %d items, %d thrown, %016" PRIx64 "\n", items, thrown, total);
    return 17;
}
