// The kernels of unit.h, included like adder2d_kernels.hpp and after it and vector_math.hpp. Beside what those ask for,
// Vec has load_some and store_some, which touch the first n lanes only (the other lanes of a load hold zero).
//
// The maps are cut into chunks of pixels that do not depend on the number of threads, nor do then the results. A chunk
// is walked in strips of one vector of channels, whose parameters and sums stay in registers. Sums are float32 within
// a strip, where they are short, and float64 across chunks.

// A chunk's part of each map stays in the first-level cache, and a strip's sums are of few terms.
constexpr int64_t kChunkValues = 2048, kChunkPixels = 128;

struct Chunk {
    int64_t index, first, pixels;
};

inline int64_t chunk_pixels(const UnitShape& s) {
    return least(kChunkPixels, kChunkValues / least(kChunkValues, s.channels));
}

inline int64_t chunk_count(const UnitShape& s) { return ceil_div(s.pixels, chunk_pixels(s)); }

inline Chunk chunk_at(const UnitShape& s, int64_t index) {
    const int64_t first = index * chunk_pixels(s);
    return {index, first, least(chunk_pixels(s), s.pixels - first)};
}

template <class Run>
void parallel_chunks(const UnitShape& s, int threads, Run run) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t index = 0; index < chunk_count(s); ++index) run(chunk_at(s, index));
}

// run(first channel, number of channels) for each strip
template <class Run>
void strips(const UnitShape& s, Run run) {
    for (int64_t o = 0; o < s.channels; o += Vec::lanes) run(o, least(Vec::lanes, s.channels - o));
}

// to[0..n) = the lanes of a
inline void widen(double* to, Vec::reg a, int64_t n) {
    float lanes[Vec::lanes];
    Vec::store(lanes, a);
    for (int64_t lane = 0; lane < n; ++lane) to[lane] = lanes[lane];
}

inline double lane_sum(Vec::reg a) {
    double lanes[Vec::lanes], sum = 0;
    widen(lanes, a, Vec::lanes);
    for (double lane : lanes) sum += lane;
    return sum;
}

// The mean and biased variance of each channel. Each chunk sums the deviations from its own rounded mean.
void unit_statistics(const UnitShape& s, const float* values, double* statistics, int threads) {
    const int64_t o = s.channels, chunks = chunk_count(s);
    std::vector<double> parts(chunks * 3 * o);  // for each chunk: centre, sum of deviations, of their squares
    parallel_chunks(s, threads, [&](Chunk chunk) {
        strips(s, [&](int64_t channel, int64_t n) {
            const float* at = values + chunk.first * o + channel;
            auto total = Vec::zero(), deviations = Vec::zero(), squares = Vec::zero();
            for (int64_t p = 0; p < chunk.pixels; ++p) total = Vec::add(total, Vec::load_some(at + p * o, n));
            const auto centre = total * Vec::set1(1.0f / chunk.pixels);
            for (int64_t p = 0; p < chunk.pixels; ++p) {
                const auto deviation = Vec::sub(Vec::load_some(at + p * o, n), centre);
                deviations = Vec::add(deviations, deviation);
                squares = Vec::fma(deviation, deviation, squares);
            }
            double* to = parts.data() + chunk.index * 3 * o + channel;
            widen(to, centre, n);
            widen(to + o, deviations, n);
            widen(to + 2 * o, squares, n);
        });
    });
    double *mean = statistics, *variance = statistics + o;
    for (int64_t c = 0; c < 2 * o; ++c) statistics[c] = 0;
    for (int64_t i = 0; i < chunks; ++i) {
        const double *part = parts.data() + i * 3 * o, pixels = chunk_at(s, i).pixels;
        for (int64_t c = 0; c < o; ++c) mean[c] += (part[c] * pixels + part[o + c]) / s.pixels;
    }
    for (int64_t i = 0; i < chunks; ++i) {
        const double *part = parts.data() + i * 3 * o, pixels = chunk_at(s, i).pixels;
        for (int64_t c = 0; c < o; ++c) {
            const double shift = part[c] - mean[c];
            variance[c] += (part[2 * o + c] + shift * (2 * part[o + c] + pixels * shift)) / s.pixels;
        }
    }
}

// BatchNorm as (s - mean) * slope + offset. The mean is rounded to float32 and its rest is part of the offset, so that
// the difference, of numbers often far larger than it, loses nothing.
struct Affine {
    std::vector<float> mean, slope, offset;
    std::vector<double> scale, rest;  // 1 / sqrt(variance + eps); mean - float32(mean)

    Affine(const UnitShape& s, const UnitInputs& in, const double* statistics)
        : mean(s.channels), slope(s.channels), offset(s.channels), scale(s.channels), rest(s.channels) {
        for (int64_t c = 0; c < s.channels; ++c) {
            mean[c] = static_cast<float>(statistics[c]);
            rest[c] = statistics[c] - mean[c];
            scale[c] = 1 / std::sqrt(statistics[s.channels + c] + s.norm_eps);
            slope[c] = static_cast<float>(in.weight[c] * scale[c]);
            offset[c] = static_cast<float>(in.bias[c] - in.weight[c] * scale[c] * rest[c]);
        }
    }
};

// run(s.repeats), as a constant where it is the common 4 of an enlargement by 2, for which loops compile better
template <class Run>
void with_repeats(const UnitShape& s, Run run) {
    if (s.repeats == 4)
        run(std::integral_constant<int64_t, 4>());
    else
        run(s.repeats);
}

// What the shortcut adds to a chunk: one value for each pixel and each channel of s, pixels `step` apart.
struct Shortcut {
    const float* x;
    int64_t step;
};

// Each thread's room for the repeated channels of a chunk; zeros where there is no shortcut.
class Shortcuts {
public:
    Shortcuts(const UnitShape& s, const float* x, int threads)
        : shape_(s), x_(x), size_(x && s.repeats == 1 ? 0 : chunk_pixels(s) * s.channels), room_(threads * size_) {}

    Shortcut of(const Chunk& chunk) {
        if (x_ && shape_.repeats == 1) return {x_ + chunk.first * shape_.channels, shape_.channels};
        float* const room = room_.data() + omp_get_thread_num() * size_;
        if (!x_) return {room, 0};
        with_repeats(shape_, [&](auto repeats) {
            const int64_t inputs = shape_.channels / shape_.repeats, count = chunk.pixels * inputs;
            const float* from = x_ + chunk.first * inputs;
            for (int64_t i = 0; i < count; ++i)
                for (int64_t r = 0; r < repeats; ++r) room[i * repeats + r] = from[i];
        });
        return {room, shape_.channels};
    }

private:
    const UnitShape& shape_;
    const float* x_;
    int64_t size_;
    std::vector<float> room_;
};

void unit_forward(const UnitShape& s, const UnitInputs& in, float* y, double* statistics, int threads) {
    unit_statistics(s, in.s, statistics, threads);
    const Affine norm(s, in, statistics);
    Shortcuts shortcuts(s, in.x, threads);
    parallel_chunks(s, threads, [&](Chunk chunk) {
        const auto gain = Vec::set1(*in.gain), alpha = Vec::set1(*in.alpha);
        const auto eps = Vec::set1(static_cast<float>(s.power_eps)), floor = vector_pow(eps, alpha);
        const Shortcut shortcut = shortcuts.of(chunk);
        strips(s, [&](int64_t channel, int64_t n) {
            const auto mean = Vec::load_some(&norm.mean[channel], n), slope = Vec::load_some(&norm.slope[channel], n);
            const auto offset = Vec::load_some(&norm.offset[channel], n);
            for (int64_t p = 0; p < chunk.pixels; ++p) {
                const int64_t at = (chunk.first + p) * s.channels + channel;
                const auto x = Vec::load_some(shortcut.x + p * shortcut.step + channel, n);
                const auto centred = Vec::sub(Vec::load_some(in.s + at, n), mean);
                const auto z = Vec::fma(centred, slope, Vec::fma(gain, x, offset));
                // Where z <= 0 this is exactly 0. The order of operands lets a NaN through.
                const auto u = Vec::add(Vec::max(Vec::zero(), z), eps);
                Vec::store_some(y + at, Vec::sub(vector_pow(u, alpha), floor), n);
            }
        });
    });
}

// First walk: the gradient dz before the shortcut joins, left in grad.s, and everything that is a sum over it.
// Returns the sums of dz, and behind them of dz (s - mean), for each channel.
std::vector<double> unit_backward_sums(const UnitShape& s, const UnitInputs& in, const Affine& norm,
                                       const float* grad_y, const UnitGradients& grad, int threads) {
    const int64_t o = s.channels, chunks = chunk_count(s), width = 2 * o + 2;
    std::vector<double> parts(chunks * width);  // for each chunk: the two sums, and those for gain and alpha
    Shortcuts shortcuts(s, in.x, threads);
    parallel_chunks(s, threads, [&](Chunk chunk) {
        const auto gain = Vec::set1(*in.gain), alpha = Vec::set1(*in.alpha), power = Vec::set1(*in.alpha - 1);
        const auto eps = Vec::set1(static_cast<float>(s.power_eps)), zero = Vec::zero();
        const auto floor_growth = vector_pow(eps, alpha) * vector_log2(eps);
        const Shortcut shortcut = shortcuts.of(chunk);
        double* const sums = parts.data() + chunk.index * width;
        strips(s, [&](int64_t channel, int64_t n) {
            const auto mean = Vec::load_some(&norm.mean[channel], n), slope = Vec::load_some(&norm.slope[channel], n);
            const auto offset = Vec::load_some(&norm.offset[channel], n);
            auto sum_dz = zero, sum_centred = zero, sum_gain = zero, sum_alpha = zero;
            for (int64_t p = 0; p < chunk.pixels; ++p) {
                const int64_t at = (chunk.first + p) * o + channel;
                const auto x = Vec::load_some(shortcut.x + p * shortcut.step + channel, n);
                const auto centred = Vec::sub(Vec::load_some(in.s + at, n), mean);
                const auto z = Vec::fma(centred, slope, Vec::fma(gain, x, offset));
                const auto u = Vec::add(Vec::max(zero, z), eps);
                const Log2 log = split_log2(u);
                const auto lower = vector_pow(log, power);  // u^(alpha - 1)
                const auto growth = Vec::fma(lower * u, Vec::add(log.exponent, log.fraction), -floor_growth);
                auto g = Vec::load_some(grad_y + at, n);
                g = z <= zero ? zero : g;
                const auto dz = g * (alpha * lower);
                sum_dz = Vec::add(sum_dz, dz);
                sum_centred = Vec::fma(dz, centred, sum_centred);
                sum_gain = Vec::fma(dz, x, sum_gain);
                sum_alpha = Vec::fma(g, growth, sum_alpha);
                Vec::store_some(grad.s + at, dz, n);
                if (grad.x && s.repeats == 1) Vec::store_some(grad.x + at, gain * dz, n);
            }
            widen(sums + channel, sum_dz, n);
            widen(sums + o + channel, sum_centred, n);
            sums[2 * o] += lane_sum(sum_gain);
            sums[2 * o + 1] += lane_sum(sum_alpha);
        });
        if (!grad.x || s.repeats == 1) return;
        with_repeats(s, [&](auto repeats) {
            const int64_t inputs = o / s.repeats, count = chunk.pixels * inputs;
            const float* dz = grad.s + chunk.first * o;
            float* to = grad.x + chunk.first * inputs;
            for (int64_t i = 0; i < count; ++i) {
                float sum = 0;
                for (int64_t r = 0; r < repeats; ++r) sum += dz[i * repeats + r];
                to[i] = *in.gain * sum;
            }
        });
    });
    std::vector<double> sums(width);
    for (int64_t i = 0; i < chunks; ++i)
        for (int64_t k = 0; k < width; ++k) sums[k] += parts[i * width + k];
    *grad.gain = static_cast<float>(sums[2 * o]);
    *grad.alpha = static_cast<float>(sums[2 * o + 1] * std::log(2.0));
    return sums;
}

void unit_backward(const UnitShape& s, const UnitInputs& in, const double* statistics, const float* grad_y,
                   const UnitGradients& grad, int threads) {
    const Affine norm(s, in, statistics);
    const std::vector<double> sums = unit_backward_sums(s, in, norm, grad_y, grad, threads);
    // With the means over the pixels, ds = slope (dz - mean dz - s_hat mean(dz s_hat)), here written as
    // slope dz + tilt (s - float32(mean)) + level.
    std::vector<float> tilt(s.channels), level(s.channels);
    for (int64_t c = 0; c < s.channels; ++c) {
        const double sum = sums[c], product = (sums[s.channels + c] - norm.rest[c] * sum) * norm.scale[c];
        grad.bias[c] = static_cast<float>(sum);
        grad.weight[c] = static_cast<float>(product);
        const double slope = in.weight[c] * norm.scale[c] / s.pixels, steep = -slope * product * norm.scale[c];
        tilt[c] = static_cast<float>(steep);
        level[c] = static_cast<float>(-slope * sum - steep * norm.rest[c]);
    }
    parallel_chunks(s, threads, [&](Chunk chunk) {
        strips(s, [&](int64_t channel, int64_t n) {
            const auto mean = Vec::load_some(&norm.mean[channel], n), slope = Vec::load_some(&norm.slope[channel], n);
            const auto steep = Vec::load_some(&tilt[channel], n), flat = Vec::load_some(&level[channel], n);
            for (int64_t p = 0; p < chunk.pixels; ++p) {
                const int64_t at = (chunk.first + p) * s.channels + channel;
                const auto centred = Vec::sub(Vec::load_some(in.s + at, n), mean);
                const auto dz = Vec::load_some(grad.s + at, n);
                Vec::store_some(grad.s + at, Vec::fma(dz, slope, Vec::fma(centred, steep, flat)), n);
            }
        });
    });
}
