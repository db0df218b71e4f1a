// The kernels in AVX2 with FMA: 16 registers of 8 floats.
#include <immintrin.h>
#include <omp.h>

#include <vector>

#include "adder2d.h"

namespace {

struct Vec {
    using reg = __m256;
    static constexpr int lanes = 8, max_vectors = 2, forward_registers = 12, backward_registers = 4;
    static reg load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, reg a) { _mm256_storeu_ps(p, a); }
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

#include "adder2d_kernels.hpp"

}  // namespace

const Adder2dKernels adder2d_avx2 = {"avx2", Vec::lanes, Vec::max_vectors, forward, grad_input};
