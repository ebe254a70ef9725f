#pragma once
// The instructions of Tensix's vector unit (SFPU, Wormhole) as inline assembly for a stock RISC-V GCC. A vector lives in one of the
// registers f0 to f7, which tensix.s reads as L0 to L7: GCC's own allocator places vectors, and knows nothing else of them. Every operation
// that depends on lane flags is volatile, so that predication stays in the order in which it is written.
// docs/simulated_card.md explains it.
#include <cstdint>

#define SFPU_INLINE inline __attribute__((always_inline))

extern volatile uint32_t __instrn_buffer[];  // what is stored here, the unit executes

namespace vector_unit {

// Numbers as in the wheel's ckernel_ops.h.
enum Op : unsigned {
  REPLAY = 0x04,
  INCRWC = 0x38,
  SFPLOAD = 0x70,
  SFPLOADI = 0x71,
  SFPSTORE = 0x72,
  SFPLUT = 0x73,
  SFPDIVP2 = 0x76,
  SFPEXEXP = 0x77,
  SFPEXMAN = 0x78,
  SFPIADD = 0x79,
  SFPSHFT = 0x7a,
  SFPSETCC = 0x7b,
  SFPMOV = 0x7c,
  SFPABS = 0x7d,
  SFPAND = 0x7e,
  SFPOR = 0x7f,
  SFPNOT = 0x80,
  SFPLZ = 0x81,
  SFPSETEXP = 0x82,
  SFPSETMAN = 0x83,
  SFPMAD = 0x84,
  SFPMUL = 0x86,
  SFPPUSHC = 0x87,
  SFPPOPC = 0x88,
  SFPSETSGN = 0x89,
  SFPENCC = 0x8a,
  SFPCOMPC = 0x8b,
  SFPTRANSP = 0x8c,
  SFPXOR = 0x8d,
  SFP_STOCH_RND = 0x8e,
  SFPNOP = 0x8f,
  SFPCAST = 0x90,
  SFPCONFIG = 0x91,
  SFPSWAP = 0x92,
  SFPSHFT2 = 0x94,
  SFPLUTFP32 = 0x95,
};

// Constant registers.
enum : unsigned char { kZero = 9, kOne = 10, kMinusOne = 11 };

struct Register {
  float r;
};

// Stands for the lane flags: it gets a new value, unknown to the compiler, with each instruction that changes them, so that no two products
// on either side of one are taken for the same.
static int lane_flags;
static int depth;  // how many sets of lane flags are stacked

#define SFPU_CHANGES_LANES(TEXT, ...)            \
  {                                              \
    int flags = lane_flags;                      \
    asm volatile(TEXT : "+r"(flags)__VA_ARGS__); \
    lane_flags = flags;                          \
  }

// What an expression of C++ carries. A product keeps its factors, so that an addition makes it one SFPMAD; when nothing else uses it, it is
// never computed by itself. A constant is loaded where it is used.
struct Expression {
  // From 8 to 15: the constant register of that number.
  enum Kind : unsigned char {
    in_register = 0,
    product = 1,
    immediate = 2,
    product_sum = 3,
    first_fixed = 8,
    last_fixed = 15,
    unassigned = 255
  };

  float r;            // in_register, product, product_sum: the value
  float f, g, h;      // product: f * g; product_sum: f * g + h
  int level;          // depth where the value was made
  uint32_t constant;  // immediate
  unsigned char kind;
  unsigned char fixed_f, fixed_h;  // not 0: f or h is this constant register instead

  SFPU_INLINE Expression() : level(depth), kind(in_register) {}
  SFPU_INLINE Expression(Register v) : r(v.r), level(depth), kind(in_register) {}
  SFPU_INLINE operator Register() const;
  SFPU_INLINE bool is_fixed() const { return kind >= first_fixed && kind <= last_fixed; }
};

SFPU_INLINE Expression unassigned() {
  Expression v;
  v.kind = Expression::unassigned;
  return v;
}

SFPU_INLINE Expression fixed(unsigned number) {
  Expression v;
  v.kind = static_cast<unsigned char>(number);
  return v;
}

// destination <- op(c)
template <Op op>
SFPU_INLINE Register unary(Register c, unsigned mode, unsigned imm = 0) {
  Register d;
  asm volatile("sfp_unary %1,%2,L_%3,L_%0,%4" : "=f"(d.r) : "i"(op), "i"(imm), "f"(c.r), "i"(mode));
  return d;
}

// destination <- op(destination, c)
template <Op op>
SFPU_INLINE Register binary(Register d, Register c, unsigned mode) {
  asm volatile("sfp_unary %1,0,L_%2,L_%0,%3" : "+f"(d.r) : "i"(op), "f"(c.r), "i"(mode));
  return d;
}

// destination <- op(c, imm)
template <Op op>
SFPU_INLINE Register with_immediate(Register c, int imm, unsigned mode) {
  Register d;
  if (__builtin_constant_p(imm)) {
    asm volatile("sfp_unary %1,%2,L_%3,L_%0,%4" : "=f"(d.r) : "i"(op), "i"(imm), "f"(c.r), "i"(mode));
  } else {
    unsigned scratch;
    asm volatile("sfp_at_run_time %2,%1,%3,(%4<<24)|(L_%5<<8)|(L_%0<<4)|%6"
                 : "=f"(d.r), "=&r"(scratch)
                 : "r"((unsigned(imm) & 0xfff) << 12), "r"(__instrn_buffer), "i"(op), "f"(c.r), "i"(mode));
  }
  return d;
}

// destination <- op(destination, imm)
template <Op op>
SFPU_INLINE Register with_immediate_in_place(Register d, int imm, unsigned mode) {
  if (__builtin_constant_p(imm)) {
    asm volatile("sfp_unary %1,%2,0,L_%0,%3" : "+f"(d.r) : "i"(op), "i"(imm), "i"(mode));
  } else {
    unsigned scratch;
    asm volatile("sfp_at_run_time %2,%1,%3,(%4<<24)|(L_%0<<4)|%5"
                 : "+f"(d.r), "=&r"(scratch)
                 : "r"((unsigned(imm) & 0xfff) << 12), "r"(__instrn_buffer), "i"(op), "i"(mode));
  }
  return d;
}

// Registers by their numbers.
#define SFPU_READ(N)                \
  case N: {                         \
    register float r asm("ft" #N);  \
    asm volatile("" : "=f"(r));     \
    return Expression(Register{r}); \
  }
#define SFPU_WRITE(N)                    \
  case N: {                              \
    register float r asm("ft" #N) = v.r; \
    asm volatile("" : : "f"(r));         \
    return;                              \
  }
SFPU_INLINE Expression read_register(unsigned number) {
  switch (number) { SFPU_READ(0) SFPU_READ(1) SFPU_READ(2) SFPU_READ(3) SFPU_READ(4) SFPU_READ(5) SFPU_READ(6) SFPU_READ(7) }
  return fixed(number);
}
SFPU_INLINE void write_register(Register v, unsigned number) {
  switch (number) { SFPU_WRITE(0) SFPU_WRITE(1) SFPU_WRITE(2) SFPU_WRITE(3) SFPU_WRITE(4) SFPU_WRITE(5) SFPU_WRITE(6) SFPU_WRITE(7) }
}
#undef SFPU_READ
#undef SFPU_WRITE
SFPU_INLINE void write_constant_register(Register v, unsigned number) {
  register float r asm("ft0") = v.r;
  asm volatile("sfp_unary %2,0,0,%1,0" : : "f"(r), "i"(number), "i"(SFPCONFIG));
}

// Modes of SFPLOADI: the 16 bits are a float's upper half (0), an unsigned (2) or signed (4) integer, or replace a register's upper half
// (8).
#define SFPU_LOAD_CONSTANT(D, TIED, BITS)                                                                                                  \
  if (((BITS) & 0xffff) == 0) {                                                                                                            \
    asm volatile("sfp_memory %2,L_%0,0,%1" : TIED(D) : "i"((BITS) >> 16), "i"(SFPLOADI));                                                  \
  } else if ((BITS) <= 0xffff) {                                                                                                           \
    asm volatile("sfp_memory %2,L_%0,2,%1" : TIED(D) : "i"(BITS), "i"(SFPLOADI));                                                          \
  } else if ((BITS) >= 0xffff8000u) {                                                                                                      \
    asm volatile("sfp_memory %2,L_%0,4,%1" : TIED(D) : "i"((BITS) & 0xffff), "i"(SFPLOADI));                                               \
  } else {                                                                                                                                 \
    asm volatile("sfp_memory %3,L_%0,2,%1\n\tsfp_memory %3,L_%0,8,%2" : TIED(D) : "i"((BITS) & 0xffff), "i"((BITS) >> 16), "i"(SFPLOADI)); \
  }
SFPU_INLINE Register load_constant(uint32_t bits) {
  Register d;
  SFPU_LOAD_CONSTANT(d.r, "=f", bits)
  return d;
}
SFPU_INLINE Register load_constant_into(Register d, uint32_t bits) {  // in the lanes that are on
  SFPU_LOAD_CONSTANT(d.r, "+f", bits)
  return d;
}
#undef SFPU_LOAD_CONSTANT

SFPU_INLINE Expression::operator Register() const {
  Register d;
  if (kind == immediate) {
    d = load_constant(constant);
  } else if (kind == unassigned) {
    asm volatile("" : "=f"(d.r));
  } else if (is_fixed()) {
    asm volatile("sfp_unary %2,0,%1,L_%0,2" : "=f"(d.r) : "i"(kind), "i"(SFPMOV));
  } else {
    d.r = r;
  }
  return d;
}

SFPU_INLINE Expression constant(uint32_t bits) {
  if (!__builtin_constant_p(bits)) {
    Register d;
    unsigned scratch;
    asm volatile("sfp_at_run_time %2,%1,%4,(%5<<24)|(L_%0<<20)|(2<<16)\n\tsfp_at_run_time %3,%1,%4,(%5<<24)|(L_%0<<20)|(8<<16)"
                 : "=f"(d.r), "=&r"(scratch)
                 : "r"(bits & 0xffff), "r"(bits >> 16), "r"(__instrn_buffer), "i"(SFPLOADI));
    return d;
  }
  if (bits == 0) return fixed(kZero);
  if (bits == 0x3f800000) return fixed(kOne);
  if (bits == 0xbf800000) return fixed(kMinusOne);
  Expression v;
  v.constant = bits;
  v.kind = Expression::immediate;
  return v;
}
// A float of 16 bits: 1, 5 and 10 (mode 1), or bfloat16 (mode 0).
SFPU_INLINE Expression half_constant(uint16_t bits, unsigned mode) {
  if (mode == 0) return constant(uint32_t(bits) << 16);
  Register d;
  if (__builtin_constant_p(bits)) {
    asm volatile("sfp_memory %3,L_%0,%1,%2" : "=f"(d.r) : "i"(mode), "i"(bits), "i"(SFPLOADI));
  } else {
    unsigned scratch;
    asm volatile("sfp_at_run_time %2,%1,%3,(%5<<24)|(L_%0<<20)|(%4<<16)"
                 : "=f"(d.r), "=&r"(scratch)
                 : "r"(unsigned(bits)), "r"(__instrn_buffer), "i"(mode), "i"(SFPLOADI));
  }
  return d;
}

// The rows of Dst, from `address` on.
SFPU_INLINE Expression load(int address, unsigned format, unsigned address_mode) {
  Register d;
  if (__builtin_constant_p(address)) {
    asm volatile("sfp_memory %3,L_%0,%1,%2" : "=f"(d.r) : "i"(format), "i"((address_mode << 14) | (address & 0x3fff)), "i"(SFPLOAD));
  } else {
    unsigned scratch;
    asm volatile("sfp_at_run_time %2,%1,%3,(%6<<24)|(L_%0<<20)|(%4<<16)|(%5<<14)"
                 : "=f"(d.r), "=&r"(scratch)
                 : "r"(unsigned(address) & 0x3fff), "r"(__instrn_buffer), "i"(format), "i"(address_mode), "i"(SFPLOAD));
  }
  return d;
}
SFPU_INLINE void store(Register v, int address, unsigned format, unsigned address_mode) {
  if (__builtin_constant_p(address)) {
    asm volatile("sfp_memory %3,L_%0,%1,%2" : : "f"(v.r), "i"(format), "i"((address_mode << 14) | (address & 0x3fff)), "i"(SFPSTORE));
  } else {
    unsigned scratch;
    asm volatile("sfp_at_run_time %2,%0,%3,(%6<<24)|(L_%1<<20)|(%4<<16)|(%5<<14)"
                 : "=&r"(scratch)
                 : "f"(v.r), "r"(unsigned(address) & 0x3fff), "r"(__instrn_buffer), "i"(format), "i"(address_mode), "i"(SFPSTORE));
  }
}

// Arithmetic of floats. Not volatile, since a product may turn out not to be needed: lane_flags keeps it between the changes of lanes.
#define SFPU_MAD(A, B, C, ...) asm("sfp_mad %4," A "," B "," C ",L_%0,0" : "=f"(d.r) : __VA_ARGS__, "i"(SFPMAD), "r"(lane_flags))
#define SFPU_MAD_INTO(A, B, C, ...) \
  asm volatile("sfp_mad %4," A "," B "," C ",L_%0,0" : "+f"(d.r) : __VA_ARGS__, "i"(SFPMAD), "r"(lane_flags))
#define SFPU_BY_OPERANDS(EMIT)                                          \
  if (v.fixed_f && v.fixed_h)                                           \
    EMIT("%1", "L_%2", "%3", "i"(v.fixed_f), "f"(v.g), "i"(v.fixed_h)); \
  else if (v.fixed_f)                                                   \
    EMIT("%1", "L_%2", "L_%3", "i"(v.fixed_f), "f"(v.g), "f"(v.h));     \
  else if (v.fixed_h)                                                   \
    EMIT("L_%1", "L_%2", "%3", "f"(v.f), "f"(v.g), "i"(v.fixed_h));     \
  else                                                                  \
    EMIT("L_%1", "L_%2", "L_%3", "f"(v.f), "f"(v.g), "f"(v.h));
SFPU_INLINE Register compute_product_sum(const Expression& v) {
  Register d;
  SFPU_BY_OPERANDS(SFPU_MAD)
  return d;
}
SFPU_INLINE Register compute_product_sum_into(Register d, const Expression& v) {  // in the lanes that are on
  SFPU_BY_OPERANDS(SFPU_MAD_INTO)
  return d;
}
#undef SFPU_MAD
#undef SFPU_MAD_INTO
#undef SFPU_BY_OPERANDS

SFPU_INLINE void swap(Expression& a, Expression& b) {
  const Expression c = a;
  a = b;
  b = c;
}

SFPU_INLINE Expression multiply_add(Expression a, Expression b, Expression c) {
  if (!a.is_fixed() && b.is_fixed()) swap(a, b);
  Expression v;
  v.g = Register(b).r;
  v.f = a.is_fixed() ? v.g : Register(a).r;
  v.h = c.is_fixed() ? v.g : Register(c).r;
  v.fixed_f = a.is_fixed() ? a.kind : 0;
  v.fixed_h = c.is_fixed() ? c.kind : 0;
  v.r = compute_product_sum(v).r;
  v.kind = Expression::product_sum;
  return v;
}

SFPU_INLINE Expression multiply(Expression a, Expression b) {
  if (!a.is_fixed() && b.is_fixed()) swap(a, b);
  Expression v;
  v.g = Register(b).r;
  v.kind = Expression::product;
  if (a.is_fixed()) {
    v.fixed_f = a.kind;
    v.f = v.g;
    asm("sfp_mad %4,%1,L_%2,%3,L_%0,0" : "=f"(v.r) : "i"(v.fixed_f), "f"(v.g), "i"(kZero), "i"(SFPMUL), "r"(lane_flags));
  } else {
    v.fixed_f = 0;
    v.f = Register(a).r;
    asm("sfp_mad %4,L_%1,L_%2,%3,L_%0,0" : "=f"(v.r) : "f"(v.f), "f"(v.g), "i"(kZero), "i"(SFPMUL), "r"(lane_flags));
  }
  return v;
}

SFPU_INLINE Expression add(Expression a, Expression b) {
  if (a.kind != Expression::product && b.kind == Expression::product) swap(a, b);
  if (a.kind != Expression::product) return multiply_add(fixed(kOne), a, b);
  Expression f = Register{a.f};
  if (a.fixed_f) f = fixed(a.fixed_f);
  return multiply_add(f, Register{a.g}, b);
}

SFPU_INLINE Register subtract(Register a, Register b) {
  Register d;
  asm volatile("sfp_mad %4,L_%2,%3,L_%1,L_%0,0" : "=f"(d.r) : "f"(a.r), "f"(b.r), "i"(kMinusOne), "i"(SFPMAD), "r"(lane_flags));
  return d;
}

// The lanes that are on.
SFPU_INLINE void set_lanes(Register v, unsigned mode){
    SFPU_CHANGES_LANES("sfp_unary %2,0,L_%1,0,%3", : "f"(v.r), "i"(SFPSETCC), "i"(mode))} SFPU_INLINE void push_lanes() {
  SFPU_CHANGES_LANES("sfp_unary %1,0,0,0,0", : "i"(SFPPUSHC))
  depth += 1;
}
SFPU_INLINE void pop_lanes() {
  SFPU_CHANGES_LANES("sfp_unary %1,0,0,0,0", : "i"(SFPPOPC))
  depth -= 1;
}
SFPU_INLINE void complement_lanes(){SFPU_CHANGES_LANES("sfp_unary %1,0,0,0,0", : "i"(SFPCOMPC))}

// What a variable that held `old` holds when `in` is assigned to it in the lanes that are on.
SFPU_INLINE Expression assigned(Expression old, Expression in) {
  if (old.kind == Expression::unassigned || old.level == depth) {  // nobody wants the lanes that are off
    if (in.kind == Expression::in_register) in = Register(in);
    in.level = old.level;
    return in;
  }
  Register d;
  if (old.kind == Expression::immediate) {  // it is wanted in the lanes that are off, too
    SFPU_CHANGES_LANES("sfp_unary %1,0,0,0,0\n\tsfp_unary %2,3,0,0,10", : "i"(SFPPUSHC), "i"(SFPENCC))
    d = load_constant(old.constant);
    SFPU_CHANGES_LANES("sfp_unary %1,0,0,0,0", : "i"(SFPPOPC))
  } else {
    d = old;
  }
  const bool computed = in.kind == Expression::product || in.kind == Expression::product_sum;
  if (computed && in.level != depth) in.kind = Expression::in_register;  // its factors need not live so long
  if (in.kind == Expression::product && in.fixed_f) {
    asm volatile("sfp_mad %4,%1,L_%2,%3,L_%0,0" : "+f"(d.r) : "i"(in.fixed_f), "f"(in.g), "i"(kZero), "i"(SFPMUL), "r"(lane_flags));
  } else if (in.kind == Expression::product) {
    asm volatile("sfp_mad %4,L_%1,L_%2,%3,L_%0,0" : "+f"(d.r) : "f"(in.f), "f"(in.g), "i"(kZero), "i"(SFPMUL), "r"(lane_flags));
  } else if (in.kind == Expression::product_sum) {
    d = compute_product_sum_into(d, in);
  } else if (in.kind == Expression::in_register) {
    asm volatile("sfp_unary %2,0,L_%1,L_%0,0" : "+f"(d.r) : "f"(in.r), "i"(SFPMOV), "r"(lane_flags));
  } else if (in.kind == Expression::immediate) {
    d = load_constant_into(d, in.constant);
  } else if (in.is_fixed()) {
    asm volatile("sfp_unary %2,0,%1,L_%0,0" : "+f"(d.r) : "i"(in.kind), "i"(SFPMOV));
  }
  Expression v = d;
  v.level = old.level;
  return v;
}

// Bits, integers and the parts of a float.
SFPU_INLINE Expression negate(Register a) { return unary<SFPMOV>(a, 1); }
SFPU_INLINE Expression absolute(Register a, bool is_float) { return unary<SFPABS>(a, is_float); }
SFPU_INLINE Expression bit_and(Register a, Register b) { return binary<SFPAND>(a, b, 0); }
SFPU_INLINE Expression bit_or(Register a, Register b) { return binary<SFPOR>(a, b, 0); }
SFPU_INLINE Expression bit_xor(Register a, Register b) { return binary<SFPXOR>(a, b, 0); }
SFPU_INLINE Expression bit_not(Register a) { return unary<SFPNOT>(a, 0); }
SFPU_INLINE Expression leading_zeros(Register a) { return unary<SFPLZ>(a, 0); }
SFPU_INLINE Expression exponent(Register a, bool biased) { return unary<SFPEXEXP>(a, biased); }
SFPU_INLINE Expression mantissa(Register a, bool without_the_one) { return unary<SFPEXMAN>(a, without_the_one); }
// Mode 0 takes the exponent from the other's lowest bits, mode 2 from where a float has it.
SFPU_INLINE Expression set_exponent(Register v, Register e, unsigned mode) { return binary<SFPSETEXP>(e, v, mode); }
SFPU_INLINE Expression set_exponent(Register v, int e) { return with_immediate<SFPSETEXP>(v, e, 1); }
SFPU_INLINE Expression set_mantissa(Register v, Register m) { return binary<SFPSETMAN>(m, v, 0); }
SFPU_INLINE Expression set_mantissa(Register v, uint32_t m) { return set_mantissa(v, Register(constant(m))); }  // 12 bits are too few
SFPU_INLINE Expression set_sign(Register v, Register s) { return binary<SFPSETSGN>(s, v, 0); }
SFPU_INLINE Expression set_sign(Register v, int s) { return with_immediate<SFPSETSGN>(v, s, 1); }
SFPU_INLINE Expression add_to_exponent(Register v, int n) { return with_immediate<SFPDIVP2>(v, n, 1); }
// No mode of the integers' changes the lanes (4).
SFPU_INLINE Expression add_integers(Register a, Register b) { return binary<SFPIADD>(a, b, 4); }
SFPU_INLINE Expression subtract_integers(Register a, Register b) { return binary<SFPIADD>(b, a, 4 | 2); }
SFPU_INLINE Expression add_integer(Register v, int n) {
  if (__builtin_constant_p(n) && n >= -2048 && n < 2048) return with_immediate<SFPIADD>(v, n, 4 | 1);
  return add_integers(constant(n), v);
}
// To the left; to the right by negative numbers.
SFPU_INLINE Expression shift(Register v, Register n) { return binary<SFPSHFT>(v, n, 0); }
SFPU_INLINE Expression shift(Register v, int n) { return with_immediate_in_place<SFPSHFT>(v, n, 1); }
SFPU_INLINE Expression integer_to_float(Register a, unsigned rounding) { return unary<SFPCAST>(a, rounding); }
SFPU_INLINE Expression round_to(Register v, unsigned format, unsigned rounding) {
  Register d;
  asm volatile("sfp_unary %2,(%3<<9),L_%1,L_%0,%4" : "=f"(d.r) : "f"(v.r), "i"(SFP_STOCH_RND), "i"(rounding), "i"(format));
  return d;
}

struct Two {
  Register a, b;
};
// Mode 1: the smaller of each lane first.
SFPU_INLINE Two exchange(Register a, Register b, unsigned mode) {
  asm volatile("sfp_unary %2,0,L_%1,L_%0,%3\n\t.ttinsn %4" : "+f"(a.r), "+f"(b.r) : "i"(SFPSWAP), "i"(mode), "i"(SFPNOP << 24));
  return {a, b};
}

// Tables of a line's slope and intercept in each of 3 or 6 pieces: their registers are fixed.
SFPU_INLINE Expression table_of_3(Register a, Register b, Register c, Register x, unsigned mode) {
  register float r0 asm("ft0") = a.r;
  register float r1 asm("ft1") = b.r;
  register float r2 asm("ft2") = c.r;
  register float r3 asm("ft3") = x.r;
  Register d;
  asm volatile("sfp_memory %5,L_%0,%6,0\n\t.ttinsn %7"
               : "=f"(d.r)
               : "f"(r0), "f"(r1), "f"(r2), "f"(r3), "i"(SFPLUT), "i"(mode), "i"(SFPNOP << 24));
  return d;
}
SFPU_INLINE Expression table_of_6(Register a0, Register a1, Register a2, Register b0, Register b1, Register b2, Register x, unsigned mode) {
  register float r0 asm("ft0") = a0.r;
  register float r1 asm("ft1") = a1.r;
  register float r2 asm("ft2") = a2.r;
  register float r3 asm("ft3") = x.r;
  register float r4 asm("ft4") = b0.r;
  register float r5 asm("ft5") = b1.r;
  register float r6 asm("ft6") = b2.r;
  Register d;
  asm volatile("sfp_unary %8,0,0,L_%0,%9\n\t.ttinsn %10"
               : "=f"(d.r)
               : "f"(r0), "f"(r1), "f"(r2), "f"(r3), "f"(r4), "f"(r5), "f"(r6), "i"(SFPLUTFP32), "i"(mode), "i"(SFPNOP << 24));
  return d;
}

// Conditions: up to four comparisons of which all hold, or any. Nothing is emitted before one is used.
enum Comparison : unsigned char { less, greater_equal, equal, not_equal, greater, less_equal };
enum Compared : unsigned char { unsigned_integers, integers, floats };
struct Compare {
  float a, b;
  uint32_t constant;
  Comparison comparison;
  Compared type;
  bool with_register;  // b, else the constant
};
struct Condition {
  Compare part[4];
  int parts;
  bool any;
};

constexpr SFPU_INLINE Comparison opposite(Comparison c) {
  switch (c) {
    case less:
      return greater_equal;
    case greater_equal:
      return less;
    case equal:
      return not_equal;
    case not_equal:
      return equal;
    case greater:
      return less_equal;
    default:
      return greater;
  }
}

// Leaves on, of the lanes that are on, those where it holds: by the sign of a difference, or by its being zero.
SFPU_INLINE void keep_lanes(const Compare& compare) {
  Comparison c = compare.comparison;
  const Register a{compare.a}, b{compare.b};
  Register tested;
  if (compare.type == floats) {
    if (!compare.with_register && (compare.constant << 1) == 0 && c <= not_equal) {
      tested = a;
    } else {
      const Register other = compare.with_register ? b : Register(constant(compare.constant));
      tested = c == greater || c == less_equal ? subtract(other, a) : subtract(a, other);
    }
  } else if (compare.with_register) {
    tested = c == greater || c == less_equal ? subtract_integers(b, a) : subtract_integers(a, b);
  } else {
    int n = int(compare.constant);
    if (c == greater || c == less_equal) {
      n += 1;
      c = c == greater ? greater_equal : less;
    }
    tested = __builtin_constant_p(n) && n == 0 ? a : Register(add_integer(a, -n));
  }
  if (c == less || c == greater) {
    set_lanes(tested, 0);
  } else if (c == not_equal) {
    set_lanes(tested, 2);
  } else if (c == greater_equal || c == less_equal) {
    set_lanes(tested, 4);
  } else {
    set_lanes(tested, 6);
  }
}
SFPU_INLINE void keep_lanes_of_all(const Condition& c) {
  keep_lanes(c.part[0]);
  if (c.parts > 1) keep_lanes(c.part[1]);
  if (c.parts > 2) keep_lanes(c.part[2]);
  if (c.parts > 3) keep_lanes(c.part[3]);
}
SFPU_INLINE Condition negated(Condition c) {
  c.part[0].comparison = opposite(c.part[0].comparison);
  c.part[1].comparison = opposite(c.part[1].comparison);
  c.part[2].comparison = opposite(c.part[2].comparison);
  c.part[3].comparison = opposite(c.part[3].comparison);
  c.any = !c.any;
  return c;
}
SFPU_INLINE Register as_value(const Condition& c) {  // 1 in the lanes where it holds, else 0
  Register v = constant(0);
  push_lanes();
  if (c.any && c.parts > 1) {
    keep_lanes_of_all(negated(c));
    complement_lanes();
  } else {
    keep_lanes_of_all(c);
  }
  asm volatile("sfp_memory %1,L_%0,2,1" : "+f"(v.r) : "i"(SFPLOADI));
  pop_lanes();
  return v;
}
SFPU_INLINE Condition condition(const Compare& c) { return {{c, c, c, c}, 1, false}; }
SFPU_INLINE Condition is_set(Register v) { return condition({v.r, v.r, 0, not_equal, integers, false}); }
SFPU_INLINE Condition compare(Register a, uint32_t constant, Comparison c, Compared type) {
  return condition({a.r, a.r, constant, c, type, false});
}
SFPU_INLINE Condition compare(Register a, Register b, Comparison c, Compared type) { return condition({a.r, b.r, 0, c, type, true}); }
SFPU_INLINE Condition joined(Condition a, Condition b, bool any) {
  if (a.parts > 1 && a.any != any) a = is_set(as_value(a));
  if (b.parts > 1 && b.any != any) b = is_set(as_value(b));
  Condition c = a;
  c.any = any;
  if (a.parts == 1) {
    c.part[1] = b.part[0];
    c.part[2] = b.part[1];
    c.part[3] = b.part[2];
  } else if (a.parts == 2) {
    c.part[2] = b.part[0];
    c.part[3] = b.part[1];
  } else {
    c.part[3] = b.part[0];
  }
  c.parts = a.parts + b.parts;
  return c;
}
SFPU_INLINE void keep_lanes(const Condition& c) {
  if (c.parts == 1 || !c.any)
    keep_lanes_of_all(c);
  else
    set_lanes(as_value(c), 2);
}

// The rest of Tensix.
SFPU_INLINE void advance_dst(int rows) {
  if (__builtin_constant_p(rows))
    asm volatile(".ttinsn %0" : : "i"((INCRWC << 24) + (rows << 14)));
  else
    __instrn_buffer[0] = (INCRWC << 24) + (rows << 14);
}
constexpr SFPU_INLINE uint32_t replay_word(unsigned start, unsigned length, bool execute, bool record) {
  return (REPLAY << 24) + (start << 14) + (length << 4) + (unsigned(execute) << 1) + unsigned(record);
}
SFPU_INLINE void replay(unsigned start, unsigned length, bool execute, bool record) {
  if (__builtin_constant_p(length) && __builtin_constant_p(start))
    asm volatile(".ttinsn %0" : : "i"(replay_word(start, length, execute, record)));
  else
    __instrn_buffer[0] = replay_word(start, length, execute, record);
}

}  // namespace vector_unit

// Of the compiler's own names, the two that the wheel's kernels for Wormhole use.
SFPU_INLINE vector_unit::Expression __builtin_rvtt_sfpmad(vector_unit::Expression a, vector_unit::Expression b, vector_unit::Expression c,
                                                          unsigned) {
  return vector_unit::multiply_add(a, b, c);
}
SFPU_INLINE void __builtin_rvtt_ttreplay(volatile uint32_t*, unsigned length, int, int, unsigned start, bool execute, bool record) {
  vector_unit::replay(start, length, execute, record);
}
