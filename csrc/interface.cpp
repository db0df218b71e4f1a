// The C interface that Python loads: the choice of instruction set, the packing of filters, the kernels.
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "adder2d.h"

namespace {

#include "cache_lines.hpp"

#ifdef ADDERSR_X86
const Adder2dKernels* const kSets[] = {&adder2d_avx512, &adder2d_avx2, &adder2d_portable};

bool runs_here(const Adder2dKernels* set) {
    __builtin_cpu_init();
    if (set == &adder2d_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
    if (set == &adder2d_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("f16c");
    return true;
}
#else
const Adder2dKernels* const kSets[] = {&adder2d_portable};

bool runs_here(const Adder2dKernels*) { return true; }
#endif

// The widest set that this processor has, or the one that ADDERSR_ISA names. Null if that one cannot run here.
const Adder2dKernels* choose() {
    const char* wanted = std::getenv("ADDERSR_ISA");
    for (const auto* set : kSets)
        if (wanted && *wanted ? !std::strcmp(set->name, wanted) && runs_here(set) : runs_here(set)) return set;
    return nullptr;
}

const Adder2dKernels* chosen() {
    static const Adder2dKernels* const set = choose();
    return set;
}

// weight (O, C, taps) -> [block of Q vectors][tap][depth][Q * lanes], lanes along O and depth along C, or swapped.
// `packed` has packed_floats(s, swapped) zeros.
void pack(const Adder2dShape& s, const float* weight, bool swapped, float* packed) {
    const int64_t lanes = chosen()->lanes, taps = s.kh * s.kw;
    const int64_t widest = lanes * (swapped ? chosen()->backward_vectors : chosen()->forward_vectors);
    const int64_t channels = swapped ? s.c : s.o, depth = swapped ? s.o : s.c;
    const int64_t channel_step = swapped ? taps : s.c * taps, depth_step = swapped ? s.c * taps : taps;
    const int64_t padded = (channels + lanes - 1) / lanes * lanes;
    for (int64_t first = 0; first < padded; first += widest) {
        const int64_t width = padded - first < widest ? padded - first : widest;
        const int64_t valid = channels - first < width ? channels - first : width;
        float* to = packed + first * taps * depth;
        for (int64_t tap = 0; tap < taps; ++tap)
            for (int64_t d = 0; d < depth; ++d, to += width)
                for (int64_t lane = 0; lane < valid; ++lane)
                    to[lane] = weight[(first + lane) * channel_step + d * depth_step + tap];
    }
}

int64_t packed_floats(const Adder2dShape& s, bool swapped) {
    const int64_t lanes = chosen()->lanes, channels = swapped ? s.c : s.o, depth = swapped ? s.o : s.c;
    return (channels + lanes - 1) / lanes * lanes * s.kh * s.kw * depth;
}

CacheLines<float> packed(const Adder2dShape& s, const float* weight, bool swapped) {
    CacheLines<float> result(packed_floats(s, swapped));
    pack(s, weight, swapped, result.data());
    return result;
}

// The filters of one block of the quantised kernels that begins at filter o.
int64_t block_filters(const Sad2dShape& s, int64_t o) {
    const int64_t left = (s.o - o + kFewFilters - 1) / kFewFilters * kFewFilters;
    return left >= chosen()->sad2d.filters ? chosen()->sad2d.filters : kFewFilters;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// The instruction set in use, or null if ADDERSR_ISA names one that this processor or build does not have.
EXPORT const char* addersr_instruction_set() { return chosen() ? chosen()->name : nullptr; }

// Functions that return an int return 0, or 1 if there is no memory left. weight: (O, C, Kh, Kw), contiguous.
EXPORT int addersr_adder2d_forward(const Adder2dShape* shape, const float* x, const float* weight, float* y,
                                   int threads) try {
    chosen()->forward(*shape, x, packed(*shape, weight, false).data(), y, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

// As above, and 2 if the sums have to be in float32 instead.
EXPORT int addersr_adder2d_forward_fixed16(const Adder2dShape* shape, const float* x, const float* weight, float* y,
                                           int threads) try {
    return chosen()->forward_fixed16(*shape, x, weight, y, threads) ? 0 : 2;
} catch (const std::bad_alloc&) {
    return 1;
}

EXPORT int addersr_adder2d_grad_input(const Adder2dShape* shape, const float* grad_y, const float* x,
                                      const float* weight, float* grad_x, int threads) try {
    chosen()->grad_input(*shape, grad_y, x, packed(*shape, weight, true).data(), grad_x, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

// The statistics are float64: a mean for each channel, then a biased variance for each. Both return as those above.
EXPORT int addersr_unit_forward(const UnitShape* shape, const UnitInputs* inputs, float* y, double* statistics,
                                int threads) try {
    chosen()->unit.forward(*shape, *inputs, y, statistics, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

EXPORT int addersr_unit_backward(const UnitShape* shape, const UnitInputs* inputs, const double* statistics,
                                 const float* grad_y, const UnitGradients* gradients, int threads) try {
    chosen()->unit.backward(*shape, *inputs, statistics, grad_y, *gradients, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

// Filters packed once for addersr_unit_infer: how many floats that takes, and the packing into that many zeros.
EXPORT int64_t addersr_adder2d_packed_floats(const Adder2dShape* shape) { return packed_floats(*shape, false); }

EXPORT void addersr_adder2d_pack(const Adder2dShape* shape, const float* weight, float* packed) {
    pack(*shape, weight, false, packed);
}

// A whole unit at inference. Returns as those above.
EXPORT int addersr_unit_infer(const Adder2dShape* shape, const UnitTail* tail, const float* x, const float* packed,
                              const float* residual, float* y, int threads) try {
    chosen()->infer(*shape, *tail, x, packed, residual, y, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

// The quantised kernels. Filters (O, C, Kh, Kw) are packed as [block][channel][group of 4 taps][tap row][filter], four
// taps in one word, the first in its lowest byte.
EXPORT int64_t addersr_sad2d_packed_words(const Sad2dShape* shape) {
    return (shape->o + kFewFilters - 1) / kFewFilters * kFewFilters * shape->c * ((shape->kw + 3) / 4) * shape->kh;
}

// `packed` has that many zeros.
EXPORT void addersr_sad2d_pack(const Sad2dShape* shape, const uint8_t* weight, uint32_t* packed) {
    const Sad2dShape& s = *shape;
    for (int64_t o = 0; o < s.o; o += block_filters(s, o))
        for (int64_t c = 0; c < s.c; ++c)
            for (int64_t first = 0; first < s.kw; first += 4)
                for (int64_t i = 0; i < s.kh; ++i)
                    for (int64_t n = o; n < o + block_filters(s, o); ++n, ++packed)
                        for (int64_t t = 0; n < s.o && t < 4 && first + t < s.kw; ++t)
                            *packed |= uint32_t{weight[((n * s.c + c) * s.kh + i) * s.kw + first + t]} << 8 * t;
}

// Bytes of workspace for this many threads. It must begin at a multiple of 64.
EXPORT int64_t addersr_sad2d_workspace(const Sad2dShape* shape, int threads) {
    return chosen()->sad2d.workspace_bytes(*shape, threads);
}

EXPORT void addersr_sad2d_sums(const Sad2dShape* shape, const uint8_t* x, uint8_t pad_value, const uint32_t* packed,
                               int32_t* y, uint8_t* workspace, int threads) {
    chosen()->sad2d.sums(*shape, x, pad_value, packed, y, workspace, threads);
}

EXPORT void addersr_sad2d_unit(const Sad2dShape* shape, const Quantizer* quantizer, const UnitTail* tail,
                               const uint16_t* x, const uint32_t* packed, const uint16_t* residual, uint16_t* y,
                               uint8_t* workspace, int threads) {
    chosen()->sad2d.unit(*shape, *quantizer, *tail, x, packed, residual, y, workspace, threads);
}

// Returns as those that allocate.
EXPORT int addersr_shuffle_conv(const ShuffleConvShape* shape, const uint16_t* x, const float* weight,
                                const float* bias, const float* base, float* y, int threads) try {
    chosen()->sad2d.shuffle_conv(*shape, x, weight, bias, base, y, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}
