// The shapes the CPU kernels take, and the table that each instruction set fills. No torch headers.
//
// All tensors are float32, channels last and without gaps: x (N, H, W, C), y and its gradient (N, OH, OW, O).
#pragma once

#include <cstdint>

#include "sad2d.h"
#include "unit.h"

struct Adder2dShape {
    int64_t n, c, h, w;  // input
    int64_t o, kh, kw;   // filters (o, c, kh, kw)
    int64_t stride_h, stride_w, pad_h, pad_w;
    int64_t oh, ow;  // output
};

struct Adder2dKernels {
    const char* name;
    int lanes;                              // floats in one vector
    int forward_vectors, backward_vectors;  // vectors of channels in one block of packed filters
    // y = -sum |x - w|
    void (*forward)(const Adder2dShape&, const float* x, const float* packed, float* y, int threads);
    // The same in 16-bit fixed point (fixed16_kernels.hpp); weight is not packed. False if it has to be in float32.
    bool (*forward_fixed16)(const Adder2dShape&, const float* x, const float* weight, float* y, int threads);
    // grad_x = sum HardTanh(w - x) grad_y
    void (*grad_input)(const Adder2dShape&, const float* grad_y, const float* x, const float* packed, float* grad_x,
                       int threads);
    UnitKernels unit;
    // y: the whole unit at inference (unit_tail.hpp). The residual, shaped like y, may be null.
    void (*infer)(const Adder2dShape&, const UnitTail&, const float* x, const float* packed, const float* residual,
                  float* y, int threads);
    Sad2dKernels sad2d;
};

extern const Adder2dKernels adder2d_portable, adder2d_avx2, adder2d_avx512;
