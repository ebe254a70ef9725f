// Tokenizers from a tokenizer.json, or from what the last loading of it left behind.
#include "core/digest.h"
#include "core/error.h"
#include "core/json.h"
#include "core/kept_file.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"

namespace tessera {
namespace {

constexpr size_t kLeastKeptBytes = size_t{1} << 20;        // of a tokenizer.json: less is read in no time
constexpr size_t kMostKeptBytes = size_t{512} << 20;       // of a file of tables
constexpr std::string_view kKeptVersion = "tokenizer 1 ";  // changes with the tables, and with what a vocabulary or merges are refused for
constexpr const char* kRest = "rest";

JsonDocument read(std::string_view json, const std::string& source) {
  return parse_json(json, source, {.max_bytes = Tokenizer::kLargestFile});
}

// The fields of an object that has been read without an error: their names are plain.
template <class Value>
std::string json_of(JsonObject object, const Value& value) {
  std::string json;
  for (const auto field : object) {
    const std::string text = value(field.key, field.value);
    if (!text.empty()) json += message(json.empty() ? "" : ",", '"', field.key, "\":", text);
  }
  return "{" + json + "}";
}

// The JSON without the model's vocabulary and merges.
std::string rest_of(JsonValue root) {
  const auto outside_tables = [](std::string_view key, JsonValue value) {
    return key == "vocab" || key == "merges" ? std::string() : std::string(simdjson::minify(value));
  };
  return json_of(root, [&](std::string_view key, JsonValue value) {
    return key == "model" ? json_of(value, outside_tables) : std::string(simdjson::minify(value));
  });
}

}  // namespace

std::unique_ptr<const Tokenizer::Parts> Tokenizer::Parts::restore(const std::string& path, const std::string& identity) {
  if (!is_there(path)) return nullptr;
  const std::string bytes = read_file(path, kMostKeptBytes);
  const auto file = KeptFile::read(std::as_bytes(std::span(bytes)), identity);
  const auto rest = file ? file->find(kRest) : std::nullopt;
  if (!rest) return nullptr;
  const JsonDocument document = read({reinterpret_cast<const char*>(rest->data()), rest->size()}, path);
  const text::Fields root(document.root(), path, ": ");
  auto bpe = text::Bpe::restore(root.object("model"), *file);
  return bpe ? std::make_unique<const Parts>(root, std::move(*bpe)) : nullptr;
}

void Tokenizer::Parts::keep(const std::string& path, const std::string& identity, const std::string& rest) const {
  KeptFileWriter file(path, identity, kMostKeptBytes);
  text::keep_values(file, kRest, std::span<const char>(rest));
  model.keep(file);
  file.finish();
}

Tokenizer Tokenizer::load(const std::string& path, const std::optional<std::filesystem::path>& folder) {
  const std::string json = read_file(path, kLargestFile);
  if (!folder || json.size() < kLeastKeptBytes) return parse(json, path);
  const std::string identity = std::string(kKeptVersion) + digest(json);
  const std::string kept = kept_path(*folder, path, "", ".tokenizer");
  std::unique_ptr<const Parts> parts;
  succeeds([&] { parts = Parts::restore(kept, identity); });
  if (parts) return Tokenizer(std::move(parts));
  const JsonDocument document = read(json, path);
  parts = std::make_unique<const Parts>(text::Fields(document.root(), path, ": "));
  succeeds([&] { parts->keep(kept, identity, rest_of(document.root())); });
  return Tokenizer(std::move(parts));
}

Tokenizer Tokenizer::parse(std::string_view json, const std::string& source) {
  const JsonDocument document = read(json, source);
  return Tokenizer(std::make_unique<const Parts>(text::Fields(document.root(), source, ": ")));
}

}  // namespace tessera
