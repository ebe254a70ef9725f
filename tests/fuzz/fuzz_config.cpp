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

void expect_sound(const tessera::Rotary& rotary) {
  expect(rotary.dim % 2 == 0 && rotary.dim >= 2 && rotary.dim <= 8 && std::isfinite(rotary.theta) && rotary.theta >= 1.0);
  expect(rotary.inverse_frequencies.size() * 2 == static_cast<size_t>(rotary.dim));
  expect(rotary.long_inverse_frequencies.empty() || rotary.long_inverse_frequencies.size() == rotary.inverse_frequencies.size());
  for (const float frequency : rotary.inverse_frequencies) expect(std::isfinite(frequency));
  for (const float frequency : rotary.long_inverse_frequencies) expect(std::isfinite(frequency));
  expect(std::isfinite(rotary.attention_factor) && rotary.attention_factor > 0.0f);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  attempt([&] {
    const JsonDocument document = parse_json({reinterpret_cast<const char*>(data), size}, "config.json");
    const ConfigReader config(document.root(), "config.json");
    const ConfigReader text = config.object("text_config").value_or(config);
    const RopeDefaults whole{.head_dim = 8, .max_position_embeddings = 131072},
        part{.head_dim = 8, .max_position_embeddings = 131072, .original_max_position_embeddings = 4096, .rotates_a_part = true};
    attempt([&] { expect_sound(read_rope(text, whole)); });
    attempt([&] { expect_sound(read_rope(text, part)); });
    attempt([&] { expect_sound(read_layer_rope(text, "full_attention", "rope_scaling", "rope_theta", whole)); });
    attempt([&] { expect_sound(read_layer_rope(text, "sliding_attention", "", "rope_local_base_freq", whole)); });
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
