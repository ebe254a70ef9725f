#include "ops/ops.h"

#include "core/error.h"

namespace tessera::ops {
namespace {

void check_hidden(const char* op, const Tensor& x) {
  check(x && x.shape()[0] == 1 && x.shape()[1] == 1, op, ": input ", x.shape(), " is not [1, 1, tokens, width]");
}

void check_heads(const char* op, const Tensor& x, const Step& step) {
  check(x && x.shape()[0] == 1 && x.shape()[2] == step.tokens(), op, ": input ", x.shape(), " is not [1, heads, ", step.tokens(),
        ", head_dim]");
}

void check_gate_up(const char* op, const Tensor& x) {
  check_hidden(op, x);
  check(x.shape()[3] % 2 == 0, op, ": the width of ", x.shape(), " is odd; it joins a gate and an up half");
}

// What an op gave, shown to who observes the device.
Tensor shown(const Observer::Op& op, Tensor output) {
  if (Observer* const observer = output.device().observer()) [[unlikely]]
    observer->see(op, output);
  return output;
}

}  // namespace

Tensor embedding(const Step& step, const Tensor& table) {
  check_hidden("embedding", table);
  return shown({.name = "embedding", .weight = &table}, table.device().embedding(step, table));
}

Tensor linear(const Tensor& x, const Tensor& weight) {
  check_hidden("linear", x);
  check(weight.shape()[3] == x.shape()[3], "linear: weight ", weight.shape(), " does not accept input ", x.shape());
  return shown({.name = "linear", .weight = &weight, .input = &x}, x.device().linear(x, weight));
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, float epsilon) {
  check(weight.shape()[3] == x.shape()[3] || weight.shape()[3] == x.shape()[1] * x.shape()[3], "rms_norm: weight ", weight.shape(),
        " does not accept input ", x.shape());
  return shown({.name = "rms_norm", .weight = &weight, .input = &x}, x.device().rms_norm(x, weight, epsilon));
}

Tensor rotary_embedding(const Tensor& x, const Rotary& rotary, const Step& step) {
  check_heads("rotary_embedding", x, step);
  check(rotary.dim >= 2 && rotary.dim % 2 == 0 && rotary.dim <= x.shape()[3], "rotary_embedding: cannot rotate ", rotary.dim,
        " values of input ", x.shape());
  return shown({.name = "rotary_embedding", .input = &x}, x.device().rotary_embedding(x, rotary, step));
}

QkvHeads nlp_create_qkv_heads(const Tensor& qkv, int64_t num_heads, int64_t num_kv_heads) {
  check_hidden("nlp_create_qkv_heads", qkv);
  check(num_heads > 0 && num_kv_heads > 0 && qkv.shape()[3] % (num_heads + 2 * num_kv_heads) == 0, "nlp_create_qkv_heads: input ",
        qkv.shape(), " does not split into ", num_heads, " + 2 * ", num_kv_heads, " heads");
  const QkvHeads heads = qkv.device().nlp_create_qkv_heads(qkv, num_heads, num_kv_heads);
  const auto part = [&](std::string_view name, const Tensor& output) {
    return shown({.name = "nlp_create_qkv_heads", .input = &qkv, .part = name}, output);
  };
  return {part("q", heads.q), part("k", heads.k), part("v", heads.v)};
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step, const AttentionParams& params) {
  check_heads("attention", q, step);
  check(k.shape() == v.shape() && k.shape()[2] == q.shape()[2] && k.shape()[3] == q.shape()[3] && q.shape()[1] % k.shape()[1] == 0,
        "attention: q ", q.shape(), ", k ", k.shape(), " and v ", v.shape(), " do not belong together");
  check(!params.window || *params.window >= 1, "attention: window ", params.window.value_or(0), " is below 1");
  check(!params.softcap || *params.softcap > 0, "attention: softcap ", params.softcap.value_or(0), " is not positive");
  return shown({.name = "attention", .input = &q}, q.device().attention(q, k, v, step, params));
}

Tensor nlp_concat_heads(const Tensor& x) { return shown({.name = "nlp_concat_heads", .input = &x}, x.device().nlp_concat_heads(x)); }

Tensor gelu_mul(const Tensor& gate_up) {
  check_gate_up("gelu_mul", gate_up);
  return shown({.name = "gelu_mul", .input = &gate_up}, gate_up.device().gelu_mul(gate_up));
}

Tensor silu_mul(const Tensor& gate_up) {
  check_gate_up("silu_mul", gate_up);
  return shown({.name = "silu_mul", .input = &gate_up}, gate_up.device().silu_mul(gate_up));
}

Tensor relu2(const Tensor& x) {
  check_hidden("relu2", x);
  return shown({.name = "relu2", .input = &x}, x.device().relu2(x));
}

Tensor experts(const Tensor& x, const Tensor& router_logits, const Tensor& gate_up, const Tensor& down, const RouterParams& params) {
  check_hidden("experts", x);
  const int64_t count = gate_up.shape()[1], hidden = x.shape()[3];
  check(router_logits.shape() == Shape{1, 1, x.shape()[2], count}, "experts: router logits ", router_logits.shape(), " are not [1, 1, ",
        x.shape()[2], ", ", count, "]");
  check(gate_up.shape()[3] == hidden && down.shape() == Shape{1, count, hidden, gate_up.shape()[2] / 2}, "experts: weights ",
        gate_up.shape(), " and ", down.shape(), " do not accept input ", x.shape());
  check(params.top_k >= 1 && params.top_k <= count, "experts: top_k ", params.top_k, " of ", count);
  return shown({.name = "experts", .weight = &down, .input = &x}, x.device().experts(x, router_logits, gate_up, down, params));
}

Tensor add(const Tensor& a, const Tensor& b) {
  check(a.shape() == b.shape() && a.dtype() == b.dtype(), "add: ", a.shape(), " ", a.dtype(), " and ", b.shape(), " ", b.dtype(),
        " differ");
  return shown({.name = "add", .input = &a}, a.device().add(a, b));
}

Tensor mul(const Tensor& a, float b) { return shown({.name = "mul", .input = &a}, a.device().mul(a, b)); }

Tensor softcap(const Tensor& x, float cap) {
  check(cap > 0, "softcap: cap ", cap, " is not positive");
  return shown({.name = "softcap", .input = &x}, x.device().softcap(x, cap));
}

Tensor select_rows(const Tensor& x, const Step& step) {
  check_hidden("select_rows", x);
  check(x.shape()[2] == step.tokens(), "select_rows: input ", x.shape(), " does not have the step's ", step.tokens(), " rows");
  return shown({.name = "select_rows", .input = &x}, x.device().select_rows(x, step));
}

}  // namespace tessera::ops
