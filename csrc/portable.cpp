// The kernels on four-lane vectors of the compiler's own (GCC, Clang): SSE2 on x86-64, NEON on ARM, plain code elsewhere.
#include <omp.h>
#ifdef __ARM_NEON
#include <arm_neon.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "adder2d.h"

namespace {

struct Vec {
    using reg = float __attribute__((vector_size(16)));
    static constexpr int lanes = 4, forward_vectors = 2, backward_vectors = 2;
    static constexpr int forward_registers = 8, backward_registers = 4;
    static reg load(const float* p) {
        reg a;
        std::memcpy(&a, p, sizeof a);
        return a;
    }
    static void store(float* p, reg a) { std::memcpy(p, &a, sizeof a); }
    static reg load_some(const float* p, int64_t n) {
        if (n == lanes) return load(p);
        reg a{};
        for (int64_t lane = 0; lane < n; ++lane) a[lane] = p[lane];
        return a;
    }
    static void store_some(float* p, reg a, int64_t n) {
        if (n == lanes) return store(p, a);
        for (int64_t lane = 0; lane < n; ++lane) p[lane] = a[lane];
    }
    // IEEE half precision. A multiplication moves the exponent, and makes or takes subnormal numbers as it should.
    using ints = int32_t __attribute__((vector_size(16)));
    static reg load_half(const uint16_t* p) {
        const ints half{p[0], p[1], p[2], p[3]};
        const reg large = reinterpret_cast<reg>((half & 0x7fff) << 13) * 0x1p112f;
        const ints bits = reinterpret_cast<ints>(large);
        const ints special = bits >= 0x47800000;  // 65536 and above: infinity or not a number
        return reinterpret_cast<reg>(bits | (special & 0x7f800000) | (half & 0x8000) << 16);
    }
    static void store_half(uint16_t* p, reg a) {
        const ints bits = reinterpret_cast<ints>(a), magnitude = bits & 0x7fffffff;
        // Adding this power of two rounds to the last bit of a half, of a subnormal one at the least.
        const ints exponent = magnitude & 0x7f800000;
        const ints unit = (exponent < 0x38800000 ? ints{} + 0x38800000 : exponent) + (13 << 23);
        const reg rounder = reinterpret_cast<reg>(unit);
        const ints rounded = reinterpret_cast<ints>((reinterpret_cast<reg>(magnitude) + rounder) - rounder);
        const ints small = reinterpret_cast<ints>(reinterpret_cast<reg>(rounded) * 0x1p-112f) >> 13;
        const ints large = magnitude > 0x7f800000 ? ints{} + 0x7e00 : ints{} + 0x7c00;
        const ints half = (rounded >= 0x47800000 || magnitude >= 0x7f800000 ? large : small) | (bits >> 16 & 0x8000);
        for (int lane = 0; lane < lanes; ++lane) p[lane] = static_cast<uint16_t>(half[lane]);
    }
    static reg set1(float a) { return reg{a, a, a, a}; }
    static reg zero() { return reg{}; }
    static reg add(reg a, reg b) { return a + b; }
    static reg sub(reg a, reg b) { return a - b; }
    static reg min(reg a, reg b) { return a < b ? a : b; }
    static reg max(reg a, reg b) { return a > b ? a : b; }
    static reg fma(reg a, reg b, reg c) { return a * b + c; }
    static reg clip1(reg a) {
        const reg one = set1(1.0f), least = a > one ? one : a;
        return least < -one ? -one : least;
    }
    static reg opaque_one() { return set1(1.0f); }
};

struct Sad {
    using bytes = const uint8_t*;
    using taps = uint32_t;
    using sums = uint16_t __attribute__((vector_size(16)));
    static constexpr int cells = 1, vectors = 1, filters = 4;
    static sums zero() { return sums{}; }
    static bytes load(const uint8_t* p) { return p; }
    static taps spread(uint32_t four) { return four; }
    static void step(sums& total, taps w, bytes x) {
        using Eight = uint8_t __attribute__((vector_size(8)));
        for (int t = 0; t < 4; ++t) {
            Eight window;
            std::memcpy(&window, x + t, sizeof window);
#ifdef __ARM_NEON
            // GCC 12 does not find this instruction by itself.
            const uint8x8_t tap = vdup_n_u8(static_cast<uint8_t>(w >> 8 * t));
            total = (sums)vabal_u8((uint16x8_t)total, (uint8x8_t)window, tap);
#else
            const auto values = __builtin_convertvector(window, sums);
            const sums tap = sums{} + static_cast<uint16_t>(w >> 8 * t & 255);
            total += values > tap ? values - tap : tap - values;
#endif
        }
    }
    static void flush(sums total, const int32_t* from, int32_t* to) {
        for (int p = 0; p < 8; ++p) to[p] = from[p] + total[p];
    }
    static void stream(int32_t* to, const int32_t* from, int64_t count) { std::memcpy(to, from, count * sizeof *to); }
    static void drain() {}
};

struct Fixed {
    using reg = int32_t __attribute__((vector_size(16)));
    using halves = int16_t __attribute__((vector_size(16)));
    static reg load(const int32_t* p) {
        reg a;
        std::memcpy(&a, p, sizeof a);
        return a;
    }
    static reg set1(int32_t pair) { return reg{pair, pair, pair, pair}; }
    static reg zero() { return reg{}; }
    static void add(reg& sum, reg value, reg w) {
        const auto a = reinterpret_cast<halves>(value), b = reinterpret_cast<halves>(w);
        const auto pairs = reinterpret_cast<reg>(a > b ? a : b);
        sum += (pairs << 16 >> 16) + (pairs >> 16);
    }
};

#include "kernels.hpp"

}  // namespace

const Adder2dKernels adder2d_portable = kernels("portable");
