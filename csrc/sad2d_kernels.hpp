// The quantised kernels, written once over a vector type (see adder2d_kernels.hpp for how this file is included).
//
// The includer defines, beside Vec, a struct Sad with
//   cells: how many cells of 8 neighbouring pixels one vector holds; vectors: how many of them a block computes at once;
//   filters: filters in a full block of packed ones; the rest comes in blocks of kFewFilters;
//   bytes, load: 16 bytes for each cell; taps, spread: four taps of a filter for each cell; sums, zero: 16-bit sums;
//   step(sums, taps, bytes): adds to pixel p of a cell the sum over t < 4 of |taps[t] - bytes[p + t]|;
//   flush(sums, from, to): to[p] = from[p] + sums[p] in 32 bits;
//   stream(to, from, count): copies past the caches, if it can; drain: what was copied so is seen by other threads.
//
// Instructions that slide four bytes along eight pixels (vdbpsadbw, vmpsadbw) make 128 or 64 differences at once. A row
// of three taps uses three quarters of them, which beats vpsadbw (64 or 32) where the wider one runs as often. A filter
// row is cut into groups of four taps. Taps that fill the last group up are zero, so they add the sum of the input
// there; it is the same for all filters and is subtracted once for each pixel: exact.
//
// No overflow: 16-bit sums are flushed after kFlush steps of at most 4 * 255; filters that, with the taps that fill them
// up, have more than 2^23 values, whose sums could leave 32 bits, are refused when they are packed (addersr/ops/int8.py).
//
// A task is a band of output rows and columns. Its input is first laid out as [channel][group][row][cell][16 bytes], in
// which the cells of a band follow one another across rows for every row of taps alike. Then each block of neighbouring
// cells goes through all filters, while its bytes stay in the first-level cache.

// A larger result than this is written past the caches, which would not hold it.
constexpr int64_t kCachedBytes = 4 << 20;
constexpr int kFlush = 64, kCell = 8, kEntry = 16, kBandRows = 16, kBandCells = 40;
constexpr int kBlockCells = Sad::cells * Sad::vectors, kBlockPixels = kBlockCells * kCell;
static_assert(kFlush * 4 * 255 <= 65535);

// How an output is cut into bands: as many below one another as threads can share evenly.
struct Bands {
    int64_t down;                  // bands below one another
    int64_t rows, cells, in_rows;  // of a band at most: output rows, cells across, input rows
    int64_t groups, columns;       // groups of four taps in a filter row; input columns that a band looks at
    int64_t plane;                 // bytes of the entries of one channel and group: an odd number of cache lines, so
                                   // that those of a block are spread over all sets of the cache
    int64_t span, width;           // output columns of a band and of the picture, at stride 1
    int64_t across, count;         // bands side by side and in all

    Bands(const Sad2dShape& s, int threads)
        : down(s.stride_h == 1 ? least(ceil_div(ceil_div(s.oh, kBandRows), threads) * threads, s.oh) : s.oh),
          rows(ceil_div(s.oh, down)),
          cells(least(kBandCells, ceil_div((s.ow - 1) * s.stride_w + 1, kCell))),
          in_rows(rows - 1 + s.kh),
          groups(ceil_div(s.kw, 4)),
          columns(cells * kCell + 4 * groups + 4),
          plane((ceil_div(in_rows * cells * kEntry, 64) | 1) * 64),
          span(cells * kCell),
          width((s.ow - 1) * s.stride_w + 1),
          across(ceil_div(width, span)),
          count(across * down) {}

    // The first row of band `i` of those below one another.
    int64_t top(int64_t i, int64_t height) const { return height * i / down; }
};

// Bring the values of one block of pixels near, or what lies there.
template <int Bytes>
inline void prefetch_block(const void* at) {
    for (int64_t byte = 0; byte < kBlockPixels * Bytes; byte += 64)
        __builtin_prefetch(static_cast<const uint8_t*>(at) + byte);
}

inline int64_t padded_filters(int64_t filters) { return ceil_div(filters, kFewFilters) * kFewFilters; }

// What one thread works in: its part of the workspace, cut up.
struct Room {
    uint8_t* entries;   // [c][group][in_row][cell][16]
    uint8_t* row;       // one input row with its surroundings
    int32_t* row_sums;  // [in_row][column]: over the channels
    float* row_excess;  // [in_row][column]: over the channels
    int32_t* first;     // [row][cell][8]: what the sums begin at, minus the sum that the zero taps will add
    float* excess;      // [row][cell][8]: over the window
    int32_t* sums;      // [filter][pixel of a block]
    int64_t* offsets;   // [c][group][kh]: where a step finds its entries
    int64_t size = 0;

    Room(const Sad2dShape& s, const Bands& b, uint8_t* at) {
        const int64_t pixels = (b.rows * b.cells + kBlockCells) * kCell;  // the last block may reach beyond the band
        const auto take = [&](auto*& pointer, int64_t length) {
            pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(at + size);
            size += ceil_div(length * sizeof *pointer, 64) * 64;
        };
        take(entries, s.c * b.groups * b.plane + kBlockCells * kEntry);
        take(row, b.columns + Vec::lanes);
        take(row_sums, b.in_rows * b.columns + Vec::lanes);
        take(row_excess, b.in_rows * b.columns);
        take(first, pixels);
        take(excess, pixels);
        take(sums, padded_filters(s.o) * kBlockPixels + Vec::lanes);  // the last load may reach beyond
        take(offsets, s.c * b.groups * s.kh);
    }
};

int64_t sad2d_workspace_bytes(const Sad2dShape& s, int threads) {
    return Room(s, Bands(s, threads), nullptr).size * threads;
}

// Lay out the input rows of `rows` output rows from (top, left) on; for `read` see parallel_bands.
template <class Read>
void lay_out(const Sad2dShape& s, const Bands& b, const Room& room, int64_t top, int64_t rows, int64_t left,
             Read read) {
    const int64_t in_rows = rows - 1 + s.kh;
    std::memset(room.row_sums, 0, in_rows * b.columns * sizeof *room.row_sums);
    std::memset(room.row_excess, 0, in_rows * b.columns * sizeof *room.row_excess);
    for (int64_t c = 0; c < s.c; ++c)
        for (int64_t i = 0; i < in_rows; ++i) {
            read(c, top * s.stride_h - s.pad_h + i, left - s.pad_w, room.row, room.row_sums + i * b.columns,
                 room.row_excess + i * b.columns);
            for (int64_t g = 0; g < b.groups; ++g) {
                uint8_t* to = room.entries + (c * b.groups + g) * b.plane + i * b.cells * kEntry;
                const uint8_t* from = room.row + 4 * g;
                for (int64_t cell = 0; cell < b.cells; ++cell)
                    std::memcpy(to + cell * kEntry, from + cell * kCell, kEntry);
            }
        }
    std::memset(room.first, 0, rows * b.span * sizeof *room.first);
    std::memset(room.excess, 0, rows * b.span * sizeof *room.excess);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = r; i < r + s.kh; ++i)
            for (int64_t t = 0; t < 4 * b.groups; ++t) {
                const int64_t from = i * b.columns + t;
                int32_t* first = room.first + r * b.span;
                float* excess = room.excess + r * b.span;
                if (t < s.kw)
                    for (int64_t x = 0; x < b.span; ++x) excess[x] += room.row_excess[from + x];
                else
                    for (int64_t x = 0; x < b.span; ++x) first[x] -= room.row_sums[from + x];
            }
}

// sums[n][pixel] of one block of pixels for Filters filters.
template <int Filters>
void block_sums(const uint8_t* entries, const int64_t* offsets, int64_t steps, const uint32_t* packed,
                const int32_t* first, int32_t* sums) {
    constexpr int X = Sad::vectors, pixels = Sad::cells * kCell;
    for (int64_t step = 0; step < steps;) {
        const int64_t last = least(step + kFlush, steps);
        const bool begins = step == 0;
        typename Sad::sums acc[Filters][X];
#pragma GCC unroll 8
        for (int n = 0; n < Filters; ++n)
#pragma GCC unroll 4
            for (int j = 0; j < X; ++j) acc[n][j] = Sad::zero();
        for (; step < last; ++step, packed += Filters) {
            typename Sad::bytes x[X];
#pragma GCC unroll 4
            for (int j = 0; j < X; ++j) x[j] = Sad::load(entries + offsets[step] + j * Sad::cells * kEntry);
#pragma GCC unroll 8
            for (int n = 0; n < Filters; ++n) {
                const auto taps = Sad::spread(packed[n]);
#pragma GCC unroll 4
                for (int j = 0; j < X; ++j) Sad::step(acc[n][j], taps, x[j]);
            }
        }
#pragma GCC unroll 8
        for (int n = 0; n < Filters; ++n)
#pragma GCC unroll 4
            for (int j = 0; j < X; ++j) {
                int32_t* to = sums + n * kBlockPixels + j * pixels;
                Sad::flush(acc[n][j], begins ? first + j * pixels : to, to);
            }
    }
}

// Cut the output into bands, and call in parallel
//   read(c, y, x, bytes, sums, excess): all columns of a band, of input row y from column x on. It sets the bytes, adds
//     them to `sums` and their excess to `excess`;
//   expect(o, y, x): what `write` needs for these outputs may be brought near;
//   write(o, y, x, sums, excess, count): `count` neighbouring outputs, at stride 1 across.
template <class Read, class Expect, class Write>
void parallel_bands(const Sad2dShape& s, const uint32_t* packed, uint8_t* workspace, int threads, Read read,
                    Expect expect, Write write) {
    const Bands b(s, threads);
    const int64_t steps = s.c * b.groups * s.kh, room_bytes = Room(s, b, nullptr).size;
#pragma omp parallel num_threads(threads)
    {
        const Room room(s, b, workspace + omp_get_thread_num() * room_bytes);
        for (int64_t step = 0; step < steps; ++step)
            room.offsets[step] = step / s.kh * b.plane + step % s.kh * b.cells * kEntry;
#pragma omp for schedule(dynamic, 1)
        for (int64_t band = 0; band < b.count; ++band) {
            const int64_t top = b.top(band / b.across, s.oh), rows = b.top(band / b.across + 1, s.oh) - top;
            const int64_t left = band % b.across * b.span, columns = least(b.span, b.width - left);
            lay_out(s, b, room, top, rows, left, read);
            for (int64_t pixel = 0; pixel < rows * b.span; pixel += kBlockPixels) {
                // The parts of the block that lie in one row each: run(place in the band, y, x, count).
                const auto each_run = [&](const auto& run) {
                    const int64_t last = least(pixel + kBlockPixels, rows * b.span);
                    for (int64_t at = pixel, next; at < last; at = next) {
                        next = least(last, (at / b.span + 1) * b.span);
                        const int64_t x = at % b.span, count = least(next - at, columns - x);
                        if (count > 0) run(at, top + at / b.span, left + x, count);
                    }
                };
                each_run([&](int64_t, int64_t y, int64_t x, int64_t) {
                    for (int64_t o = 0; o < s.o; ++o) expect(o, y, x);
                });
                const uint32_t* block = packed;
                for (int64_t o = 0; o < s.o;) {
                    const bool full = padded_filters(s.o) - o >= Sad::filters;
                    const auto compute = full ? block_sums<Sad::filters> : block_sums<kFewFilters>;
                    compute(room.entries + pixel / kCell * kEntry, room.offsets, steps, block, room.first + pixel,
                            room.sums + o * kBlockPixels);
                    const int64_t filters = full ? Sad::filters : kFewFilters;
                    block += filters * steps, o += filters;
                }
                each_run([&](int64_t at, int64_t y, int64_t x, int64_t count) {
                    for (int64_t o = 0; o < s.o; ++o)
                        write(o, y, x, room.sums + o * kBlockPixels + at - pixel, room.excess + at, count);
                });
            }
        }
        Sad::drain();
    }
}

void sad2d_sums(const Sad2dShape& s, const uint8_t* x, uint8_t pad_value, const uint32_t* packed, int32_t* y,
                uint8_t* workspace, int threads) {
    const int64_t columns = Bands(s, threads).columns;
    const auto read = [&](int64_t c, int64_t row, int64_t column, uint8_t* bytes, int32_t* sums, float*) {
        const int64_t from = column < 0 ? -column : 0, last = least(columns, s.w - column);
        std::memset(bytes, pad_value, columns);
        if (row >= 0 && row < s.h && from < last)
            std::memcpy(bytes + from, x + (c * s.h + row) * s.w + column + from, last - from);
        const uint8_t* __restrict terms = bytes;  // bytes may alias anything, and the loop would not vectorise
        for (int64_t i = 0; i < columns; ++i) sums[i] += terms[i];
    };
    const bool streamed = s.o * s.oh * s.ow * static_cast<int64_t>(sizeof *y) > kCachedBytes;
    const auto write = [&](int64_t o, int64_t row, int64_t column, const int32_t* sums, const float*, int64_t count) {
        int32_t* to = y + (o * s.oh + row) * s.ow;
        if (s.stride_w == 1) {
            streamed ? Sad::stream(to + column, sums, count) : void(std::memcpy(to + column, sums, count * sizeof *sums));
            return;
        }
        for (int64_t i = (s.stride_w - column % s.stride_w) % s.stride_w; i < count; i += s.stride_w)
            to[(column + i) / s.stride_w] = sums[i];
    };
    const auto expect = [&](int64_t o, int64_t row, int64_t column) {
        if (!streamed) prefetch_block<4>(y + (o * s.oh + row) * s.ow + column / s.stride_w);
    };
    parallel_bands(s, packed, workspace, threads, read, expect, write);
}

void sad2d_unit(const Sad2dShape& s, const Quantizer& q, const UnitTail& tail, const uint16_t* x,
                const uint32_t* packed, const uint16_t* residual, uint16_t* y, uint8_t* workspace, int threads) {
    const int64_t columns = Bands(s, threads).columns;
    const auto inverse_step = Vec::set1(q.inverse_step);
    const auto bottom = Vec::set1(static_cast<float>(-q.zero)), top = Vec::set1(static_cast<float>(q.top - q.zero));
    const auto round = Vec::set1(kRounder);  // ties to even
    const auto quantize = [=, zero = q.zero](Vec::reg value, Vec::reg& excess) {
        const auto steps = Vec::fma(value, inverse_step, Vec::zero());
        const auto held = Vec::max(bottom, Vec::min(top, steps));
        const auto beyond = Vec::sub(steps, held);
        excess = Vec::add(excess, Vec::max(beyond, Vec::sub(Vec::zero(), beyond)));
        return (bits_of(Vec::add(held, round)) + zero) & 255;
    };
    auto excess_outside = Vec::zero();
    const int32_t outside = quantize(Vec::zero(), excess_outside)[0];
    const float beyond_outside = excess_outside[0];
    const auto read = [&](int64_t c, int64_t row, int64_t column, uint8_t* bytes, int32_t* sums, float* excess) {
        const auto pad = [&](int64_t from, int64_t last) {
            for (int64_t i = from; i < last; ++i)
                bytes[i] = static_cast<uint8_t>(outside), sums[i] += outside, excess[i] += beyond_outside;
        };
        if (row < 0 || row >= s.h) return pad(0, columns);
        const int64_t from = column < 0 ? -column : 0, last = least(columns, s.w - column);
        const uint16_t* values = x + (c * s.h + row) * s.w + column;
        pad(0, from);
        for (int64_t i = from; i < last; i += Vec::lanes) {
            const int64_t lanes = least(Vec::lanes, last - i);
            using Bytes = uint8_t __attribute__((vector_size(Vec::lanes)));
            auto beyond = Vec::load_some(excess + i, lanes);
            const IntReg levels = quantize(load_some_half(values + i, lanes), beyond);
            IntReg total;
            std::memcpy(&total, sums + i, sizeof total);
            total += levels;
            Vec::store_some(excess + i, beyond, lanes);
            const auto narrow = __builtin_convertvector(levels, Bytes);
            // Whole vectors: what is too much here is set by the padding below, or lies in the room's slack.
            std::memcpy(bytes + i, &narrow, sizeof narrow);
            Vec::store_some(reinterpret_cast<float*>(sums + i), from_bits(total), lanes);
        }
        pad(last, columns);
    };
    const auto write = [&](int64_t o, int64_t row, int64_t column, const int32_t* sums, const float* excess,
                           int64_t count) {
        const int64_t at = (o * s.oh + row) * s.ow + column;
        const uint16_t* input = x + (o / tail.repeats * s.h + row) * s.w + column;
        const auto scale = Vec::set1(tail.scale[o] * q.step), bias = Vec::set1(tail.bias[o]);
        for (int64_t i = 0; i < count; i += Vec::lanes) {
            const int64_t lanes = least(Vec::lanes, count - i);
            IntReg whole;  // the rooms of `sums` and `excess` reach beyond their ends
            std::memcpy(&whole, sums + i, sizeof whole);
            const auto total = Vec::add(to_float(whole), Vec::load(excess + i));
            const auto added = residual ? load_some_half(residual + at + i, lanes) : Vec::zero();
            const auto seen = load_some_half(input + i, lanes);
            const auto result = unit_tail(tail, half_pow, total, scale, bias, seen, residual, added);
            const auto largest = Vec::set1(65504.0f);  // in half precision: an infinity would spoil what follows
            const auto held = Vec::max(Vec::sub(Vec::zero(), largest), Vec::min(largest, result));
            store_some_half(y + at + i, held, lanes);
        }
    };
    const auto expect = [&](int64_t o, int64_t row, int64_t column) {
        const int64_t at = (o * s.oh + row) * s.ow + column;
        prefetch_block<2>(y + at);
        if (residual) prefetch_block<2>(residual + at);
    };
    parallel_bands(s, packed, workspace, threads, read, expect, write);
}
