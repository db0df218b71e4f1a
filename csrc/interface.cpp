// The C interface that Python loads: the choice of instruction set, the packing of filters, the two kernels.
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "adder2d.h"

namespace {

#ifdef ADDERSR_X86
const Adder2dKernels* const kSets[] = {&adder2d_avx512, &adder2d_avx2, &adder2d_portable};

bool runs_here(const Adder2dKernels* set) {
    __builtin_cpu_init();
    if (set == &adder2d_avx512) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
    if (set == &adder2d_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
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
std::vector<float> pack(const Adder2dShape& s, const float* weight, bool swapped) {
    const int64_t lanes = chosen()->lanes, widest = lanes * chosen()->max_vectors, taps = s.kh * s.kw;
    const int64_t channels = swapped ? s.c : s.o, depth = swapped ? s.o : s.c;
    const int64_t channel_step = swapped ? taps : s.c * taps, depth_step = swapped ? s.c * taps : taps;
    const int64_t padded = (channels + lanes - 1) / lanes * lanes;
    std::vector<float> packed(padded * taps * depth);
    for (int64_t first = 0; first < padded; first += widest) {
        const int64_t width = padded - first < widest ? padded - first : widest;
        const int64_t valid = channels - first < width ? channels - first : width;
        float* to = packed.data() + first * taps * depth;
        for (int64_t tap = 0; tap < taps; ++tap)
            for (int64_t d = 0; d < depth; ++d, to += width)
                for (int64_t lane = 0; lane < valid; ++lane)
                    to[lane] = weight[(first + lane) * channel_step + d * depth_step + tap];
    }
    return packed;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// The instruction set in use, or null if ADDERSR_ISA names one that this processor or build does not have.
EXPORT const char* addersr_instruction_set() { return chosen() ? chosen()->name : nullptr; }

// Both return 0, or 1 if there is no memory left. weight: (O, C, Kh, Kw), contiguous.
EXPORT int addersr_adder2d_forward(const Adder2dShape* shape, const float* x, const float* weight, float* y,
                                   int threads) try {
    chosen()->forward(*shape, x, pack(*shape, weight, false).data(), y, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

EXPORT int addersr_adder2d_grad_input(const Adder2dShape* shape, const float* grad_y, const float* x,
                                      const float* weight, float* grad_x, int threads) try {
    chosen()->grad_input(*shape, grad_y, x, pack(*shape, weight, true).data(), grad_x, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}
