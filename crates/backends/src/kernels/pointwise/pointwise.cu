// Functions of single elements and of pairs, each with its gradient: the formulas of `forms.rs`, in f64 whatever the
// elements are stored in, and rounded once.
#include "multi_tensor.cuh"

// In the order of `Function::code` on the host.
enum Function : uint32_t {
    ABS, ACOS, ADD, ASIN, ATAN, CLAMP, COS, COSH, DIVIDE, ELU, ERF, ERFINV, EXP, EXPM1, GELU, GELU_TANH, HARDSIGMOID,
    HARDSWISH, HARDTANH, LEAKY_RELU, LOG, LOG10, LOG1P, LOG2, MISH, NEG, POWER, RECIPROCAL, RELU, RSQRT, SCALE, SIGMOID,
    SILU, SIN, SINH, SOFTPLUS, SQRT, SQUARE, TAN, TANH
};

struct PointwiseArgs {
    const void* x;
    const void* y;    // of a pair: the second operand, else null
    const void* grad; // of the value, or null for the value itself
    void* out;
    uint64_t len;
    double first, second; // the function's settings
    uint8_t x_dtype, y_dtype, grad_dtype, wrt; // wrt: which operand of a pair the gradient is for
    uint32_t function;
};
static_assert(sizeof(PointwiseArgs) == 64 && offsetof(PointwiseArgs, x_dtype) == 56, "");

#define INLINE __device__ __forceinline__ double
constexpr double LN_2 = 0.6931471805599453, LN_10 = 2.302585092994046, SQRT_1_2 = 0.7071067811865476;
constexpr double SQRT_1_2_LOW = -4.833646656726457e-17, DENSITY_AT_0 = 0.3989422804014327;
constexpr double TWO_OVER_SQRT_PI = 1.1283791670955126, SQRT_PI_HALF = 0.886226925452758, CUBIC = 0.044715;

INLINE sign(double x) { return double(x > 0) - double(x < 0); }
INLINE within(double x, double low, double high) { return x < low ? low : x > high ? high : x; }
INLINE unless_zero(double factor, double x) { return factor == 0 ? 0 : factor * x; }

INLINE exp_of_square(double factor, double x) {
    if (fabs(x) > 40) return exp(factor * x * x);
    double square = x * x, lost = fma(x, x, -square), value = exp(factor * square);
    return value + value * (factor * lost);
}

INLINE sigmoid(double x) {
    double e = exp(-fabs(x));
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}
INLINE sigmoid_slope(double x) {
    double e = exp(-fabs(x));
    return e / ((1 + e) * (1 + e));
}
INLINE tanh_slope(double x) {
    double e = exp(-fabs(x)), sech = 2 * e / (1 + e * e);
    return sech * sech;
}
INLINE softplus(double x) {
    double log = log1p(exp(-fabs(x)));
    return x > 0 ? x + log : isnan(x) ? x : log;
}
INLINE silu(double x) {
    if (x >= 0) return x / (1 + exp(-x));
    double h = exp(0.5 * x);
    return -unless_zero(h, -x / (1 + h * h) * h);
}
INLINE silu_slope(double x) {
    if (x >= 0) {
        double n = exp(-x);
        return (1 + unless_zero(n, x / (1 + n))) / (1 + n);
    }
    double h = exp(0.5 * x), gate = 1 / (1 + h * h);
    return unless_zero(h, h * (1 + x * gate) * gate);
}
INLINE mish(double x) {
    if (x >= 0) {
        double m = exp(-x);
        return x * ((1 + 2 * m) / (1 + 2 * m * (1 + m)));
    }
    double h = exp(0.5 * x), e = h * h;
    return -unless_zero(h, -x * h * ((e + 2) / (e * (e + 2) + 2)));
}
INLINE mish_slope(double x) {
    if (x >= 0) {
        double m = exp(-x), whole = 1 + 2 * m * (1 + m);
        double bend = unless_zero(m, x * (4 * m * (1 + m) / (whole * whole)));
        return (1 + 2 * m) / whole + bend;
    }
    double h = exp(0.5 * x), e = h * h, whole = e * (e + 2) + 2;
    return unless_zero(h, h * (((e + 2) + 4 * x * (1 + e) / whole) / whole));
}
INLINE normal_distribution(double x) {
    double z = -x * SQRT_1_2;
    if (x > -1 || x < -40) return 0.5 * erfc(z);
    double lost = fma(-x, SQRT_1_2, -z) - x * SQRT_1_2_LOW;
    return 0.5 * (erfc(z) - TWO_OVER_SQRT_PI * exp(-z * z) * lost);
}
INLINE gelu(double x) { return -unless_zero(normal_distribution(x), -x); }
INLINE gelu_slope(double x) { return normal_distribution(x) + unless_zero(exp_of_square(-0.5, x), x * DENSITY_AT_0); }

// 2u and what its roundings lost.
__device__ __forceinline__ double2 gelu_tanh_argument(double x) {
    const double SCALE_HIGH = 1.5957691216057308, SCALE_LOW = -9.96930880911092e-17;
    if (fabs(x) > 100) return {copysign(double(INFINITY), x), 0};
    double square = x * x, square_lost = fma(x, x, -square);
    double cubic = CUBIC * square, cubic_lost = fma(CUBIC, square, -cubic);
    double factor = 1 + cubic;
    double larger = cubic > 1 ? (cubic - factor) + 1 : (1 - factor) + cubic;
    double factor_lost = larger + (cubic_lost + CUBIC * square_lost);
    double product = x * factor, product_lost = fma(x, factor, -product);
    double argument = SCALE_HIGH * product, argument_lost = fma(SCALE_HIGH, product, -argument);
    return {argument, argument_lost + SCALE_HIGH * (product_lost + x * factor_lost) + SCALE_LOW * product};
}
INLINE gelu_tanh(double x) {
    double2 u = gelu_tanh_argument(x);
    if (x >= 0) {
        double n = exp(-u.x);
        return x / (1 + (n - n * u.y));
    }
    double h = exp(0.5 * u.x);
    h = h + h * (0.5 * u.y);
    return -unless_zero(h, -x / (1 + h * h) * h);
}
INLINE gelu_tanh_slope(double x) {
    double2 u = gelu_tanh_argument(x);
    double bend = x * (1.5957691216057308 * (1 + 3 * CUBIC * (x * x)));
    if (x >= 0) {
        double n = exp(-u.x);
        n = n - n * u.y;
        return (1 + unless_zero(n, bend / (1 + n))) / (1 + n);
    }
    double h = exp(0.5 * u.x);
    h = h + h * (0.5 * u.y);
    double gate = 1 / (1 + h * h);
    return unless_zero(h, h * (1 + bend * gate) * gate);
}
INLINE hardswish(double x) { return x <= -3 ? 0 : x >= 3 ? x : x * (x + 3) / 6; }
INLINE hardswish_gradient(double x, double g) { return x <= -3 ? 0 : x >= 3 ? g : g * ((2 * x + 3) / 6); }
INLINE erfinv_slope(double x) { return SQRT_PI_HALF * exp_of_square(1, erfinv(x)); }

INLINE power_slope(double base, double exponent) {
    if (exponent == 0) return 0;
    double less = exponent - 1;
    bool divides = base != 0 && isfinite(base);
    return less + 1 == exponent || !divides ? exponent * pow(base, less) : exponent * (pow(base, exponent) / base);
}
INLINE power_slope_of_exponent(double base, double exponent) {
    if (base == 0 && exponent >= 0) return 0;
    return unless_zero(pow(base, exponent), log(base));
}

INLINE value(const PointwiseArgs& a, double x) {
    switch (a.function) {
        case ABS: return fabs(x);
        case ACOS: return acos(x);
        case ADD: return x + a.first;
        case ASIN: return asin(x);
        case ATAN: return atan(x);
        case CLAMP: case HARDTANH: return within(x, a.first, a.second);
        case COS: return cos(x);
        case COSH: return cosh(x);
        case DIVIDE: return x / a.first;
        case ELU: return x > 0 ? x : a.first * expm1(x);
        case ERF: return erf(x);
        case ERFINV: return erfinv(x);
        case EXP: return exp(x);
        case EXPM1: return expm1(x);
        case GELU: return gelu(x);
        case GELU_TANH: return gelu_tanh(x);
        case HARDSIGMOID: return within(x + 3, 0, 6) / 6;
        case HARDSWISH: return hardswish(x);
        case LEAKY_RELU: return x > 0 ? x : a.first * x;
        case LOG: return log(x);
        case LOG10: return log10(x);
        case LOG1P: return log1p(x);
        case LOG2: return log2(x);
        case MISH: return mish(x);
        case NEG: return -x;
        case POWER: return pow(x, a.first);
        case RECIPROCAL: return 1 / x;
        case RELU: return x <= 0 ? 0 : x;
        case RSQRT: return 1 / sqrt(x);
        case SCALE: return x * a.first;
        case SIGMOID: return sigmoid(x);
        case SILU: return silu(x);
        case SIN: return sin(x);
        case SINH: return sinh(x);
        case SOFTPLUS: return softplus(x);
        case SQRT: return sqrt(x);
        case SQUARE: return x * x;
        case TAN: return tan(x);
        default: return tanh(x);
    }
}

INLINE gradient(const PointwiseArgs& a, double x, double g) {
    switch (a.function) {
        case ABS: return g * sign(x);
        case ACOS: return -g / sqrt((1 - x) * (1 + x));
        case ADD: return g;
        case ASIN: return g / sqrt((1 - x) * (1 + x));
        case ATAN: return fabs(x) < 1e9 ? g / (1 + x * x) : g / x / x;
        case CLAMP: return a.first <= x && x <= a.second ? g : 0;
        case COS: return -g * sin(x);
        case COSH: return g * sinh(x);
        case DIVIDE: return g / a.first;
        case ELU: return x > 0 ? g : g * (a.first * exp(x));
        case ERF: return g * (TWO_OVER_SQRT_PI * exp_of_square(-1, x));
        case ERFINV: return g * erfinv_slope(x);
        case EXP: case EXPM1: return g * exp(x);
        case GELU: return g * gelu_slope(x);
        case GELU_TANH: return g * gelu_tanh_slope(x);
        case HARDSIGMOID: return x > -3 && x < 3 ? g / 6 : 0;
        case HARDSWISH: return hardswish_gradient(x, g);
        case HARDTANH: return x <= a.first || x >= a.second ? 0 : g;
        case LEAKY_RELU: return x > 0 ? g : a.first * g;
        case LOG: return g / x;
        case LOG10: return g / LN_10 / x;
        case LOG1P: return g / (1 + x);
        case LOG2: return g / LN_2 / x;
        case MISH: return g * mish_slope(x);
        case NEG: return -g;
        case POWER: return g * power_slope(x, a.first);
        case RECIPROCAL: return -g / x / x;
        case RELU: return x <= 0 ? 0 : g;
        case RSQRT: return -0.5 * (g / sqrt(x) / x);
        case SCALE: return g * a.first;
        case SIGMOID: return g * sigmoid_slope(x);
        case SILU: return g * silu_slope(x);
        case SIN: return g * cos(x);
        case SINH: return g * cosh(x);
        case SOFTPLUS: return g * sigmoid(x);
        case SQRT: return g / (2 * sqrt(x));
        case SQUARE: return 2 * (g * x);
        case TAN: return g / cos(x) / cos(x);
        default: return g * tanh_slope(x);
    }
}

INLINE element(const void* p, uint8_t dtype, uint64_t i) {
    switch (dtype) {
        case F16: return double(__half2float(static_cast<const __half*>(p)[i]));
        case BF16: return double(__bfloat162float(static_cast<const __nv_bfloat16*>(p)[i]));
        case F64: return static_cast<const double*>(p)[i];
        default: return double(static_cast<const float*>(p)[i]);
    }
}

// To f32 with the last bit set where something was cut off, so that the second rounding is as good as one.
__device__ __forceinline__ float to_odd(double x) {
    float cut = __double2float_rz(x);
    bool exact = double(cut) == x || isnan(x) || isinf(cut);
    return exact ? cut : __uint_as_float(__float_as_uint(cut) | 1u);
}

extern "C" __global__ void __launch_bounds__(BLOCK) pointwise(const __grid_constant__ PointwiseArgs a) {
    for (uint64_t i = uint64_t(BLOCK) * blockIdx.x + threadIdx.x; i < a.len; i += uint64_t(BLOCK) * gridDim.x) {
        double x = element(a.x, a.x_dtype, i), result;
        if (a.y) {
            double y = element(a.y, a.y_dtype, i);
            if (!a.grad) result = pow(x, y);
            else result = element(a.grad, a.grad_dtype, i) * (a.wrt ? power_slope_of_exponent(x, y) : power_slope(x, y));
        } else {
            result = a.grad ? gradient(a, x, element(a.grad, a.grad_dtype, i)) : value(a, x);
        }
        switch (a.x_dtype) {
            case F16: static_cast<__half*>(a.out)[i] = __float2half_rn(to_odd(result)); break;
            case BF16: static_cast<__nv_bfloat16*>(a.out)[i] = __float2bfloat16_rn(to_odd(result)); break;
            case F64: static_cast<double*>(a.out)[i] = result; break;
            default: static_cast<float*>(a.out)[i] = __double2float_rn(result); break;
        }
    }
}
