// The kernels in AVX2 with FMA: 16 registers of 8 floats.
#include <immintrin.h>
#include <omp.h>

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
    using reg = __m256;
    static constexpr int lanes = 8, forward_vectors = 2, backward_vectors = 2;
    static constexpr int forward_registers = 12, backward_registers = 4;
    static reg load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, reg a) { _mm256_storeu_ps(p, a); }
    static __m256i first(int64_t n) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    static reg load_some(const float* p, int64_t n) { return _mm256_maskload_ps(p, first(n)); }
    static void store_some(float* p, reg a, int64_t n) { _mm256_maskstore_ps(p, first(n), a); }
    // IEEE half precision
    static reg load_half(const uint16_t* p) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static void store_half(uint16_t* p, reg a) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
    }
    static reg set1(float a) { return _mm256_set1_ps(a); }
    static reg zero() { return _mm256_setzero_ps(); }
    static reg add(reg a, reg b) { return _mm256_add_ps(a, b); }
    static reg sub(reg a, reg b) { return _mm256_sub_ps(a, b); }
    static reg min(reg a, reg b) { return _mm256_min_ps(a, b); }
    static reg max(reg a, reg b) { return _mm256_max_ps(a, b); }
    static reg fma(reg a, reg b, reg c) { return _mm256_fmadd_ps(a, b, c); }
    static reg clip1(reg a) { return _mm256_max_ps(set1(-1.0f), _mm256_min_ps(set1(1.0f), a)); }
    // A one that the compiler cannot see through, or it would turn the FMA back into an add.
    static reg opaque_one() {
        reg one = set1(1.0f);
        asm("" : "+x"(one));
        return one;
    }
};

struct Sad {
    using bytes = __m256i;
    using taps = __m256i;
    using sums = __m256i;
    static constexpr int cells = 2, vectors = 2, filters = 4;
    static sums zero() { return _mm256_setzero_si256(); }
    static bytes load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    static taps spread(uint32_t four) { return _mm256_set1_epi32(static_cast<int>(four)); }
    static void step(sums& total, taps w, bytes x) {
        total = _mm256_adds_epu16(total, _mm256_mpsadbw_epu8(x, w, 0));
    }
    static void flush(sums total, const int32_t* from, int32_t* to) {
        const __m128i halves[] = {_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1)};
        for (int half = 0; half < 2; ++half) {
            const __m256i before = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 8 * half));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 8 * half),
                                _mm256_add_epi32(before, _mm256_cvtepu16_epi32(halves[half])));
        }
    }
    static void stream(int32_t* to, const int32_t* from, int64_t count) { std::memcpy(to, from, count * sizeof *to); }
    static void drain() {}
};

struct Fixed {
    using reg = __m256i;
    static reg load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    static reg set1(int32_t pair) { return _mm256_set1_epi32(pair); }
    static reg zero() { return _mm256_setzero_si256(); }
    static void add(reg& sum, reg value, reg w) {
        const __m256i pairs = _mm256_madd_epi16(_mm256_max_epi16(value, w), _mm256_set1_epi16(1));
        sum = _mm256_add_epi32(sum, pairs);
    }
};

#include "kernels.hpp"

}  // namespace

const Adder2dKernels adder2d_avx2 = kernels("avx2");
