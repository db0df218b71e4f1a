// The forward in 16-bit fixed point, from float32 to float32; included after adder2d_kernels.hpp and vector_math.hpp.
// Two terms fit where float32 has one, and an instruction adds pairs of products with one (vpdpwssd, vpmaddwd).
//
// The grid depends on the input as a whole, so a tile of a picture may differ from the whole by what is rounded: inference,
// where that would be seen, sums in float32 (unit_tail.hpp).
//
// Input and filters share a grid of 2^16 values over the narrower of their two ranges. Where only one of the two lies
// beyond it, |x - w| is linear in what lies beyond, which is summed in float32: once for a filter, once for a window.
// So the error is that of rounding to the grid: at most a step for each term, and as errors of terms cancel, about
// 0.4 step sqrt(K) for K terms. The sums themselves are exact.
//
// A pixel's record is its channels in pairs, then the sum of its levels, then the bits of its excess.
//
// The includer defines a struct Fixed with reg, load, set1, zero and add as Terms has them (adder2d_kernels.hpp), for
// Word = int32_t, a pair of levels.

// Beyond this many terms the sums could leave 32 bits.
constexpr int64_t kMostTerms = 32000;
// The largest step that is taken, in units of the mean magnitudes of input and filters together. It keeps the expected
// error below 1e-5 of the result for 50 terms and more; outliers in both would make the step larger.
constexpr double kLargestStep = 1.5e-4;

struct Range {
    float low = std::numeric_limits<float>::infinity(), high = -std::numeric_limits<float>::infinity();
    double magnitude = 0;
    bool finite = true;
};

inline Range range_of(const float* values, int64_t count, int threads) {
    const int64_t chunk = 1 << 14, chunks = ceil_div(count, chunk);
    std::vector<Range> parts(chunks);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < chunks; ++i) {
        const int64_t first = i * chunk, last = least(first + chunk, count);
        auto low = Vec::set1(values[first]), high = low, sum = Vec::zero(), unlike = Vec::zero();
        for (int64_t at = first; at < last; at += Vec::lanes) {
            const int64_t lanes = least(Vec::lanes, last - at);
            const auto rest = Vec::load_some(values + at, lanes);
            sum = Vec::add(sum, Vec::max(rest, Vec::sub(Vec::zero(), rest)));
            unlike = Vec::add(unlike, Vec::sub(rest, rest));  // 0 unless one of them is infinite or not a number
            // The lanes beyond the end are 0: they repeat the first value instead.
            auto value = rest;
            for (int64_t lane = lanes; lane < Vec::lanes; ++lane) value[lane] = values[first];
            low = Vec::min(low, value), high = Vec::max(high, value);
        }
        Range& part = parts[i];
        for (int lane = 0; lane < Vec::lanes; ++lane) {
            part.low = low[lane] < part.low ? low[lane] : part.low;
            part.high = high[lane] > part.high ? high[lane] : part.high;
            part.magnitude += sum[lane];
            part.finite = part.finite && unlike[lane] == 0;
        }
    }
    Range all;
    for (const Range& part : parts) {  // in this order, whatever the number of threads
        all.low = part.low < all.low ? part.low : all.low;
        all.high = part.high > all.high ? part.high : all.high;
        all.magnitude += part.magnitude;
        all.finite = all.finite && part.finite;
    }
    return all;
}

// Levels from -2^15 to 2^15 - 1.
struct Grid16 {
    float step, inverse_step, low;

    IntReg levels(Vec::reg value, Vec::reg& excess) const {
        const auto steps = Vec::sub(Vec::sub(value, Vec::set1(low)) * inverse_step, Vec::set1(32768.0f));
        const auto held = Vec::max(Vec::set1(-32768.0f), Vec::min(Vec::set1(32767.0f), steps));
        const auto beyond = Vec::sub(steps, held);
        excess = Vec::add(excess, Vec::max(beyond, Vec::sub(Vec::zero(), beyond)));
        return (bits_of(Vec::add(held, Vec::set1(kRounder))) << 10) >> 10;
    }
};

struct FixedTerms : Fixed {
    using Word = int32_t;
    const Word *x, *outside;
    int64_t words, depth;
    const int32_t* filter_sums;
    const float* filter_excess;
    float step;

    struct Window {
        int32_t sum;
        float excess;
    };
    Window window(const Word* const* rows, int64_t stride, int64_t taps) const {
        Window total{0, 0};
        for (int64_t tap = 0; tap < taps; ++tap, rows += stride) {
            float excess;
            std::memcpy(&excess, *rows + depth + 1, sizeof excess);
            total.sum += (*rows)[depth], total.excess += excess;
        }
        return total;
    }
    Vec::reg result(reg sum, Window window, int64_t o) const {
        IntReg filters;
        std::memcpy(&filters, filter_sums + o, sizeof filters);
        const IntReg distances = 2 * reinterpret_cast<IntReg>(sum) - window.sum - filters;
        const auto beyond = Vec::add(Vec::set1(window.excess), Vec::load(filter_excess + o));
        const auto steps = Vec::add(to_float(distances), beyond);
        return Vec::sub(Vec::zero(), steps * step);
    }
};

// The record of one pixel with c channels (see above). Channels that fill up the last pair are 0, as in filters.
inline void write_record(const Grid16& grid, const float* values, int64_t c, int32_t* record) {
    auto excess = Vec::zero();
    IntReg sum{};
    for (int64_t first = 0; first < c; first += Vec::lanes) {
        const int64_t lanes = least(Vec::lanes, c - first);
        auto beyond = Vec::zero();
        IntReg levels = grid.levels(Vec::load_some(values + first, lanes), beyond);
        for (int64_t lane = lanes; lane < Vec::lanes; ++lane) levels[lane] = 0, beyond[lane] = 0;
        excess = Vec::add(excess, beyond), sum += levels;
        using Halves = int16_t __attribute__((vector_size(Vec::lanes * 2)));
        const auto narrow = __builtin_convertvector(levels, Halves);
        std::memcpy(record + first / 2, &narrow, (lanes + 1) / 2 * sizeof *record);
    }
    int32_t total = 0;
    float beyond = 0;
    for (int lane = 0; lane < Vec::lanes; ++lane) total += sum[lane], beyond += excess[lane];
    record[(c + 1) / 2] = total;
    std::memcpy(record + (c + 1) / 2 + 1, &beyond, sizeof beyond);
}

// y = -sum |x - w|; weight (o, c, taps). False, and y untouched, where float32 has to be taken instead: for too many
// terms, values that are not finite, or outliers on both sides.
bool forward_fixed16(const Adder2dShape& s, const float* x, const float* weight, float* y, int threads) {
    const int64_t taps = s.kh * s.kw, pixels = s.n * s.h * s.w, values = taps * s.c;
    if (values > kMostTerms) return false;
    Range seen = range_of(x, pixels * s.c, threads), filters = range_of(weight, s.o * values, threads);
    if (!seen.finite || !filters.finite) return false;
    if (s.pad_h || s.pad_w) seen.low = seen.low < 0 ? seen.low : 0, seen.high = seen.high > 0 ? seen.high : 0;
    const double scale = seen.magnitude / (pixels * s.c) + filters.magnitude / (s.o * values);
    const float low = seen.low > filters.low ? seen.low : filters.low;
    const float high = seen.high < filters.high ? seen.high : filters.high;
    // Ranges that hardly meet, or not at all, leave little but excess; in much smaller steps it would overflow.
    const double overlap = (static_cast<double>(high) - low) / 65535, least_step = scale * 1e-6;
    const double step = overlap > least_step ? overlap : least_step;
    if (!(step > 0) || step > kLargestStep * scale || !(1 / step < 1e30)) return false;
    const Grid16 grid{static_cast<float>(step), static_cast<float>(1 / step), low};

    const int64_t depth = (s.c + 1) / 2, words = depth + 2;
    const std::unique_ptr<int32_t[]> records(new int32_t[(pixels + 1) * words]);  // a vector would fill it with zeros
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t pixel = 0; pixel < pixels; ++pixel) write_record(grid, x + pixel * s.c, s.c, &records[pixel * words]);
    const std::vector<float> zeros(s.c);
    write_record(grid, zeros.data(), s.c, &records[pixels * words]);

    // Filters as [block of Q vectors][tap][pair][Q * lanes]: each one's records, tap by tap, transposed.
    const int64_t widest = Vec::forward_vectors * Vec::lanes, padded = ceil_div(s.o, Vec::lanes) * Vec::lanes;
    CacheLines<int32_t> packed(padded * taps * depth);
    std::vector<int32_t> sums(padded), record(words);
    std::vector<float> excess(padded), channels(s.c);
    for (int64_t o = 0; o < s.o; ++o) {
        const int64_t block = o / widest * widest, width = least(widest, padded - block);
        for (int64_t tap = 0; tap < taps; ++tap) {
            for (int64_t c = 0; c < s.c; ++c) channels[c] = weight[(o * s.c + c) * taps + tap];
            write_record(grid, channels.data(), s.c, record.data());
            float beyond;
            std::memcpy(&beyond, &record[depth + 1], sizeof beyond);
            sums[o] += record[depth], excess[o] += beyond;
            for (int64_t pair = 0; pair < depth; ++pair)
                packed[block * taps * depth + (tap * depth + pair) * width + o - block] = record[pair];
        }
    }
    FixedTerms terms;
    terms.x = records.get(), terms.outside = &records[pixels * words];
    terms.words = words, terms.depth = depth;
    terms.filter_sums = sums.data(), terms.filter_excess = excess.data(), terms.step = grid.step;
    forward_to(s, terms, packed.data(), threads, [&](int64_t pixel, int64_t o, int64_t count, Vec::reg result) {
        Vec::store_some(y + pixel * s.o + o, result, count);
    });
    return true;
}
