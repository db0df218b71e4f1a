// The kernels in AVX-512 (F and DQ): 32 registers of 16 floats.
#include <immintrin.h>
#include <omp.h>

#include <vector>

#include "adder2d.h"

namespace {

struct Vec {
    using reg = __m512;
    static constexpr int lanes = 16, max_vectors = 4, forward_registers = 24, backward_registers = 12;
    static reg load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, reg a) { _mm512_storeu_ps(p, a); }
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

#include "adder2d_kernels.hpp"

}  // namespace

const Adder2dKernels adder2d_avx512 = {"avx512", Vec::lanes, Vec::max_vectors, forward, grad_input};
