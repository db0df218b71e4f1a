// The kernels on four-lane vectors of the compiler's own (GCC, Clang): SSE2 on x86-64, NEON on ARM, plain code elsewhere.
#include <omp.h>

#include <cstring>
#include <vector>

#include "adder2d.h"

namespace {

struct Vec {
    using reg = float __attribute__((vector_size(16)));
    static constexpr int lanes = 4, max_vectors = 2, forward_registers = 8, backward_registers = 4;
    static reg load(const float* p) {
        reg a;
        std::memcpy(&a, p, sizeof a);
        return a;
    }
    static void store(float* p, reg a) { std::memcpy(p, &a, sizeof a); }
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

#include "adder2d_kernels.hpp"

}  // namespace

const Adder2dKernels adder2d_portable = {"portable", Vec::lanes, Vec::max_vectors, forward, grad_input};
