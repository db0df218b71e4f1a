// The forward in 16-bit fixed point, from float32 to float32; included after adder2d_kernels.hpp and vector_math.hpp. Two terms fit where
// float32 has one, and an instruction adds pairs of products with one (vpdpwssd, vpmaddwd).
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

inline int64_t pairs(const Adder2dShape& s) { return (s.c + 1) / 2; }
inline int64_t record_words(const Adder2dShape& s) { return pairs(s) + 2; }

// The records of all pixels, and behind them that of the outside.
void write_records(const Adder2dShape& s, const Grid16& grid, const float* x, int32_t* records, int threads) {
    const int64_t pixels = s.n * s.h * s.w, words = record_words(s);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t pixel = 0; pixel < pixels; ++pixel) write_record(grid, x + pixel * s.c, s.c, records + pixel * words);
    const std::vector<float> zeros(s.c);
    write_record(grid, zeros.data(), s.c, records + pixels * words);
}

// The grid for these values. False where float32 has to be taken instead: for too many terms, values that are not finite,
// or outliers on both sides.
bool common_grid(const Adder2dShape& s, const float* x, const float* weight, Grid16& grid, int threads) {
    const int64_t values = s.kh * s.kw * s.c, count = s.n * s.h * s.w * s.c;
    if (values > kMostTerms) return false;
    Range seen = range_of(x, count, threads), filters = range_of(weight, s.o * values, threads);
    if (!seen.finite || !filters.finite) return false;
    if (s.pad_h || s.pad_w) seen.low = seen.low < 0 ? seen.low : 0, seen.high = seen.high > 0 ? seen.high : 0;
    const double scale = seen.magnitude / count + filters.magnitude / (s.o * values);
    const float low = seen.low > filters.low ? seen.low : filters.low;
    const float high = seen.high < filters.high ? seen.high : filters.high;
    // Ranges that hardly meet, or not at all, leave little but excess; in much smaller steps it would overflow.
    const double overlap = (static_cast<double>(high) - low) / 65535, least_step = scale * 1e-6;
    const double step = overlap > least_step ? overlap : least_step;
    if (!(step > 0) || step > kLargestStep * scale || !(1 / step < 1e30)) return false;
    grid = {static_cast<float>(step), static_cast<float>(1 / step), low};
    return true;
}

// Where the pieces lie in the room that a call works in: the filters' levels as [block of Q vectors][tap][pair]
// [Q * lanes], that is each filter's records, tap by tap, transposed; the sums of the levels, and of the excess, of each
// filter; the records of all pixels, and behind them that of the outside.
struct Fixed16Room {
    int32_t *packed, *sums;
    float* excess;
    int32_t* records;
    int64_t words;

    Fixed16Room(const Adder2dShape& s, int32_t* at) {
        const int64_t padded = ceil_div(s.o, Vec::lanes) * Vec::lanes, levels = padded * s.kh * s.kw * pairs(s);
        packed = at, sums = packed + levels, excess = reinterpret_cast<float*>(sums + padded);
        records = sums + 2 * padded;
        words = levels + 2 * padded + (s.n * s.h * s.w + 1) * record_words(s);
    }
};

int64_t fixed16_words(const Adder2dShape& s) { return Fixed16Room(s, nullptr).words; }

// weight (o, c, taps)
void pack_fixed16(const Adder2dShape& s, const Grid16& grid, const float* weight, const Fixed16Room& room) {
    const int64_t taps = s.kh * s.kw, depth = pairs(s), padded = ceil_div(s.o, Vec::lanes) * Vec::lanes;
    const int64_t widest = Vec::forward_vectors * Vec::lanes;
    std::vector<float> channels(s.c);
    std::vector<int32_t> record(record_words(s));
    std::memset(room.packed, 0, (padded * taps * depth + 2 * padded) * sizeof *room.packed);
    for (int64_t o = 0; o < s.o; ++o) {
        const int64_t block = o / widest * widest, width = least(widest, padded - block);
        for (int64_t tap = 0; tap < taps; ++tap) {
            for (int64_t c = 0; c < s.c; ++c) channels[c] = weight[(o * s.c + c) * taps + tap];
            write_record(grid, channels.data(), s.c, record.data());
            float beyond;
            std::memcpy(&beyond, &record[depth + 1], sizeof beyond);
            room.sums[o] += record[depth], room.excess[o] += beyond;
            for (int64_t pair = 0; pair < depth; ++pair)
                room.packed[block * taps * depth + (tap * depth + pair) * width + o - block] = record[pair];
        }
    }
}

// Call finish as forward_to does. False, and finish never called, where common_grid is.
template <class Finish>
bool forward_fixed16_to(const Adder2dShape& s, const float* x, const float* weight, int32_t* words, int threads,
                        const Finish& finish) {
    Grid16 grid;
    if (!common_grid(s, x, weight, grid, threads)) return false;
    const Fixed16Room room(s, words);
    pack_fixed16(s, grid, weight, room);
    write_records(s, grid, x, room.records, threads);
    FixedTerms terms;
    terms.x = room.records, terms.outside = room.records + s.n * s.h * s.w * record_words(s);
    terms.words = record_words(s), terms.depth = pairs(s);
    terms.filter_sums = room.sums, terms.filter_excess = room.excess, terms.step = grid.step;
    forward_to(s, terms, room.packed, threads, finish);
    return true;
}

// y = -sum |x - w|; weight (o, c, taps). False, and y untouched, where common_grid is.
bool forward_fixed16(const Adder2dShape& s, const float* x, const float* weight, float* y, int32_t* words,
                     int threads) {
    return forward_fixed16_to(s, x, weight, words, threads,
                              [&](int64_t pixel, int64_t o, int64_t count, Vec::reg result) {
        Vec::store_some(y + pixel * s.o + o, result, count);
    });
}
