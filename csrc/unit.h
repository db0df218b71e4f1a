// The elementwise work of an adder unit in training (addersr/layers/adder.py): what the kernels take. No torch headers.
//
//   s_hat = (s - mean) / sqrt(variance + norm_eps)           each channel over all N H W pixels of the batch
//   z = weight s_hat + bias + gain x                         channel o of s sees channel o / repeats of x
//   u = max(z, 0) + power_eps
//   y = u^alpha - power_eps^alpha
//
// All maps are float32, channels last and without gaps: s, y (pixels, channels), x (pixels, channels / repeats).
#pragma once

#include <cstdint>

struct UnitShape {
    int64_t pixels;  // N H W, at least 1
    int64_t channels, repeats;
    double norm_eps, power_eps;
};

// What both directions read. Without a shortcut x is null, and gain points to a zero.
struct UnitInputs {
    const float *s, *x;
    const float *gain, *weight, *bias, *alpha;  // gain and alpha one value, weight and bias one for each channel
};

struct UnitGradients {
    float *s, *x;  // x is null without a shortcut
    float *gain, *weight, *bias, *alpha;
};

struct UnitKernels {
    // Writes y, and for each channel the mean and behind them the biased variances.
    void (*forward)(const UnitShape&, const UnitInputs&, float* y, double* statistics, int threads);
    void (*backward)(const UnitShape&, const UnitInputs&, const double* statistics, const float* grad_y,
                     const UnitGradients&, int threads);
};
