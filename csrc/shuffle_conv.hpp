// The end of a network: PixelShuffle(R) and a 3x3 convolution to three colours in one; included after unit_tail.hpp.
//
// The enlarged maps are never written: an enlarged row takes its taps from the planes that the shuffle would have laid
// side by side. Lanes run along the columns before the shuffle, so that a load is of neighbouring values. The sums of a
// band of rows stay in the cache while plane after plane is read, from each a run of neighbouring rows: single rows are
// too short for the processor to read ahead.

// The values of a row from a column on; zero beyond its ends, unless all of them are known to lie inside.
template <bool Inside>
Vec::reg load_around(const uint16_t* row, int64_t column, int64_t width) {
    if (Inside) return Vec::load_half(row + column);
    uint16_t lanes[Vec::lanes];
    for (int64_t i = 0; i < Vec::lanes; ++i) lanes[i] = column + i >= 0 && column + i < width ? row[column + i] : 0;
    return Vec::load_half(lanes);
}

// Add what one channel and one row of taps [column][colour] give to sums [R phases][3 colours][room], for one vector of
// columns. `planes` is the row of the first of R planes, which are `step` apart.
template <int R, bool Inside>
void add_taps(const uint16_t* planes, int64_t step, const float* taps, int64_t column, int64_t width, float* sums,
              int64_t room) {
    typename Vec::reg acc[R][3];
#pragma GCC unroll 4
    for (int dx = 0; dx < R; ++dx)
#pragma GCC unroll 4
        for (int k = 0; k < 3; ++k) acc[dx][k] = Vec::load(sums + (dx * 3 + k) * room + column);
    // Enlarged columns R x + m, of which output R x + dx sees m = dx - 1 .. dx + 1.
#pragma GCC unroll 8
    for (int m = -1; m <= R; ++m) {
        const int64_t offset = m < 0 ? -1 : m / R;
        const auto value = load_around<Inside>(planes + (m + R) % R * step, column + offset, width);
#pragma GCC unroll 4
        for (int dx = 0; dx < R; ++dx) {
            const int j = m - dx + 1;
            if (j < 0 || j > 2) continue;
#pragma GCC unroll 4
            for (int k = 0; k < 3; ++k) acc[dx][k] = Vec::fma(Vec::set1(taps[j * 3 + k]), value, acc[dx][k]);
        }
    }
#pragma GCC unroll 4
    for (int dx = 0; dx < R; ++dx)
#pragma GCC unroll 4
        for (int k = 0; k < 3; ++k) Vec::store(sums + (dx * 3 + k) * room + column, acc[dx][k]);
}

template <int R>
void shuffle_conv_rows(const ShuffleConvShape& s, const uint16_t* x, const float* weight, const float* bias,
                       const float* base, float* y, int threads) {
    constexpr int64_t planes = R * 3, band = R * 4;
    const int64_t room = ceil_div(s.w, Vec::lanes) * Vec::lanes, rows = s.h * R, step = s.h * s.w;
    std::vector<float> rooms(threads * band * planes * room);  // here, for no exception may leave a parallel region
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t top = 0; top < rows; top += band) {
        float* sums = rooms.data() + omp_get_thread_num() * band * planes * room;
        const int64_t last = least(top + band, rows);
        for (int64_t plane = 0; plane < band * planes; ++plane)
            std::fill(sums + plane * room, sums + (plane + 1) * room, bias[plane % 3]);
        for (int64_t c = 0; c < s.c; ++c)
            for (int64_t seen = top > 0 ? top - 1 : 0; seen < least(last + 1, rows); ++seen)
                for (int64_t row = seen - 1 > top ? seen - 1 : top; row < least(seen + 2, last); ++row) {
                    const float* taps = weight + (c * 3 + seen - row + 1) * 9;
                    const uint16_t* from = x + (c * R + seen % R) * R * step + seen / R * s.w;
                    float* to = sums + (row - top) * planes * room;
                    for (int64_t column = 0; column < s.w; column += Vec::lanes) {
                        const bool inside = column > 0 && column + Vec::lanes < s.w;
                        const auto add = inside ? add_taps<R, true> : add_taps<R, false>;
                        add(from, step, taps, column, s.w, to, room);
                    }
                }
        for (int64_t row = top; row < last; ++row)
            for (int64_t k = 0; k < 3; ++k)
                for (int64_t column = 0; column < s.w; ++column)
                    for (int64_t dx = 0; dx < R; ++dx) {
                        const int64_t at = ((k * rows + row) * s.w + column) * R + dx;
                        y[at] = base[at] + sums[((row - top) * planes + dx * 3 + k) * room + column];
                    }
    }
}

void shuffle_conv(const ShuffleConvShape& s, const uint16_t* x, const float* weight, const float* bias,
                  const float* base, float* y, int threads) {
    const auto run = s.r == 2 ? shuffle_conv_rows<2> : shuffle_conv_rows<3>;
    run(s, x, weight, bias, base, y, threads);
}
