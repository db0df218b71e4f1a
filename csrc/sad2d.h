// The quantised operation: sums of absolute differences of bytes, and an adder unit built on them. No torch headers.
//
// Pictures are planar (channels, height, width) and without gaps, one at a time.
#pragma once

#include <cstdint>

struct Sad2dShape {
    int64_t c, h, w;    // input
    int64_t o, kh, kw;  // filters (o, c, kh, kw)
    int64_t stride_h, stride_w, pad_h, pad_w;
    int64_t oh, ow;  // output
};

// How a float becomes a byte: round(x * inverse_step) + zero, held to [0, top]. By how many steps x * inverse_step + zero
// lies beyond 0 or top is its excess.
struct Quantizer {
    float inverse_step, step;
    int32_t zero, top;
};

// What follows the sums S of one unit, with u the unit's input and e the excess of the values that S saw:
//   z = scale[o] * step * (S + e) + bias[o] + gain * u[o / repeats]
//   z = max(z, 0) where relu; z = sign(z) ((|z| + eps)^alpha - floor) where power, floor = eps^alpha
//   y = z, or residual + residual_scaling * z where there is a residual
struct UnitTail {
    const float *scale, *bias;  // (o)
    float gain;
    int64_t repeats;
    int32_t relu, power;
    float alpha, eps, floor;
    float residual_scaling;
};

// The end of a network: planes (c r r, h, w) in half precision are shuffled to (c, r h, r w), convolved by 3x3 filters with
// zeros around, and added to a picture (3, r h, r w) in float32. r is 2 or 3.
struct ShuffleConvShape {
    int64_t c, h, w, r;
};

struct Sad2dKernels {
    int filters;  // filters in a full block of packed ones; the rest comes in blocks of kFewFilters
    // y (o, oh, ow) = sum |x - w|, where the outside of the picture counts as pad_value.
    void (*sums)(const Sad2dShape&, const uint8_t* x, uint8_t pad_value, const uint32_t* packed, int32_t* y,
                 uint8_t* workspace, int threads);
    // y (o, oh, ow): the whole unit, maps in half precision. Stride 1, odd filters, y as large as x. The residual, shaped like y, may be null.
    void (*unit)(const Sad2dShape&, const Quantizer&, const UnitTail&, const uint16_t* x, const uint32_t* packed,
                 const uint16_t* residual, uint16_t* y, uint8_t* workspace, int threads);
    // y = base + bias + convolution; weight (c, row, column, colour). y may be base.
    void (*shuffle_conv)(const ShuffleConvShape&, const uint16_t* x, const float* weight, const float* bias,
                         const float* base, float* y, int threads);
    // Bytes of workspace for this many threads. It begins at a multiple of 64.
    int64_t (*workspace_bytes)(const Sad2dShape&, int threads);
};

constexpr int kFewFilters = 4;
