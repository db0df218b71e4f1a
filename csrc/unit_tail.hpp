// What follows the sums of an adder unit at inference; included like adder2d_kernels.hpp, after vector_math.hpp.

inline Vec::reg load_some_half(const uint16_t* p, int64_t n) {
    if (n == Vec::lanes) return Vec::load_half(p);
    uint16_t lanes[Vec::lanes] = {};
    std::memcpy(lanes, p, n * sizeof *p);
    return Vec::load_half(lanes);
}

inline void store_some_half(uint16_t* p, Vec::reg a, int64_t n) {
    if (n == Vec::lanes) return Vec::store_half(p, a);
    uint16_t lanes[Vec::lanes];
    Vec::store_half(lanes, a);
    std::memcpy(p, lanes, n * sizeof *p);
}

// base^power for maps in half precision, whose own rounding is 5e-4: off by 1e-5 times (1 + |power|) of the result.
// base: positive and normal; the result must lie within 2^-126..2^127.
inline Vec::reg half_pow(Vec::reg base, Vec::reg power) {
    // log2(1 + t) / t on [sqrt(1/2) - 1, sqrt(2) - 1], and (2^r - 1) / r on [-1/2, 1/2], minimax
    static constexpr float log_terms[] = {1.44257796f, -0.720241785f, 0.4866862f, -0.394575506f, 0.252660215f};
    static constexpr float exp_terms[] = {0.693124175f, 0.240240991f, 0.0559064262f, 0.00958285294f};
    constexpr int32_t root_half = 0x3f3504f3;
    const IntReg exponent = (bits_of(base) - root_half) >> 23;
    const auto t = Vec::sub(from_bits(bits_of(base) - (exponent << 23)), Vec::set1(1.0f));
    const auto log = Vec::fma(polynomial(t, log_terms), t, to_float(exponent));
    const auto rounder = Vec::set1(kRounder);
    const auto rounded = Vec::fma(log, power, rounder);
    const auto r = Vec::fma(log, power, Vec::sub(rounder, rounded));
    const auto significand = Vec::fma(polynomial(r, exp_terms), r, Vec::set1(1.0f));
    return from_bits(bits_of(significand) + (bits_of(rounded) << 23));
}

// One vector of results from the sums S of their unit; see UnitTail. `residual` counts where `add` says so.
// `pow` is vector_pow or half_pow.
template <class Pow>
inline Vec::reg unit_tail(const UnitTail& tail, Pow pow, Vec::reg sums, Vec::reg scale, Vec::reg bias, Vec::reg input,
                          bool add, Vec::reg residual) {
    auto z = Vec::fma(Vec::set1(tail.gain), input, Vec::fma(scale, sums, bias));
    if (tail.relu) z = Vec::max(Vec::zero(), z);  // this order of operands lets a NaN through
    if (tail.power) {
        const auto magnitude = tail.relu ? z : Vec::max(z, Vec::sub(Vec::zero(), z));
        const auto power = pow(Vec::add(magnitude, Vec::set1(tail.eps)), Vec::set1(tail.alpha));
        const auto grown = Vec::sub(power, Vec::set1(tail.floor));
        z = tail.relu ? grown : from_bits(bits_of(grown) ^ (bits_of(z) & INT32_MIN));
    }
    return add ? Vec::fma(Vec::set1(tail.residual_scaling), z, residual) : z;
}

// y (n, h, w, o), channels last in float32: the whole unit. Stride 1, and the output as large as the input.
void unit_infer(const Adder2dShape& s, const UnitTail& tail, const float* x, const float* packed,
                const float* residual, float* y, int threads) {
    forward_float(s, x, packed, threads, [&](int64_t pixel, int64_t o, int64_t count, Vec::reg result) {
        const float* input = x + pixel * s.c;
        float repeated[Vec::lanes];
        if (tail.repeats == 1) {
            input += o;
        } else {
            for (int64_t lane = 0; lane < count; ++lane) repeated[lane] = input[(o + lane) / tail.repeats];
            input = repeated;
        }
        const int64_t at = pixel * s.o + o;
        const auto added = residual ? Vec::load_some(residual + at, count) : Vec::zero();
        const auto pow = [](Vec::reg base, Vec::reg power) { return vector_pow(base, power); };
        result = unit_tail(tail, pow, Vec::sub(Vec::zero(), result), Vec::load_some(tail.scale + o, count),
                           Vec::load_some(tail.bias + o, count), Vec::load_some(input, count), residual, added);
        Vec::store_some(y + at, result, count);
    });
}
