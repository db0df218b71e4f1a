// Logarithm, exponential and power on vectors of float32, written once over the Vec of the including instruction set and
// the compiler's own vector extensions (GCC, Clang). Included like adder2d_kernels.hpp, inside an unnamed namespace,
// with <limits>; avx512.cpp defines ADDERSR_AVX512 for the instructions that only it has.
//
// Largest errors, measured against double precision: log2 2 ulp, exp2 1 ulp; powers from -4 to 4 of 1e-4 to 1e4
// 4e-7 of the result; where Vec::fma rounds twice 2.6 ulp, 1.2 ulp and 1.6e-6. Results beyond float32 become infinity,
// those below 2^-127 zero or, with AVX-512, subnormal. A NaN gives NaN; powers of infinity give infinity or NaN.

using IntReg = int32_t __attribute__((vector_size(sizeof(Vec::reg))));

inline IntReg bits_of(Vec::reg a) { return reinterpret_cast<IntReg>(a); }
inline Vec::reg from_bits(IntReg a) { return reinterpret_cast<Vec::reg>(a); }
inline Vec::reg to_float(IntReg a) { return __builtin_convertvector(a, Vec::reg); }

template <int N>
inline Vec::reg polynomial(Vec::reg x, const float (&coefficients)[N]) {
    auto sum = Vec::set1(coefficients[N - 1]);
#pragma GCC unroll 16
    for (int i = N - 2; i >= 0; --i) sum = Vec::fma(sum, x, Vec::set1(coefficients[i]));
    return sum;
}

// log2(x) = exponent + fraction, the exponent whole and the fraction within [-0.42, 0.59]. Kept apart they carry more
// bits than their sum, which a power needs.
struct Log2 {
    Vec::reg exponent, fraction;
};

// x: positive and normal, infinite or NaN; anything else gives some other value.
inline Log2 split_log2(Vec::reg x) {
#ifdef ADDERSR_AVX512
    const auto mantissa = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    const auto exponent = Vec::sub(_mm512_getexp_ps(x), _mm512_getexp_ps(mantissa));
#else
    constexpr int32_t least_mantissa = 0x3f400000;  // 0.75
    const IntReg shift = (bits_of(x) - least_mantissa) >> 23;
    const auto mantissa = from_bits(bits_of(x) - (shift << 23));
    const auto exponent = x < Vec::set1(std::numeric_limits<float>::infinity()) ? to_float(shift) : x;
#endif
    // log2(1 + t) / t on [-1/4, 1/2], minimax in the relative error (2.7e-8)
    static constexpr float coefficients[] = {1.44269503f,   -0.721348478f, 0.480902081f,  -0.360575921f, 0.288191501f,
                                             -0.24272352f, 0.216324908f,  -0.174230305f, 0.0780667706f};
    const auto t = Vec::sub(mantissa, Vec::set1(1.0f));
    return {exponent, polynomial(t, coefficients) * t};
}

// Adding it to a number below 2^22 rounds that to a whole one, which is then in the low bits of the sum.
constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23

// 2^(n + r) for n = rounded - kRounder and |r| <= 1/2, or little more.
inline Vec::reg exp2_parts(Vec::reg rounded, Vec::reg r) {
    // (2^r - 1) / r on [-1/2, 1/2], minimax in the relative error of 2^r (2e-9)
    static constexpr float coefficients[] = {0.693147203f,   0.240226479f,   0.0555033247f,
                                             0.00961843736f, 0.00133988746f, 0.000153533621f};
    const auto significand = Vec::fma(polynomial(r, coefficients), r, Vec::set1(1.0f));
#ifdef ADDERSR_AVX512
    return _mm512_scalef_ps(significand, Vec::sub(rounded, Vec::set1(kRounder)));
#else
    // Exponents -127 and 128 are the bit patterns of zero and infinity.
    const auto within = Vec::max(Vec::min(rounded, Vec::set1(kRounder + 128)), Vec::set1(kRounder - 127));
    return significand * from_bits((bits_of(within) + 127) << 23);
#endif
}

inline Vec::reg vector_log2(Vec::reg x) {
    const Log2 parts = split_log2(x);
    return Vec::add(parts.exponent, parts.fraction);
}

// |x| < 2^22
inline Vec::reg vector_exp2(Vec::reg x) {
    const auto rounded = Vec::add(x, Vec::set1(kRounder));
    return exp2_parts(rounded, Vec::sub(x, Vec::sub(rounded, Vec::set1(kRounder))));
}

// base^power from the base's logarithm; |power log2(base)| < 2^22
inline Vec::reg vector_pow(const Log2& base, Vec::reg power) {
    const auto rounded = Vec::add(power * Vec::add(base.exponent, base.fraction), Vec::set1(kRounder));
    const auto minus_whole = Vec::sub(Vec::set1(kRounder), rounded);
    return exp2_parts(rounded, Vec::fma(power, base.fraction, Vec::fma(power, base.exponent, minus_whole)));
}

inline Vec::reg vector_pow(Vec::reg base, Vec::reg power) { return vector_pow(split_log2(base), power); }
