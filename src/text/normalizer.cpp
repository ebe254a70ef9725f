#include "text/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "text/utf8.h"

namespace tessera::text {
namespace {

constexpr int kDeepest = 8;
constexpr size_t kMostSteps = 64;

std::string mapped(std::string_view text, int options) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t bytes = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                              static_cast<utf8proc_ssize_t>(text.size()), &result, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(result, std::free);
  check<ResourceError>(bytes >= 0, "tokenizer: a text of ", text.size(), " bytes cannot be normalized: ", utf8proc_errmsg(bytes));
  return {reinterpret_cast<const char*>(result), static_cast<size_t>(bytes)};
}

std::string lowercased(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Character character = first_character(text.substr(at));
    // U+0130 is the one character whose lower case is two: i and a dot above.
    if (character.code_point == 0x130) {
      out += "i\xCC\x87";
    } else {
      append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(character.code_point))));
    }
    at += character.bytes;
  }
  return out;
}

std::string_view stripped(std::string_view text, bool left, bool right) {
  size_t begin = 0;
  while (left && begin < text.size()) {
    const Utf8Character character = first_character(text.substr(begin));
    if (!is_white_space(character.code_point)) break;
    begin += character.bytes;
  }
  size_t end = text.size();
  while (right && end > begin) {
    size_t last = end - 1;
    while ((static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) --last;
    if (!is_white_space(first_character(text.substr(last)).code_point)) break;
    end = last;
  }
  return text.substr(begin, end - begin);
}

}  // namespace

void Normalizer::add(const Fields& fields, int depth) {
  const std::string_view type = fields.text("type");
  if (type == "Sequence") {
    fields.allow({"normalizers"});
    if (depth == kDeepest) fields.refuse("normalizers", "are nested more than ", kDeepest, " levels deep");
    fields.each_object("normalizers", kMostSteps, [&](const Fields& part) { add(part, depth + 1); });
  } else if (type == "Replace") {
    fields.allow({"pattern", "content"});
    steps_.push_back(Replace{Pattern(fields, "pattern"), std::string(fields.text("content", kLongestLiteral))});
  } else if (type == "Prepend") {
    fields.allow({"prepend"});
    steps_.push_back(Prepend{std::string(fields.text("prepend", kLongestLiteral))});
  } else if (type == "Lowercase") {
    fields.allow({});
    steps_.push_back(Lowercase{});
  } else if (type == "Strip") {
    fields.allow({"strip_left", "strip_right"});
    steps_.push_back(Strip{fields.flag("strip_left"), fields.flag("strip_right")});
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    fields.allow({});
    const int form = type.ends_with('C') ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    steps_.push_back(Unicode{UTF8PROC_STABLE | form | (type.size() == 4 ? UTF8PROC_COMPAT : 0)});
  } else {
    fields.refuse("type", "the normalizer ", quoted(type), " is not supported");
  }
  if (steps_.size() > kMostSteps) fields.refuse("type", "there are more than ", kMostSteps, " normalizers");
}

std::string Normalizer::apply(const Step& step, std::string text) {
  if (const auto* replace = std::get_if<Replace>(&step)) return replace->pattern.replaced(text, replace->content);
  if (const auto* prepend = std::get_if<Prepend>(&step)) return text.empty() ? text : prepend->text + text;
  if (const auto* unicode = std::get_if<Unicode>(&step)) return mapped(text, unicode->options);
  if (const auto* strip = std::get_if<Strip>(&step)) return std::string(stripped(text, strip->left, strip->right));
  return lowercased(text);
}

std::string Normalizer::operator()(std::string_view text) const {
  std::string out(text);
  for (const Step& step : steps_) out = apply(step, std::move(out));
  return out;
}

}  // namespace tessera::text
