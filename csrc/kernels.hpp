// All kernels of one instruction set, and the table of them; included by avx512.cpp, avx2.cpp and portable.cpp in their
// unnamed namespaces, behind Vec, Sad and Fixed.
#include "adder2d_kernels.hpp"
#include "cache_lines.hpp"
#include "vector_math.hpp"

#include "fixed16_kernels.hpp"
#include "unit_tail.hpp"

#include "sad2d_kernels.hpp"
#include "shuffle_conv.hpp"
#include "unit_kernels.hpp"

constexpr Adder2dKernels kernels(const char* name) {
    return {
        name,
        Vec::lanes,
        Vec::forward_vectors,
        Vec::backward_vectors,
        forward,
        forward_fixed16,
        grad_input,
        {unit_forward, unit_backward},
        unit_infer,
        {Sad::filters, sad2d_sums, sad2d_unit, shuffle_conv, sad2d_workspace_bytes},
    };
}
