// The input is taken for a config.json and for a generation_config.json.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string_view>

#include "checkpoint/config.h"
#include "checkpoint/generation_config.h"
#include "checkpoint/rope_config.h"
#include "core/error.h"

namespace {

void expect(bool ok) {
  if (!ok) std::abort();
}

void attempt(const std::function<void()>& read) {
  try {
    read();
  } catch (const tessera::FileError&) {
  }
}

void expect_sound(const tessera::LinearRope& rope) {
  expect(std::isfinite(rope.theta) && rope.theta >= 1.0 && std::isfinite(1.0 / rope.factor));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  attempt([&] {
    const JsonDocument document = parse_json({reinterpret_cast<const char*>(data), size}, "config.json");
    const ConfigReader config(document.root(), "config.json");
    const ConfigReader text = config.object("text_config").value_or(config);
    attempt([&] {
      const Gemma3Rope rope = read_gemma3_rope(text);
      expect_sound(rope.full);
      expect_sound(rope.sliding);
    });
    attempt([&] {
      const Phi3Rope rope = read_phi3_rope(text, 8, 131072);
      expect(rope.rotary_dim % 2 == 0 && rope.rotary_dim >= 2 && rope.rotary_dim <= 8);
      expect(rope.short_factor.size() == rope.long_factor.size() &&
             (rope.short_factor.empty() || rope.short_factor.size() * 2 == static_cast<size_t>(rope.rotary_dim)));
      expect(std::isfinite(rope.attention_factor) && rope.attention_factor > 0.0f);
    });
    attempt([&] {
      const GenerationConfig generation = read_generation_config(config, config, {.eos = {1, 2000}, .bos = 2, .pad = 0}, 1000);
      for (const TokenId id : generation.tokens.eos) expect(id >= 0 && id < 1000);
      expect(generation.temperature >= 0.0 && generation.top_p >= 0.0 && generation.top_p <= 1.0 && generation.top_k >= 0);
    });
    attempt([&] { text.integer("hidden_size", {1, 1 << 20}, 2304); });
    attempt([&] { text.optional_integer("sliding_window", {1, INT64_MAX}); });
    attempt([&] { config.texts("architectures", 10); });
    attempt([&] { config.objects("chat_template", 10); });
    attempt([&] { config.refuse("model_type", "not known"); });
  });
  return 0;
}
