// The kernels in AVX-512 (F, DQ, BW and VNNI): 32 registers of 16 floats.
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

#define ADDERSR_AVX512  // for vector_math.hpp

namespace {

struct Vec {
    using reg = __m512;
    static constexpr int lanes = 16, forward_vectors = 4, backward_vectors = 2;
    static constexpr int forward_registers = 24, backward_registers = 12;
    static reg load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, reg a) { _mm512_storeu_ps(p, a); }
    static __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
    static reg load_some(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
    static void store_some(float* p, reg a, int64_t n) { _mm512_mask_storeu_ps(p, first(n), a); }
    // IEEE half precision
    static reg load_half(const uint16_t* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static void store_half(uint16_t* p, reg a) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
    }
    static reg set1(float a) { return _mm512_set1_ps(a); }
    static reg zero() { return _mm512_setzero_ps(); }
    static reg add(reg a, reg b) { return _mm512_add_ps(a, b); }
    static reg sub(reg a, reg b) { return _mm512_sub_ps(a, b); }
    static reg min(reg a, reg b) { return _mm512_min_ps(a, b); }
    static reg max(reg a, reg b) { return _mm512_max_ps(a, b); }
    static reg fma(reg a, reg b, reg c) { return _mm512_fmadd_ps(a, b, c); }
    // One instruction: the smaller magnitude of a and 1, with the sign of a.
    static reg clip1(reg a) { return _mm512_range_ps(a, _mm512_set1_ps(1.0f), 0b0010); }
    // A one that the compiler cannot see through, or it would turn the FMA back into an add.
    static reg opaque_one() {
        reg one = set1(1.0f);
        asm("" : "+v"(one));
        return one;
    }
};

struct Sad {
    using bytes = __m512i;
    using taps = __m512i;
    using sums = __m512i;
    static constexpr int cells = 4, vectors = 2, filters = 8;
    static sums zero() { return _mm512_setzero_si512(); }
    static bytes load(const uint8_t* p) { return _mm512_loadu_si512(p); }
    // Kept in a register, or the compiler would load it anew for each vector of bytes.
    static taps spread(uint32_t four) {
        taps w = _mm512_set1_epi32(static_cast<int>(four));
        asm("" : "+v"(w));
        return w;
    }
    // The immediate slides the taps over bytes 0-10 of a cell. The saturating addition runs on the port that the sums of
    // differences leave free (Intel), a plain one competes for theirs; written in assembler, because the compiler would
    // surround it with copies.
    static void step(sums& total, taps w, bytes x) {
        const __m512i sum = _mm512_dbsad_epu8(w, x, 0x94);
        asm("vpaddusw %1, %0, %0" : "+v"(total) : "v"(sum));
    }
    static void flush(sums total, const int32_t* from, int32_t* to) {
        const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(total));
        const __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(total, 1));
        _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_loadu_si512(from), low));
        _mm512_storeu_si512(to + 16, _mm512_add_epi32(_mm512_loadu_si512(from + 16), high));
    }
    static void stream(int32_t* to, const int32_t* from, int64_t count) {
        const bool lines = reinterpret_cast<uintptr_t>(to) % 64 == 0;
        int64_t i = 0;
        for (; lines && i + 16 <= count; i += 16)
            _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
        std::memcpy(to + i, from + i, (count - i) * sizeof *to);
    }
    static void drain() { _mm_sfence(); }
};

struct Fixed {
    using reg = __m512i;
    static reg load(const int32_t* p) { return _mm512_loadu_si512(p); }
    static reg set1(int32_t pair) { return _mm512_set1_epi32(pair); }
    static reg zero() { return _mm512_setzero_si512(); }
    static void add(reg& sum, reg value, reg w) {
        const __m512i ones = _mm512_set1_epi16(1);
        sum = _mm512_dpwssd_epi32(sum, _mm512_max_epi16(value, w), ones);
    }
};

#include "kernels.hpp"

}  // namespace

const Adder2dKernels adder2d_avx512 = kernels("avx512");
