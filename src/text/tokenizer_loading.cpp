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

// What stands in place of a tokenizer.json's own parts.
struct Rebuilt {
  std::string pre_tokenizer, decoder;  // JSON; there is no normalizer
};

// The model_type of the config.json beside a tokenizer.json.
std::string model_type_beside(const std::filesystem::path& path) {
  const std::string name = (path.parent_path() / "config.json").string();
  if (!is_there(name)) return "";
  const JsonDocument document = read_json(name);
  const text::Fields config(document.root(), name, ": ");
  return config.find("model_type") ? std::string(config.text("model_type")) : "";
}

// AutoTokenizer takes transformers' class LlamaTokenizer for a "llama" whose tokenizer_config.json names it, unless the file is of the
// ByteLevel kind; the class uses the file's vocabulary, merges, added tokens and post-processor, and builds the rest itself. Nothing where
// it uses the file as it stands.
std::optional<Rebuilt> rebuilt_by_transformers(const std::filesystem::path& path, std::string_view json, const std::string& model_type) {
  const std::string name = (path.parent_path() / "tokenizer_config.json").string();
  if (model_type != "llama" || !is_there(name) || json.find("\"ByteLevel\"") != std::string_view::npos) return std::nullopt;
  const JsonDocument document = read_json(name);
  const text::Fields own(document.root(), name, ": ");
  const std::string_view tokenizer_class = own.find("tokenizer_class") ? own.text("tokenizer_class") : "";
  if ((tokenizer_class != "LlamaTokenizer" && tokenizer_class != "LlamaTokenizerFast") || own.find("auto_map")) return std::nullopt;
  const bool adds_space = own.flag("add_prefix_space", true);
  const char* const scheme = !adds_space ? "never" : own.flag("legacy", false) ? "always" : "first";
  return Rebuilt{
      message(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":")", scheme, R"(","split":false})"),
      message(R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},)",
              R"({"type":"Fuse"})", adds_space ? R"(,{"type":"Strip","content":" ","start":1,"stop":0})" : "", "]}")};
}

// The JSON without the model's vocabulary and merges, and with what is rebuilt.
std::string rest_of(JsonValue root, const std::optional<Rebuilt>& rebuilt) {
  const auto outside_tables = [](std::string_view key, JsonValue value) {
    return key == "vocab" || key == "merges" ? std::string() : std::string(simdjson::minify(value));
  };
  std::string rest = json_of(root, [&](std::string_view key, JsonValue value) {
    if (rebuilt && (key == "normalizer" || key == "pre_tokenizer" || key == "decoder")) return std::string();
    return key == "model" ? json_of(value, outside_tables) : std::string(simdjson::minify(value));
  });
  if (!rebuilt) return rest;
  rest.pop_back();  // the brace: before it there is a model at least
  return message(rest, R"(,"pre_tokenizer":)", rebuilt->pre_tokenizer, R"(,"decoder":)", rebuilt->decoder, '}');
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

Tokenizer Tokenizer::load(const std::string& path, const std::optional<std::filesystem::path>& folder,
                          const std::optional<std::string>& model_type) {
  const std::string json = read_file(path, kLargestFile);
  const std::optional<Rebuilt> rebuilt = rebuilt_by_transformers(path, json, model_type ? *model_type : model_type_beside(path));
  const bool keeps = folder && json.size() >= kLeastKeptBytes;
  const std::string identity = message(kKeptVersion, digest(json), rebuilt ? rebuilt->pre_tokenizer : "");
  const std::string kept = keeps ? kept_path(*folder, path, "", ".tokenizer") : "";
  std::unique_ptr<const Parts> parts;
  if (keeps) succeeds([&] { parts = Parts::restore(kept, identity); });
  if (parts) return Tokenizer(std::move(parts));
  const JsonDocument document = read(json, path);
  const text::Fields root(document.root(), path, ": ");
  if (!rebuilt && !keeps) return Tokenizer(std::make_unique<const Parts>(root));
  text::Bpe bpe(root.object("model"));
  const std::string rest = rest_of(document.root(), rebuilt);
  if (rebuilt) {
    const JsonDocument changed = read(rest, path);
    parts = std::make_unique<const Parts>(text::Fields(changed.root(), path, ": "), std::move(bpe));
  } else {
    parts = std::make_unique<const Parts>(root, std::move(bpe));
  }
  if (keeps) succeeds([&] { parts->keep(kept, identity, rest); });
  return Tokenizer(std::move(parts));
}

Tokenizer Tokenizer::parse(std::string_view json, const std::string& source) {
  const JsonDocument document = read(json, source);
  return Tokenizer(std::make_unique<const Parts>(text::Fields(document.root(), source, ": ")));
}

}  // namespace tessera
