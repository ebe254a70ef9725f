// A first byte chooses the kind of form; the rest is its text. What is no refusal can be closed, and a schema that is not refused where it
// is strict is not refused where it is not.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "grammar/schema_caps.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tessera::GrammarSource;
  if (size == 0) return 0;
  const auto kind = static_cast<GrammarSource::Kind>(data[0] % (static_cast<int>(GrammarSource::Kind::structural_tag) + 1));
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool is_refused = tessera::refusal({kind, text, true}).has_value();
  if (!is_refused && tessera::refusal({kind, text, false})) std::abort();
  if (kind != GrammarSource::Kind::json_schema || is_refused) return 0;
  const std::string closed = tessera::closed_schema(text);
  if (tessera::closed_schema(closed) != closed || tessera::unenforced(closed)) std::abort();
  return 0;
}
