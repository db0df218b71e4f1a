// The kernels, written once over a vector type. Each instruction set includes this file in a translation unit of its
// own, inside its own unnamed namespace, so that no function compiled for one set is linked into another; what it takes
// from the standard library is inlined, for CMakeLists.txt always optimises.
//
// The includer defines, in that namespace, a struct Vec with
//   lanes, reg; load, store, set1, zero, add, sub, min, max, fma (a * b + c), clip1 (to [-1, 1]), opaque_one;
//   forward_vectors, backward_vectors: how many vectors of channels a block spans at most;
//   forward_registers, backward_registers: how many results a block keeps (pixels x vectors).
//
// A block computes P pixels x Q vectors of channels. Pixels are addressed through one pointer for each tap and pixel,
// so that any stride, padding and kernel size runs through the same code: a tap outside the picture points to zeros.
//
// Filters are packed as [block of Q vectors][tap][depth][Q * lanes]. In the forward, lanes run along the output
// channels and depth along the input channels; in the backward, the other way round. Unused lanes hold zero.

constexpr int64_t kPixelsPerTask = 192;
constexpr int kMaxPixels = 24;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Where a walk along the pixels of (N, H, W) stands.
struct Pixel {
    int64_t n, y, x;
    Pixel(int64_t index, int64_t h, int64_t w) : n(index / (h * w)), y(index / w % h), x(index % w) {}
    void next(int64_t h, int64_t w) {
        if (++x < w) return;
        x = 0;
        if (++y == h) y = 0, ++n;
    }
};

template <int Q>
struct Vectors {
    static constexpr int count = Q;
};

// Cut `pixels` into tasks and `channels` into blocks of vectors, and call in parallel
//   run(Vectors<Q>, first_pixel, last_pixel, first_channel, valid_channels, pointers)
// with blocks of at most Most vectors and room for kMaxPixels pointers a tap that belongs to the calling thread.
template <int Most, class Word, class Run>
void parallel_blocks(int64_t pixels, int64_t channels, int64_t taps, int threads, Run run) {
    const int64_t tasks = ceil_div(pixels, kPixelsPerTask), room = taps * kMaxPixels;
    std::vector<const Word*> all_pointers(threads * room);  // here, for no exception may leave a parallel region
#pragma omp parallel num_threads(threads)
    {
        const Word** pointers = all_pointers.data() + omp_get_thread_num() * room;
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < tasks; ++task) {
            const int64_t first = task * kPixelsPerTask, last = least(first + kPixelsPerTask, pixels);
            for (int64_t channel = 0; channel < channels; channel += Most * Vec::lanes) {
                const int64_t valid = least(channels - channel, Most * Vec::lanes);
                const int64_t vectors = ceil_div(valid, Vec::lanes);
                const auto call = [&](auto q) { run(q, first, last, channel, valid, pointers); };
                if (vectors == 1) call(Vectors<1>());
                if (vectors == 2) call(Vectors<2>());
                if constexpr (Most == 4) {
                    if (vectors == 3) call(Vectors<3>());
                    if (vectors == 4) call(Vectors<4>());
                }
            }
        }
    }
}

// The sum over taps and channels of what one pixel sees; its rows are `step` apart.
inline float window_sum(const float* const* rows, int64_t step, int64_t taps, int64_t channels) {
    auto total = Vec::zero();
    float rest = 0;
    for (int64_t tap = 0; tap < taps; ++tap, rows += step) {
        int64_t c = 0;
        for (; c + Vec::lanes <= channels; c += Vec::lanes) total = Vec::add(total, Vec::load(*rows + c));
        for (; c < channels; ++c) rest += (*rows)[c];
    }
    float lanes[Vec::lanes];
    Vec::store(lanes, total);
    for (float lane : lanes) rest += lane;
    return rest;
}

// rows[tap * P + p]: what this tap sees for pixel p, of pixels that have `words` words each.
template <int P, class Word>
void input_rows(const Adder2dShape& s, Pixel pixel, const Word* x, int64_t words, const Word* outside,
                const Word** rows) {
    for (int p = 0; p < P; ++p, pixel.next(s.oh, s.ow)) {
        const int64_t top = pixel.y * s.stride_h - s.pad_h, left = pixel.x * s.stride_w - s.pad_w;
        const Word* picture = x + pixel.n * s.h * s.w * words;
        const Word** row = rows + p;
        const bool inside = top >= 0 && left >= 0 && top + s.kh <= s.h && left + s.kw <= s.w;
        for (int64_t i = top; i < top + s.kh; ++i) {
            const Word* at = picture + (i * s.w + left) * words;
            if (inside)
                for (int64_t j = 0; j < s.kw; ++j, row += P, at += words) *row = at;
            else
                for (int64_t j = left; j < left + s.kw; ++j, row += P, at += words)
                    *row = i >= 0 && i < s.h && j >= 0 && j < s.w ? at : outside;
        }
    }
}

// With |x - w| = 2 max(x, w) - x - w the inner loop is one max and one add; the sums of x over the window and of w
// over the filter are cheap. `Terms` says in which numbers:
//   Word, reg, load, set1, zero: one term of the input, and vectors of terms and of sums;
//   add(sum, value, w): adds max(value, w) to the sum;
//   window(rows, step, taps): the sum of what one pixel sees, whose rows are `step` apart;
//   result(sum, window, o): minus the L1 distances, in float32, of the vector of filters that begins at o.
template <int P, int Q, class Terms, class Finish>
void forward_block(const Adder2dShape& s, const Terms& terms, int64_t pixel, const typename Terms::Word* packed,
                   int64_t o, int64_t valid, const typename Terms::Word** rows, const Finish& finish) {
    const int64_t taps = s.kh * s.kw;
    input_rows<P>(s, Pixel(pixel, s.oh, s.ow), terms.x, terms.words, terms.outside, rows);
    typename Terms::reg acc[P][Q];
    for (int p = 0; p < P; ++p)
        for (int q = 0; q < Q; ++q) acc[p][q] = Terms::zero();
    for (int64_t tap = 0; tap < taps; ++tap) {
        const typename Terms::Word* row[P];
        for (int p = 0; p < P; ++p) row[p] = rows[tap * P + p];
        for (int64_t c = 0; c < terms.depth; ++c, packed += Q * Vec::lanes) {
            typename Terms::reg w[Q];
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) w[q] = Terms::load(packed + q * Vec::lanes);
#pragma GCC unroll 24
            for (int p = 0; p < P; ++p) {
                const auto value = Terms::set1(row[p][c]);
#pragma GCC unroll 4
                for (int q = 0; q < Q; ++q) terms.add(acc[p][q], value, w[q]);
            }
        }
    }
    for (int p = 0; p < P; ++p) {
        const auto window = terms.window(rows + p, P, taps);
        for (int64_t q = 0; q < Q; ++q) {
            const int64_t first = q * Vec::lanes;
            finish(pixel + p, o + first, least(valid - first, Vec::lanes), terms.result(acc[p][q], window, o + first));
        }
    }
}

// Call finish(pixel, channel, count, result) for each pixel and vector of channels; `count` lanes of it are valid.
template <class Terms, class Finish>
void forward_to(const Adder2dShape& s, const Terms& terms, const typename Terms::Word* packed, int threads,
                const Finish& finish) {
    using Word = typename Terms::Word;
    const int64_t taps = s.kh * s.kw;
    parallel_blocks<Vec::forward_vectors, Word>(
        s.n * s.oh * s.ow, s.o, taps, threads,
        [&](auto q, int64_t first, int64_t last, int64_t o, int64_t valid, const Word** rows) {
        constexpr int Q = decltype(q)::count, P = Vec::forward_registers / Q;
        static_assert(P <= kMaxPixels);
        const Word* block = packed + o * taps * terms.depth;
        int64_t pixel = first;
        for (; pixel + P <= last; pixel += P) forward_block<P, Q>(s, terms, pixel, block, o, valid, rows, finish);
        for (; pixel < last; ++pixel) forward_block<1, Q>(s, terms, pixel, block, o, valid, rows, finish);
    });
}

// Terms in float32. The add is an FMA by one, which runs on another pipe than max where the two differ.
struct FloatTerms {
    using Word = float;
    using reg = Vec::reg;
    const float *x, *outside;
    int64_t words, depth;
    const float* filter_sums;
    reg one;

    static reg load(const float* p) { return Vec::load(p); }
    static reg set1(float a) { return Vec::set1(a); }
    static reg zero() { return Vec::zero(); }
    void add(reg& sum, reg value, reg w) const { sum = Vec::fma(Vec::max(value, w), one, sum); }
    reg window(const float* const* rows, int64_t step, int64_t taps) const {
        return Vec::set1(window_sum(rows, step, taps, depth));
    }
    reg result(reg sum, reg window, int64_t o) const {
        const auto sums = Vec::add(window, Vec::load(filter_sums + o));
        // Rounding must not make the result positive; this order of operands lets a NaN through.
        return Vec::min(Vec::zero(), Vec::fma(sum, Vec::set1(-2.0f), sums));
    }
};

// As above, in float32.
template <class Finish>
void forward_float(const Adder2dShape& s, const float* x, const float* packed, int threads, const Finish& finish) {
    const int64_t depth = s.kh * s.kw * s.c;
    std::vector<float> zeros(s.c), filter_sums(ceil_div(s.o, Vec::lanes) * Vec::lanes);
    for (int64_t o = 0; o < s.o; o += Vec::forward_vectors * Vec::lanes) {
        const int64_t width = least(Vec::forward_vectors * Vec::lanes, filter_sums.size() - o);
        for (int64_t k = 0; k < depth; ++k)
            for (int64_t lane = 0; lane < width; ++lane) filter_sums[o + lane] += packed[o * depth + k * width + lane];
    }
    const FloatTerms terms{x, zeros.data(), s.c, s.c, filter_sums.data(), Vec::opaque_one()};
    forward_to(s, terms, packed, threads, finish);
}

void forward(const Adder2dShape& s, const float* x, const float* packed, float* y, int threads) {
    forward_float(s, x, packed, threads, [&](int64_t pixel, int64_t o, int64_t count, Vec::reg result) {
        Vec::store_some(y + pixel * s.o + o, result, count);
    });
}

// The output row (or column) that begins at `start` of the padded input, of `count`; -1 if there is none.
inline int64_t output_at(int64_t start, int64_t stride, int64_t count) {
    if (start < 0 || (stride > 1 && start % stride)) return -1;
    const int64_t at = stride > 1 ? start / stride : start;  // divisions cost as much as the sums of a small layer
    return at < count ? at : -1;
}

// grads[tap * P + p]: the gradients of the output pixel that sees input pixel p through this tap; zeros if none does.
template <int P>
void output_rows(const Adder2dShape& s, Pixel pixel, const float* grad_y, const float* zeros, const float** grads) {
    for (int p = 0; p < P; ++p, pixel.next(s.h, s.w)) {
        const float* picture = grad_y + pixel.n * s.oh * s.ow * s.o;
        const float** grad = grads + p;
        for (int64_t i = 0; i < s.kh; ++i) {
            const int64_t oy = output_at(pixel.y + s.pad_h - i, s.stride_h, s.oh);
            for (int64_t j = 0; j < s.kw; ++j, grad += P) {
                const int64_t ox = output_at(pixel.x + s.pad_w - j, s.stride_w, s.ow);
                *grad = oy < 0 || ox < 0 ? zeros : picture + (oy * s.ow + ox) * s.o;
            }
        }
    }
}

template <int P, int Q>
void backward_block(const Adder2dShape& s, int64_t pixel, const float* grad_y, const float* zeros, const float* packed,
                    const float* x, float* grad_x, int64_t valid, const float** grads) {
    const int64_t taps = s.kh * s.kw;
    output_rows<P>(s, Pixel(pixel, s.h, s.w), grad_y, zeros, grads);
    float lanes[Q * Vec::lanes] = {};
    typename Vec::reg acc[P][Q], value[P][Q];
    for (int p = 0; p < P; ++p) {
        for (int64_t c = 0; c < valid; ++c) lanes[c] = x[(pixel + p) * s.c + c];
        for (int q = 0; q < Q; ++q) {
            value[p][q] = Vec::load(lanes + q * Vec::lanes);
            acc[p][q] = Vec::zero();
        }
    }
    for (int64_t tap = 0; tap < taps; ++tap) {
        const float* grad[P];
        for (int p = 0; p < P; ++p) grad[p] = grads[tap * P + p];
        for (int64_t o = 0; o < s.o; ++o, packed += Q * Vec::lanes) {
            typename Vec::reg w[Q];
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) w[q] = Vec::load(packed + q * Vec::lanes);
#pragma GCC unroll 24
            for (int p = 0; p < P; ++p) {
                const auto g = Vec::set1(grad[p][o]);
#pragma GCC unroll 4
                for (int q = 0; q < Q; ++q)
                    acc[p][q] = Vec::fma(Vec::clip1(Vec::sub(w[q], value[p][q])), g, acc[p][q]);
            }
        }
    }
    for (int p = 0; p < P; ++p) {
        for (int q = 0; q < Q; ++q) Vec::store(lanes + q * Vec::lanes, acc[p][q]);
        for (int64_t c = 0; c < valid; ++c) grad_x[(pixel + p) * s.c + c] = lanes[c];
    }
}

void grad_input(const Adder2dShape& s, const float* grad_y, const float* x, const float* packed, float* grad_x,
                int threads) {
    const int64_t taps = s.kh * s.kw;
    std::vector<float> zeros(s.o);
    parallel_blocks<Vec::backward_vectors, float>(
        s.n * s.h * s.w, s.c, taps, threads,
        [&](auto q, int64_t first, int64_t last, int64_t c, int64_t valid, const float** grads) {
        constexpr int Q = decltype(q)::count, P = Vec::backward_registers / Q;
        static_assert(P <= kMaxPixels);
        const float* block = packed + c * taps * s.o;
        int64_t pixel = first;
        for (; pixel + P <= last; pixel += P)
            backward_block<P, Q>(s, pixel, grad_y, zeros.data(), block, x + c, grad_x + c, valid, grads);
        for (; pixel < last; ++pixel)
            backward_block<1, Q>(s, pixel, grad_y, zeros.data(), block, x + c, grad_x + c, valid, grads);
    });
}
