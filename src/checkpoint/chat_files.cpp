// Checkpoint::chat_files.
#include <algorithm>
#include <map>

#include "checkpoint/checkpoint.h"
#include "core/error.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMostTemplateBytes = size_t{1} << 20, kMostTemplates = 100;
constexpr std::string_view kField = "chat_template", kDefault = "default";

using Templates = std::map<std::string, ChatFiles::Template>;  // by name

Templates in_files(const fs::path& directory) {
  Templates found;
  const auto add = [&](const std::string& name, const std::string& file) {
    check<FileError>(found.size() < kMostTemplates, directory.string(), ": holds more than ", kMostTemplates, " chat templates");
    found[name] = {read_file((directory / file).string(), kMostTemplateBytes), file};
  };
  if (is_there(directory / "chat_template.jinja")) add(std::string(kDefault), "chat_template.jinja");
  const fs::path more = "additional_chat_templates";
  std::error_code absent;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory / more, absent))
    if (entry.path().extension() == ".jinja") add(entry.path().stem().string(), (more / entry.path().filename()).string());
  return found;
}

// Of a document that has "chat_template": text, or a list of named ones.
Templates in_field(const ConfigReader& reader, const std::string& file) {
  Templates found;
  if (reader.is_list(kField)) {
    for (const ConfigReader& named : reader.objects(kField, kMostTemplates)) found[named.text("name")].text = named.text("template");
  } else if (std::optional<std::string> text = reader.optional_text(kField)) {
    found[std::string(kDefault)].text = std::move(*text);
  }
  for (auto& [name, held] : found) {
    held.place = message(file, ": ", kField, found.size() > 1 ? " " + name : "");
    check<FileError>(held.text.size() <= kMostTemplateBytes, reader.where(kField), " has ", held.text.size(), " bytes; at most ",
                     kMostTemplateBytes, " are read");
  }
  return found;
}

void read_special_tokens(const ConfigReader& reader, ChatFiles& files) {
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const bool is_text = reader.is_text(name);
    if (!is_text && !reader.is_object(name)) continue;
    std::erase_if(files.special_tokens, [&](const auto& token) { return token.first == name; });
    files.special_tokens.emplace_back(name, is_text ? reader.text(name) : reader.object(name)->text("content"));
  }
}

}  // namespace

ChatFiles Checkpoint::chat_files(Tools tools) const {
  ChatFiles files;
  Templates found = in_files(directory_);
  bool has_decoder = false;
  const auto read = [&](const char* name, const auto& use) {
    const std::string path = (directory_ / name).string();
    if (!is_there(path)) return;
    const JsonDocument document = read_json(path);
    use(ConfigReader(document.root(), path));
  };
  read("tokenizer_config.json", [&](const ConfigReader& reader) {
    if (found.empty()) found = in_field(reader, "tokenizer_config.json");
    read_special_tokens(reader, files);
    has_decoder = reader.is_set("added_tokens_decoder");
  });
  if (!has_decoder) read("special_tokens_map.json", [&](const ConfigReader& reader) { read_special_tokens(reader, files); });
  if (found.empty()) read("chat_template.json", [&](const ConfigReader& reader) { found = in_field(reader, "chat_template.json"); });
  if (found.empty()) return files;

  for (const std::string_view name : {tools == Tools::given ? std::string_view("tool_use") : kDefault, kDefault})
    if (const auto wanted = found.find(std::string(name)); wanted != found.end()) {
      files.chat_template = std::move(wanted->second);
      return files;
    }
  std::string names;
  for (const auto& [name, held] : found) names += (names.empty() ? "" : ", ") + name;
  fail<FileError>(directory_.string(), ": has the chat templates ", printable(names), ", and none of them is named \"default\"");
}

}  // namespace tessera
