// What follows the sums of an adder unit at inference; included like adder2d_kernels.hpp, after vector_math.hpp.

// One vector of results from the sums S of their units; see UnitTail. `residual` counts only where the tail has one.
inline Vec::reg unit_tail(const UnitTail& tail, Vec::reg sums, Vec::reg scale, Vec::reg bias, Vec::reg input,
                          Vec::reg residual) {
    auto z = Vec::fma(Vec::set1(tail.gain), input, Vec::fma(scale, sums, bias));
    if (tail.relu) z = Vec::max(Vec::zero(), z);  // this order of operands lets a NaN through
    if (tail.power) {
        const auto magnitude = Vec::max(z, Vec::sub(Vec::zero(), z));
        const auto power = vector_pow(Vec::add(magnitude, Vec::set1(tail.eps)), Vec::set1(tail.alpha));
        const auto grown = Vec::sub(power, Vec::set1(tail.floor));
        z = tail.relu ? grown : from_bits(bits_of(grown) ^ (bits_of(z) & INT32_MIN));
    }
    return tail.residual ? Vec::fma(Vec::set1(tail.residual_scaling), z, residual) : z;
}

// y (n, h, w, o), channels last in float32: the whole unit. Stride 1, and the output as large as the input.
void unit_infer(const Adder2dShape& s, const UnitTail& tail, const float* x, const float* packed, float* y,
                int threads) {
    forward_to(s, x, packed, threads, [&](int64_t pixel, int64_t o, int64_t count, Vec::reg result) {
        const float* input = x + pixel * s.c;
        float repeated[Vec::lanes];
        if (tail.repeats == 1) {
            input += o;
        } else {
            for (int64_t lane = 0; lane < count; ++lane) repeated[lane] = input[(o + lane) / tail.repeats];
            input = repeated;
        }
        const int64_t at = pixel * s.o + o;
        const auto residual = tail.residual ? Vec::load_some(tail.residual + at, count) : Vec::zero();
        result = unit_tail(tail, Vec::sub(Vec::zero(), result), Vec::load_some(tail.scale + o, count),
                           Vec::load_some(tail.bias + o, count), Vec::load_some(input, count), residual);
        Vec::store_some(y + at, result, count);
    });
}
