#pragma once
// Vector arithmetic of Tensix under the names that TTNN's kernels use, for Wormhole, over vector_unit.h. Made from what the kernels of the
// wheel call and from what the instructions do. What is missing fails to compile.
#include <cstdint>
#include <type_traits>
#include <utility>

#include "vector_unit.h"

#define sfpi_inline inline __attribute__((always_inline))

namespace ckernel {}

namespace sfpi {

// Modes of the instructions, for kernels that are written in them.
enum : unsigned {
  SFP_DESTREG_STRIDE = 2,
  SFPLOADI_MOD0_FLOATB = 0,
  SFPLOADI_MOD0_FLOATA = 1,
  SFPLOADI_MOD0_USHORT = 2,
  SFPLOADI_MOD0_SHORT = 4,
  SFPLOADI_MOD0_UPPER = 8,
  SFPLOADI_MOD0_LOWER = 10,
  SFPLOAD_MOD0_FMT_SRCB = 0,
  SFPSTORE_MOD0_FMT_SRCB = 0,
  SFPMAD_MOD1_OFFSET_NONE = 0,
  SFPABS_MOD1_INT = 0,
  SFPABS_MOD1_FLOAT = 1,
  SFPEXMAN_MOD1_PAD8 = 0,
  SFPEXMAN_MOD1_PAD9 = 1,
  SFPEXEXP_MOD1_SET_CC_SGN_EXP = 2,
  SFPEXEXP_MOD1_SET_CC_COMP_EXP = 8,
  SFPIADD_MOD1_CC_LT0 = 0,
  SFPIADD_MOD1_ARG_IMM = 1,
  SFPIADD_MOD1_ARG_2SCOMP_LREG_DST = 2,
  SFPIADD_MOD1_CC_NONE = 4,
  SFPIADD_MOD1_CC_GTE0 = 8,
  SFPSETCC_MOD1_LREG_LT0 = 0,
  SFPSETCC_MOD1_LREG_NE0 = 2,
  SFPSETCC_MOD1_LREG_GTE0 = 4,
  SFPSETCC_MOD1_LREG_EQ0 = 6,
  SFPLZ_MOD1_CC_NONE = 0,
  SFPLZ_MOD1_CC_NE0 = 2,
  SFPENCC_IMM12_BOTH = 3,
  SFPENCC_MOD1_EU_R1 = 0,
  SFPENCC_MOD1_EI_RI = 10,
  SFPSHFT2_MOD1_SUBVEC_SHFLROR1 = 3,
  SFPSHFT2_MOD1_SHFT_LREG = 5,
  SFPSHFT2_MOD1_SHFT_IMM = 6,
  SFPSWAP_MOD1_SWAP = 0,
  SFPSWAP_MOD1_VEC_MIN_MAX = 1,
  SFPSTOCHRND_RND_EVEN = 0,
  SFPSTOCHRND_MOD1_FP32_TO_FP16A = 0,
  SFPSTOCHRND_MOD1_FP32_TO_FP16B = 1,
  SFPSTOCHRND_MOD1_FP32_TO_UINT8 = 2,
  SFPSTOCHRND_MOD1_FP32_TO_INT8 = 3,
  SFPSTOCHRND_MOD1_FP32_TO_UINT16 = 6,
  SFPSTOCHRND_MOD1_FP32_TO_INT16 = 7,
  SFPCAST_MOD1_SM32_TO_FP32_RNE = 0,
  SFPCAST_MOD1_INT32_TO_FP32_RNE = 0,
};
enum class LRegs : uint8_t {
  LReg0,
  LReg1,
  LReg2,
  LReg3,
  LReg4,
  LReg5,
  LReg6,
  LReg7,
  LReg8,
  LReg9,
  LReg10,
  LReg11,
  LReg12,
  LReg13,
  LReg14,
  LReg15
};
enum class DataLayout { Default, FSrcB, F32, F16a, F16b, I32, U32, U16, SM32, SM16, M32, LO16, HI16 };
enum class RoundMode { Nearest, NearestStochastic };
enum class ExponentMode { Unbiased, Biased };
enum class MantissaMode { NoImplicitOne, ImplicitOne };
enum class ShiftMode { Logical, Arithmetic };
enum class LutSign { Update, Retain };
struct lreg_pressure {
  lreg_pressure() {}
};

__attribute__((error("Wormhole shifts no sign: an arithmetic shift is not made"))) void no_arithmetic_shift();
__attribute__((error("tables of 8 bits are not made"))) void no_tables_of_8_bits();

using vector_unit::Expression;

struct Value {
  Expression v;
  sfpi_inline Value() : v(vector_unit::unassigned()) {}
  sfpi_inline Value(Expression r) : v(r) {}
  sfpi_inline Value(const Value&) = default;
  sfpi_inline Value& operator=(const Value& o) {
    v = vector_unit::assigned(v, o.v);
    return *this;
  }
  sfpi_inline Expression get() const { return v; }
};
sfpi_inline uint32_t bits_of(float f) { return __builtin_bit_cast(uint32_t, f); }

struct sFloat16a {
  uint16_t val;
  explicit constexpr sFloat16a(uint16_t b) : val(b) {}
};
struct sFloat16b {
  uint16_t val;
  explicit sFloat16b(float f) : val(bits_of(f) >> 16) {}
  template <class Integer, std::enable_if_t<std::is_integral_v<Integer>>* = nullptr>
  explicit constexpr sFloat16b(Integer bits) : val(bits) {}
};

#define SFPI_VALUE(T, BASE)                \
  sfpi_inline T() = default;               \
  sfpi_inline T(const T&) = default;       \
  sfpi_inline T(Expression r) : BASE(r) {} \
  sfpi_inline T& operator=(const T& o) {   \
    Value::operator=(o);                   \
    return *this;                          \
  }
#define SFPI_FROM_INTEGERS(T)                                          \
  sfpi_inline T(int i) : Value(vector_unit::constant(uint32_t(i))) {}  \
  sfpi_inline T(unsigned i) : Value(vector_unit::constant(i)) {}       \
  sfpi_inline T(long i) : Value(vector_unit::constant(uint32_t(i))) {} \
  sfpi_inline T(unsigned long i) : Value(vector_unit::constant(i)) {}
struct vFloat : Value {
  SFPI_VALUE(vFloat, Value)
  sfpi_inline vFloat(float f) : Value(vector_unit::constant(bits_of(f))) {}
  sfpi_inline vFloat(sFloat16a h) : Value(vector_unit::half_constant(h.val, 1)) {}
  sfpi_inline vFloat(sFloat16b h) : Value(vector_unit::half_constant(h.val, 0)) {}
};
struct vInt;
struct vUInt : Value {
  SFPI_VALUE(vUInt, Value)
  SFPI_FROM_INTEGERS(vUInt)
  sfpi_inline explicit vUInt(const vInt& i);
  sfpi_inline vUInt& operator=(const vInt& i);
};
struct vInt : Value {
  SFPI_VALUE(vInt, Value)
  SFPI_FROM_INTEGERS(vInt)
  sfpi_inline vInt(const vUInt& u) : Value(u.v) {}
};
sfpi_inline vUInt::vUInt(const vInt& i) : Value(i.v) {}
sfpi_inline vUInt& vUInt::operator=(const vInt& i) {
  Value::operator=(Value(i.v));
  return *this;
}
struct vSMag : Value {  // a sign and a magnitude
  SFPI_VALUE(vSMag, Value)
  sfpi_inline vSMag(int i) : Value(vector_unit::constant(i < 0 ? uint32_t(-i) | 0x80000000u : uint32_t(i))) {}
};
struct vMag : vUInt {
  SFPI_VALUE(vMag, vUInt)
  sfpi_inline explicit vMag(unsigned i) : vUInt(i) {}
  sfpi_inline vMag(const vUInt& u) : vUInt(u.v) {}
  sfpi_inline vMag(const vInt& i) : vUInt(i.v) {}
};
struct vUInt16 : vMag {
  SFPI_VALUE(vUInt16, vMag)
};
struct vUInt8 : vUInt16 {
  SFPI_VALUE(vUInt8, vUInt16)
};
struct vSMag16 : vSMag {
  SFPI_VALUE(vSMag16, vSMag)
};
struct vSMag8 : vSMag16 {
  SFPI_VALUE(vSMag8, vSMag16)
};
struct vFloat16a : vFloat {
  SFPI_VALUE(vFloat16a, vFloat)
};
struct vFloat16b : vFloat {
  SFPI_VALUE(vFloat16b, vFloat)
};

// Conditions.
struct vBool {
  vector_unit::Condition c;
  sfpi_inline explicit vBool(vector_unit::Condition of) : c(of) {}
};
sfpi_inline vBool operator&&(vBool a, vBool b) { return vBool(vector_unit::joined(a.c, b.c, false)); }
sfpi_inline vBool operator||(vBool a, vBool b) { return vBool(vector_unit::joined(a.c, b.c, true)); }
sfpi_inline vBool operator!(vBool a) { return vBool(vector_unit::negated(a.c)); }
sfpi_inline vBool nearby(vBool b) { return b; }

#define SFPI_COMPARE_INTEGERS(T, OP, C, TYPE)                                                                                            \
  sfpi_inline vBool operator OP(T a, int b) { return vBool(vector_unit::compare(a.v, uint32_t(b), vector_unit::C, vector_unit::TYPE)); } \
  sfpi_inline vBool operator OP(T a, unsigned b) { return a OP int(b); }                                                                 \
  sfpi_inline vBool operator OP(T a, long b) { return a OP int(b); }                                                                     \
  sfpi_inline vBool operator OP(T a, unsigned long b) { return a OP int(b); }                                                            \
  sfpi_inline vBool operator OP(T a, T b) { return vBool(vector_unit::compare(a.v, b.v, vector_unit::C, vector_unit::TYPE)); }
#define SFPI_COMPARE(OP, C)                                                                                                                \
  sfpi_inline vBool operator OP(vFloat a, float b) {                                                                                       \
    return vBool(vector_unit::compare(a.v, bits_of(b), vector_unit::C, vector_unit::floats));                                              \
  }                                                                                                                                        \
  sfpi_inline vBool operator OP(vFloat a, vFloat b) { return vBool(vector_unit::compare(a.v, b.v, vector_unit::C, vector_unit::floats)); } \
  SFPI_COMPARE_INTEGERS(vInt, OP, C, integers)                                                                                             \
  SFPI_COMPARE_INTEGERS(vUInt, OP, C, unsigned_integers)                                                                                   \
  sfpi_inline vBool operator OP(vUInt a, vInt b) { return vInt(a) OP b; }                                                                  \
  sfpi_inline vBool operator OP(vInt a, vUInt b) { return a OP vInt(b); }                                                                  \
  sfpi_inline vBool operator OP(vSMag a, int b) {                                                                                          \
    return vBool(vector_unit::compare(a.v, uint32_t(b), vector_unit::C, vector_unit::integers));                                           \
  }
SFPI_COMPARE(<, less)
SFPI_COMPARE(>=, greater_equal)
SFPI_COMPARE(==, equal)
SFPI_COMPARE(!=, not_equal)
SFPI_COMPARE(>, greater)
SFPI_COMPARE(<=, less_equal)
sfpi_inline vBool operator==(vSMag a, vSMag b) { return vBool(vector_unit::compare(a.v, b.v, vector_unit::equal, vector_unit::integers)); }
sfpi_inline vBool operator!=(vSMag a, vSMag b) {
  return vBool(vector_unit::compare(a.v, b.v, vector_unit::not_equal, vector_unit::integers));
}

// Arithmetic.
sfpi_inline vFloat operator*(vFloat a, vFloat b) { return vFloat(vector_unit::multiply(a.v, b.v)); }
sfpi_inline vFloat operator+(vFloat a, vFloat b) { return vFloat(vector_unit::add(a.v, b.v)); }
sfpi_inline vFloat operator-(vFloat a, vFloat b) {
  return vFloat(vector_unit::multiply_add(vector_unit::fixed(vector_unit::kMinusOne), b.v, a.v));
}
sfpi_inline vFloat operator-(vFloat a) { return vFloat(vector_unit::negate(a.v)); }
sfpi_inline vFloat& operator+=(vFloat& a, vFloat b) { return a = a + b; }
sfpi_inline vFloat& operator-=(vFloat& a, vFloat b) { return a = a - b; }
sfpi_inline vFloat& operator*=(vFloat& a, vFloat b) { return a = a * b; }

#define SFPI_INTEGERS(T)                                                                    \
  sfpi_inline T operator+(T a, T b) { return T(vector_unit::add_integers(a.v, b.v)); }      \
  sfpi_inline T operator+(T a, int b) { return T(vector_unit::add_integer(a.v, b)); }       \
  sfpi_inline T operator-(T a, T b) { return T(vector_unit::subtract_integers(a.v, b.v)); } \
  sfpi_inline T operator-(T a, int b) { return T(vector_unit::add_integer(a.v, -b)); }      \
  sfpi_inline T operator-(int a, T b) { return T(a) - b; }                                  \
  sfpi_inline T operator&(T a, T b) { return T(vector_unit::bit_and(a.v, b.v)); }           \
  sfpi_inline T operator|(T a, T b) { return T(vector_unit::bit_or(a.v, b.v)); }            \
  sfpi_inline T operator^(T a, T b) { return T(vector_unit::bit_xor(a.v, b.v)); }           \
  sfpi_inline T operator~(T a) { return T(vector_unit::bit_not(a.v)); }                     \
  sfpi_inline T operator<<(T a, int n) { return T(vector_unit::shift(a.v, n)); }            \
  sfpi_inline T operator>>(T a, int n) { return T(vector_unit::shift(a.v, -n)); }           \
  sfpi_inline T& operator+=(T& a, T b) { return a = a + b; }                                \
  sfpi_inline T& operator-=(T& a, T b) { return a = a - b; }                                \
  sfpi_inline T& operator&=(T& a, T b) { return a = a & b; }                                \
  sfpi_inline T& operator|=(T& a, T b) { return a = a | b; }                                \
  sfpi_inline T& operator^=(T& a, T b) { return a = a ^ b; }                                \
  sfpi_inline T& operator<<=(T& a, int n) { return a = a << n; }                            \
  sfpi_inline T& operator>>=(T& a, int n) { return a = a >> n; }
SFPI_INTEGERS(vInt)
SFPI_INTEGERS(vUInt)
sfpi_inline vSMag operator&(vSMag a, vSMag b) { return vSMag(vector_unit::bit_and(a.v, b.v)); }
sfpi_inline vInt operator-(vInt a) { return vInt(0) - a; }

// The lanes that are on.
struct Lanes {
  int pushed = 0;
  sfpi_inline Lanes& push() {
    ++pushed;
    vector_unit::push_lanes();
    return *this;
  }
  sfpi_inline Lanes& complement() {
    vector_unit::complement_lanes();
    return *this;
  }
  sfpi_inline void only(vBool b) { vector_unit::keep_lanes(b.c); }
  sfpi_inline void only(vInt i) { only(i != 0); }
  sfpi_inline ~Lanes() {
    for (; pushed; --pushed) vector_unit::pop_lanes();
  }
};
#define v_if(x)                \
  {                            \
    sfpi::Lanes sfpi_lanes;    \
    sfpi_lanes.push().only(x); \
    {
#define v_elseif(x)                       \
  }                                       \
  sfpi_lanes.complement().push().only(x); \
  {
#define v_else             \
  }                        \
  sfpi_lanes.complement(); \
  {
#define v_endif \
  }             \
  }
#define v_block             \
  {                         \
    sfpi::Lanes sfpi_lanes; \
    sfpi_lanes.push();      \
    {
#define v_and(x) sfpi_lanes.only(x)
#define v_endblock \
  }                \
  }

// The bits as another type's, and conversions.
template <class T, class F>
sfpi_inline T as(const F& x) {
  return T(Expression(Value(x).v));
}
template <class T>
sfpi_inline T as(const Value& x) {
  return T(x.v);
}
template <class T>
sfpi_inline T reinterpret(const Value& x) {
  return T(x.v);
}
sfpi_inline vFloat setsgn(vFloat x, int s) { return vFloat(vector_unit::set_sign(x.v, s)); }
sfpi_inline vInt setsgn(vInt x, int s) { return vInt(vector_unit::set_sign(x.v, s)); }
template <class A, class B>
sfpi_inline A setsgn2(A x, B s) {
  return A(vector_unit::set_sign(x.v, s.v));
}
sfpi_inline vSMag to_sign_magnitude(vInt x) { return vSMag(vector_unit::set_sign(vector_unit::absolute(x.v, false), x.v)); }
sfpi_inline vInt from_sign_magnitude(vSMag x) {
  vInt r = setsgn(vInt(x.v), 0);
  v_if(vInt(x.v) < 0) { r = vInt(0) - r; }
  v_endif;
  return r;
}
template <class T, class F>
sfpi_inline T convert(const F& x, RoundMode mode = RoundMode::NearestStochastic) {
  const unsigned rounding = mode == RoundMode::Nearest ? 0 : 1;
  if constexpr (std::is_base_of_v<vFloat, F>) {
    if constexpr (std::is_same_v<T, vFloat> || std::is_same_v<T, vInt>) {
      return T(x.v);
    } else {
      constexpr unsigned format = std::is_same_v<T, vFloat16a>   ? SFPSTOCHRND_MOD1_FP32_TO_FP16A
                                  : std::is_same_v<T, vFloat16b> ? SFPSTOCHRND_MOD1_FP32_TO_FP16B
                                  : std::is_same_v<T, vUInt8>    ? SFPSTOCHRND_MOD1_FP32_TO_UINT8
                                  : std::is_same_v<T, vSMag8>    ? SFPSTOCHRND_MOD1_FP32_TO_INT8
                                  : std::is_same_v<T, vUInt16>   ? SFPSTOCHRND_MOD1_FP32_TO_UINT16
                                                                 : SFPSTOCHRND_MOD1_FP32_TO_INT16;
      return T(vector_unit::round_to(x.v, format, rounding));
    }
  } else if constexpr (std::is_base_of_v<vFloat, T>) {
    if constexpr (std::is_same_v<F, vInt>)
      return T(vector_unit::integer_to_float(to_sign_magnitude(x).v, rounding));
    else
      return T(vector_unit::integer_to_float(x.v, rounding));
  } else if constexpr (std::is_base_of_v<vSMag, F> && std::is_same_v<T, vInt>) {
    return from_sign_magnitude(x);
  } else if constexpr (std::is_same_v<F, vInt> && std::is_base_of_v<vSMag, T>) {
    return T(to_sign_magnitude(x).v);
  } else {
    return T(x.v);
  }
}

// Registers by their numbers.
struct LReg {
  unsigned n;
  template <class T, std::enable_if_t<std::is_base_of_v<Value, T>>* = nullptr>
  sfpi_inline operator T() const {
    return T(Expression(vector_unit::read_register(n)));
  }
  sfpi_inline void operator=(const Value& x) const { vector_unit::write_register(x.v, n); }
  sfpi_inline void in_use() const { vector_unit::write_register(vector_unit::read_register(n), n); }
};
struct LRegFile {
  sfpi_inline LReg operator[](LRegs r) const { return {unsigned(r)}; }
};
constexpr inline LRegFile l_reg;
template <class T>
struct ConstantReg {
  unsigned n;
  sfpi_inline operator T() const { return T(Expression(vector_unit::read_register(n))); }
  sfpi_inline Expression get() const { return vector_unit::read_register(n); }
  sfpi_inline void operator=(T x) const { vector_unit::write_constant_register(x.v, n); }
  template <class S, std::enable_if_t<std::is_arithmetic_v<S>>* = nullptr>
  sfpi_inline void operator=(S s) const {
    operator=(T(s));
  }
};
constexpr inline ConstantReg<vFloat> vConst0p8373{8}, vConst0{9}, vConst1{10}, vConstNeg1{11};
constexpr inline ConstantReg<vFloat> vConstFloatPrgm0{12}, vConstFloatPrgm1{13}, vConstFloatPrgm2{14};
constexpr inline ConstantReg<vInt> vConstIntPrgm0{12}, vConstIntPrgm1{13}, vConstIntPrgm2{14}, vConstTileId{15};

// Rows of Dst. A kernel may name their format; else it is the one that is set.
template <DataLayout L = DataLayout::Default>
struct Dst {
  int row;
  int address_mode = 3;
  template <DataLayout N = DataLayout::Default>
  sfpi_inline constexpr Dst<N == DataLayout::Default ? L : N> mode(int m = -1) const {
    return {row, m >= 0 ? m : address_mode};
  }
  static constexpr unsigned format(unsigned otherwise) {
    switch (L) {
      case DataLayout::FSrcB:
        return 0;
      case DataLayout::F16a:
        return 1;
      case DataLayout::F16b:
        return 2;
      case DataLayout::F32:
        return 3;
      case DataLayout::I32:
      case DataLayout::U32:
      case DataLayout::M32:
        return 4;
      case DataLayout::U16:
        return 6;
      case DataLayout::HI16:
        return 7;
      case DataLayout::SM16:
        return 8;
      case DataLayout::LO16:
        return 9;
      case DataLayout::SM32:
        return 12;
      default:
        return otherwise;
    }
  }
  sfpi_inline Expression load(unsigned f) const { return vector_unit::load(row, f, address_mode); }
  sfpi_inline void store(Expression v, unsigned f) const { vector_unit::store(v, row, f, address_mode); }
  static constexpr unsigned signed_magnitude = L == DataLayout::SM32 ? 4 : format(4);
  sfpi_inline operator vFloat() const { return vFloat(load(format(0))); }
  sfpi_inline operator vFloat16b() const { return vFloat16b(load(format(2))); }
  sfpi_inline operator vInt() const { return vInt(load(format(12))); }
  sfpi_inline operator vUInt() const { return vUInt(load(format(4))); }
  sfpi_inline operator vMag() const { return vMag(load(format(4))); }
  sfpi_inline operator vUInt16() const { return vUInt16(load(format(6))); }
  sfpi_inline operator vSMag() const { return vSMag(load(signed_magnitude)); }
  sfpi_inline operator vSMag16() const { return vSMag16(load(format(8))); }
  sfpi_inline void operator=(vFloat x) const { store(x.v, format(0)); }
  sfpi_inline void operator=(vFloat16b x) const { store(x.v, format(2)); }
  sfpi_inline void operator=(vInt x) const { store(x.v, format(12)); }
  sfpi_inline void operator=(vUInt x) const { store(x.v, format(4)); }
  sfpi_inline void operator=(vMag x) const { store(x.v, format(4)); }
  sfpi_inline void operator=(vUInt16 x) const { store(x.v, format(6)); }
  sfpi_inline void operator=(vSMag x) const { store(x.v, signed_magnitude); }
  sfpi_inline void operator=(vSMag16 x) const { store(x.v, format(8)); }
  sfpi_inline void operator=(float x) const { store(vFloat(x).v, format(0)); }
  sfpi_inline void operator=(const Dst& d) const { operator=(vFloat(d)); }
};
struct DstFile {
  sfpi_inline constexpr Dst<> operator[](int i) const { return {i * 2}; }
  sfpi_inline void operator+=(int n) const { vector_unit::advance_dst(2 * n); }
  sfpi_inline void operator++() const { *this += 1; }
  sfpi_inline void operator++(int) const { *this += 1; }
};
constexpr inline DstFile dst_reg;

// Functions.
sfpi_inline vInt abs(vInt x) { return vInt(vector_unit::absolute(x.v, false)); }
sfpi_inline vFloat abs(vFloat x) { return vFloat(vector_unit::absolute(x.v, true)); }
sfpi_inline vFloat copysgn(vFloat x, vFloat s) { return setsgn2(x, s); }
sfpi_inline vFloat copysgn(vFloat x, vInt s) { return setsgn2(x, s); }
sfpi_inline vInt copysgn(vInt x, vInt s) { return setsgn2(x, s); }
sfpi_inline vInt exexp(vFloat x, ExponentMode m = ExponentMode::Unbiased) {
  return vInt(vector_unit::exponent(x.v, m == ExponentMode::Biased));
}
sfpi_inline vMag exman(vFloat x, MantissaMode m = MantissaMode::NoImplicitOne) {
  return vMag(vector_unit::mantissa(x.v, m == MantissaMode::NoImplicitOne));
}
sfpi_inline vInt exman8(vFloat x) { return vInt(vector_unit::mantissa(x.v, false)); }
sfpi_inline vInt exman9(vFloat x) { return vInt(vector_unit::mantissa(x.v, true)); }
template <class Integer, std::enable_if_t<std::is_integral_v<Integer>>* = nullptr>
sfpi_inline vFloat setexp(vFloat x, Integer e) {
  return vFloat(vector_unit::set_exponent(x.v, int(e)));
}
sfpi_inline vFloat setexp(vFloat x, vInt e) { return vFloat(vector_unit::set_exponent(x.v, e.v, 0)); }
sfpi_inline vFloat setexp(vFloat x, vUInt e) { return vFloat(vector_unit::set_exponent(x.v, e.v, 0)); }
sfpi_inline vFloat copyexp(vFloat x, vFloat e) { return vFloat(vector_unit::set_exponent(x.v, e.v, 2)); }
sfpi_inline vFloat addexp(vFloat x, int n) { return vFloat(vector_unit::add_to_exponent(x.v, n)); }
template <class Integer, std::enable_if_t<std::is_integral_v<Integer>>* = nullptr>
sfpi_inline vFloat setman(vFloat x, Integer m) {
  return vFloat(vector_unit::set_mantissa(x.v, uint32_t(m)));
}
sfpi_inline vFloat setman(vFloat x, vInt m) { return vFloat(vector_unit::set_mantissa(x.v, vector_unit::Register(m.v))); }
sfpi_inline vFloat setman(vFloat x, vUInt m) { return vFloat(vector_unit::set_mantissa(x.v, vector_unit::Register(m.v))); }
sfpi_inline vFloat copyman(vFloat x, vFloat m) { return vFloat(vector_unit::set_mantissa(x.v, vector_unit::Register(m.v))); }
sfpi_inline vInt lz(vInt x) { return vInt(vector_unit::leading_zeros(x.v)); }
sfpi_inline vInt lz(vUInt x) { return vInt(vector_unit::leading_zeros(x.v)); }
template <class T>
sfpi_inline T shifted(T x, vInt n, ShiftMode mode) {
  if (mode == ShiftMode::Arithmetic) no_arithmetic_shift();
  return T(vector_unit::shift(x.v, vector_unit::Register(n.v)));
}
template <class T>
sfpi_inline T shifted(T x, int n, ShiftMode mode) {
  if (mode == ShiftMode::Arithmetic) no_arithmetic_shift();
  return T(vector_unit::shift(x.v, n));
}
sfpi_inline vUInt shft(vUInt x, vInt n, ShiftMode mode = ShiftMode::Logical) { return shifted(x, n, mode); }
sfpi_inline vUInt shft(vUInt x, int n, ShiftMode mode = ShiftMode::Logical) { return shifted(x, n, mode); }
sfpi_inline vInt shft(vInt x, vInt n, ShiftMode mode = ShiftMode::Logical) { return shifted(x, n, mode); }
sfpi_inline vInt shft(vInt x, int n, ShiftMode mode = ShiftMode::Logical) { return shifted(x, n, mode); }
template <class T>
sfpi_inline std::pair<T, T> min_max(T a, T b) {
  const vector_unit::Two sorted = vector_unit::exchange(a.v, b.v, SFPSWAP_MOD1_VEC_MIN_MAX);
  return {T(Expression(sorted.a)), T(Expression(sorted.b))};
}
sfpi_inline vFloat min(vFloat a, vFloat b) { return min_max(a, b).first; }
sfpi_inline vFloat max(vFloat a, vFloat b) { return min_max(a, b).second; }
sfpi_inline vSMag min(vSMag a, vSMag b) { return min_max(a, b).first; }
sfpi_inline vSMag max(vSMag a, vSMag b) { return min_max(a, b).second; }
sfpi_inline vFloat clamp(vFloat x, vFloat low, vFloat high) { return min(max(x, low), high); }
sfpi_inline vFloat symmetric_clamp(vFloat x, float bound) { return copysgn(min(setsgn(x, 0), vFloat(bound)), x); }
sfpi_inline void vec_min_max(vFloat& a, vFloat& b) {
  const auto sorted = min_max(a, b);
  a = sorted.first;
  b = sorted.second;
}
sfpi_inline vBool is_nan(vFloat x) { return exexp(x) == 128 && exman(x) != 0; }
sfpi_inline vBool is_inf(vFloat x) { return exexp(x) == 128 && exman(x) == 0; }
sfpi_inline vBool is_finite(vFloat x) { return exexp(x) < 128; }
sfpi_inline vBool is_neg(vFloat x) { return vInt(x.v) < 0; }
sfpi_inline vBool is_pos(vFloat x) { return vInt(x.v) >= 0; }

// Tables of slopes and intercepts, two a register, as floats of 16 bits: 1, 5 (31 is zero) and 10.
constexpr uint32_t table_float(float f) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, f), e = (bits >> 23) & 255;
  return (bits >> 31 << 15) | (e < 112 ? 0x7c00 : ((e - 112) << 10) + ((bits & 0x7fffff) >> 13) + (bits >> 12 & 1));
}
struct vLut16ss : vUInt {
  SFPI_VALUE(vLut16ss, vUInt)
  sfpi_inline vLut16ss(float a, float b) : vUInt(unsigned(table_float(a) | table_float(b) << 16)) {}
};
struct vLut16ii : vUInt {
  SFPI_VALUE(vLut16ii, vUInt)
  sfpi_inline vLut16ii(float a, float b) : vUInt(unsigned(table_float(a) | table_float(b) << 16)) {}
};
struct vLut8si : vUInt {
  SFPI_VALUE(vLut8si, vUInt)
  sfpi_inline vLut8si(float, float) { no_tables_of_8_bits(); }
};
sfpi_inline vFloat lut(vFloat x, vUInt s01, vUInt i01, vUInt s23, vUInt i23, vUInt s45, vUInt i45, LutSign s) {
  return vFloat(vector_unit::table_of_6(s01.v, s23.v, s45.v, i01.v, i23.v, i45.v, x.v, s == LutSign::Retain ? 6 : 2));
}
sfpi_inline vFloat lut(vFloat x, vUInt a, vUInt b, vUInt c, LutSign s = LutSign::Retain) {
  return vFloat(vector_unit::table_of_3(a.v, b.v, c.v, x.v, s == LutSign::Retain ? 4 : 0));
}

}  // namespace sfpi
